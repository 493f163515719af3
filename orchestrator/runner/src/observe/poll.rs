//! Looking again and again where nothing tells of a change: into the guest's memory. On a thread of its own, so that nothing that the
//! host does besides makes a look late; how late each was is recorded all the same, since the host may be busy.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often.
pub(crate) const PERIOD: Duration = Duration::from_millis(1);

/// Looks until it is dropped.
pub(crate) struct Poller {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// By how many microseconds the latest look came late.
    late_us: AtomicU64,
}

impl Poller {
    /// Calls `look` each [`PERIOD`], until it has seen enough, too.
    pub(crate) fn start(mut look: impl FnMut() -> ControlFlow<()> + Send + 'static) -> Self {
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
                    // A look that came late is not made up for.
                    due = Instant::now() + PERIOD;
                    thread::sleep(PERIOD);
                }
            }
        });
        Self { shared }
    }

    /// Looks no longer.
    pub(crate) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    /// By how much the latest look came late.
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
        let poller = Poller::start(move || {
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
        let _poller = Poller::start(move || {
            sender.send(()).unwrap();
            ControlFlow::Break(())
        });
        assert_eq!((looks.recv(), looks.recv().is_err()), (Ok(()), true));
    }
}
