//! What other systems know: passed, failed, broken, skipped.

use luqual_model::{CellRecord, Outcome, Status};

/// A cell in their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It did what it is known to do, or better.
    Passed,
    /// It did not.
    Failed,
    /// Nothing is known: the tool or its host failed.
    Broken,
    /// Something that it needs is absent.
    Skipped,
}

/// A cell's outcome and status in the words of others.
pub(crate) fn standing(cell: &CellRecord) -> Standing {
    match (cell.outcome, cell.status) {
        (Outcome::HarnessFailed, _) => Standing::Broken,
        (Outcome::Skipped, _) => Standing::Skipped,
        (_, Status::Expected | Status::Improvement) => Standing::Passed,
        (_, Status::Regression | Status::Unexpected | Status::Flaky) => Standing::Failed,
    }
}
