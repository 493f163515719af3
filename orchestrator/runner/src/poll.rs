//! Looking again and again where nothing tells of a change: into the guest's memory.

use std::ops::ControlFlow;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often.
pub(crate) const PERIOD: Duration = Duration::from_millis(1);

/// Looks until it is dropped.
pub(crate) struct Poller(JoinHandle<()>);

impl Poller {
    /// Calls `look` until it has seen enough, too.
    pub(crate) fn start(mut look: impl FnMut() -> ControlFlow<()> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            let mut timer = interval(PERIOD);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                if look().is_break() {
                    return;
                }
            }
        }))
    }

    /// Looks no longer.
    pub(crate) fn end(&self) {
        self.0.abort();
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.end();
    }
}
