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

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// The delay of the latest read, in microseconds.
    late_us: AtomicU64,
}

impl Poller {
    /// Calls `look` each `period`, until it breaks or the poller is dropped.
    pub(crate) fn start(period: Duration, mut look: impl FnMut() -> ControlFlow<()> + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let shared = shared.clone();
            move || {
                let mut due = Instant::now();
                while !shared.ended.load(Ordering::Relaxed) {
                    let late = due.elapsed();
                    shared.late_us.fetch_max(super::micros(late), Ordering::Relaxed);
                    if look().is_break() {
                        return;
                    }
                    // A late read is not repeated.
                    due = Instant::now() + period;
                    thread::sleep(period);
                }
            }
        });
        Self { shared }
    }

    /// Stops.
    pub(crate) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    /// The delay of the latest read.
    pub(crate) fn late(&self) -> Duration {
        Duration::from_micros(self.shared.late_us.load(Ordering::Relaxed))
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
    fn it_ends_when_it_has_seen_enough() {
        let (sender, looks) = channel();
        let _poller = Poller::start(PERIOD, move || {
            sender.send(()).unwrap();
            ControlFlow::Break(())
        });
        assert_eq!((looks.recv(), looks.recv().is_err()), (Ok(()), true));
    }
}
