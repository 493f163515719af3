//! What a run comes to: whether it is a success, by what is demanded of it.

use crate::request::Demand;
use luqual_model::{Outcome, Status};
use luqual_reports::Record;

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Every cell is as expected.
    AsExpected,
    /// Some cell is not, or none ran.
    NotAsExpected,
    /// Of some cell nothing is known, since the tool or its host failed.
    HarnessFailed,
    /// The user ended it.
    Interrupted,
}

impl Conclusion {
    /// A failure of the harness says that nothing is known, and so does a cell without a result.
    pub fn of(record: &Record, demand: Demand) -> Self {
        let ended = || record.briefs().filter_map(|(_, brief)| brief);
        let broken = record.briefs().any(|(_, cell)| cell.is_none_or(|cell| cell.harness_failed));
        // Where there are more parts than boots, one has nothing to do.
        let nothing_to_run = record.run.planned.is_empty() && record.run.partition.is_some();
        let ran = nothing_to_run || ended().any(|cell| cell.outcome != Outcome::Skipped);
        let content = ended().all(|cell| match cell.status {
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
