//! Polls what has no notification of changes, such as the guest's memory. A thread of its own does it, so that other work of
//! the host does not delay a read. The delay of each read is recorded, since the host may be busy.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The period of what looks at the memory of a guest.
pub(crate) const PERIOD: Duration = Duration::from_millis(1);

/// Polls until it is dropped.
pub(crate) struct Poller {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    ended: AtomicBool,
    /// The longest delay of a read so far, in microseconds.
    late_us: AtomicU64,
    /// When the next read is due, in microseconds since the start; [`NEVER`] if there is none.
    due_us: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Poller {
    /// Calls `look` each `period`, until it breaks or the poller is dropped.
    pub(crate) fn start(period: Duration, mut look: impl FnMut() -> ControlFlow<()> + Send + 'static) -> Self {
        let (ended, late_us, due_us) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { started: Instant::now(), ended, late_us, due_us });
        thread::spawn({
            let shared = shared.clone();
            move || {
                while !shared.ended.load(Ordering::Relaxed) {
                    shared.late_us.fetch_max(shared.overdue_us(), Ordering::Relaxed);
                    if look().is_break() {
                        break;
                    }
                    // A late read is not repeated.
                    shared.due_us.store(super::micros(shared.started.elapsed() + period), Ordering::Relaxed);
                    thread::sleep(period);
                }
                shared.due_us.store(NEVER, Ordering::Relaxed);
            }
        });
        Self { shared }
    }

    /// Stops.
    pub(crate) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    /// The longest delay of a read, also of one that is due and has not come.
    pub(crate) fn late(&self) -> Duration {
        Duration::from_micros(self.shared.late_us.load(Ordering::Relaxed).max(self.shared.overdue_us()))
    }
}

impl Shared {
    /// For how long the next read has been due.
    fn overdue_us(&self) -> u64 {
        super::micros(self.started.elapsed()).saturating_sub(self.due_us.load(Ordering::Relaxed))
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn it_looks_until_it_is_dropped_and_says_how_late_it_was() {
        let (sender, looks) = channel();
        let mut count = 0;
        let poller = Poller::start(PERIOD, move || {
            count += 1;
            if count == 2 {
                // A host that is busy.
                thread::sleep(Duration::from_millis(1));
            }
            sender.send(count).map_or(ControlFlow::Break(()), |()| ControlFlow::Continue(()))
        });
        for expected in 1..=20 {
            assert_eq!(looks.recv().unwrap(), expected);
        }
        assert!(poller.late() > Duration::ZERO);
        drop(poller);
        // The sender goes with the thread.
        while looks.recv().is_ok() {}
    }

    #[test]
    fn a_read_that_does_not_come_is_late() {
        let (go_on, wait) = channel::<()>();
        let (sender, begun) = channel();
        let poller = Poller::start(PERIOD, move || {
            sender.send(()).unwrap();
            // Until the test has seen that it is late.
            let _ = wait.recv();
            ControlFlow::Break(())
        });
        begun.recv().unwrap();
        while poller.late() < 5 * PERIOD {
            thread::sleep(PERIOD);
        }
        drop(go_on);
    }

    #[test]
    fn it_ends_when_it_has_seen_enough() {
        let (sender, looks) = channel();
        let _poller = Poller::start(PERIOD, move || {
            sender.send(()).unwrap();
            ControlFlow::Break(())
        });
        assert_eq!((looks.recv(), looks.recv().is_err()), (Ok(()), true));
    }
}
