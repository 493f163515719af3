//! Memory that was used before, so that its next user does not find zeros by chance.

use super::error::StepError;
use crate::memfd::Memfd;

/// Fills this many bytes of memory with a pattern, and frees them.
pub(super) fn dirty(bytes: u64) -> Result<(), StepError> {
    Memfd::new("dirty", bytes).make(0x6469_7274).map(drop).map_err(StepError::agent(format!("{bytes} bytes of memory")))
}
