//! The conclusion of a run: whether it is a success.

use crate::request::Demand;
use luqual_model::{Outcome, Status};
use luqual_reports::Record;

/// The conclusion of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Every cell is as expected.
    AsExpected,
    /// A cell is not as expected, or none ran.
    NotAsExpected,
    /// A cell has no conclusive result, since luqual or its host failed.
    HarnessFailed,
    /// The user ended it.
    Interrupted,
}

impl Conclusion {
    /// The conclusion of `record`. A failure of the harness and a cell without a result are [`Self::HarnessFailed`].
    pub fn of(record: &Record, demand: Demand) -> Self {
        let ended = || record.briefs().filter_map(|(_, brief)| brief);
        let broken = record.briefs().any(|(_, cell)| cell.is_none_or(|cell| cell.harness_failed));
        // With more parts than boots, a part has nothing to run.
        let nothing_to_run = record.run.planned.is_empty() && record.run.partition.is_some();
        let ran = nothing_to_run || ended().any(|cell| cell.outcome != Outcome::Skipped);
        let content = ended().all(|cell| match cell.status {
            // A cell whose attempts were skipped and not is flaky.
            Status::Unexpected if cell.outcome == Outcome::Skipped => demand.allow_skips,
            _ if demand.survived => cell.clean(),
            Status::Expected => true,
            Status::Improvement => !demand.strict,
            Status::Regression | Status::Unexpected | Status::Flaky => false,
        });
        if record.run.interrupted {
            Self::Interrupted
        } else if broken {
            Self::HarnessFailed
        } else if ran && content {
            Self::AsExpected
        } else {
            Self::NotAsExpected
        }
    }
}
