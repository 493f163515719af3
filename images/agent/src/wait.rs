//! Waiting for a condition for which there is no event.

use std::time::{Duration, Instant};

/// Polls a condition every millisecond. Returns whether it became true in this time.
pub(crate) fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
