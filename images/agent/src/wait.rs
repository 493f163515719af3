//! Waiting for what no event tells of.

use std::time::{Duration, Instant};

/// Whether something came to be so in that time.
pub(crate) fn until(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !so() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
