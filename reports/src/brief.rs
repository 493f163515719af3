//! A cell in a few bytes: what counts, grids and exit codes need of it. Of a large run nothing more is kept at once.

use luqual_model::{CellRecord, Outcome, Status};

/// What became of a cell, without its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// How it ended.
    pub outcome: Outcome,
    /// That against what was expected.
    pub status: Status,
    /// Whether the cell is tainted.
    pub tainted: bool,
    /// Whether the kernels did what their ABI strings say; `None` where nothing is known of it.
    pub as_predicted: Option<bool>,
    /// Whether the tool or its host failed in it, or in one of several attempts.
    pub harness_failed: bool,
    /// Whether a fault was injected in it.
    pub injected: bool,
    /// How long it took, in microseconds; of a shared boot, its part.
    pub duration_us: u64,
    /// Its blackout, in microseconds.
    pub blackout_us: Option<u64>,
}

/// A cell in the words of other systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestResult {
    /// It did what it is known to do, or better.
    Passed,
    /// It did not.
    Failed,
    /// Nothing is known: the tool or its host failed.
    Error,
    /// Something that it needs is absent.
    Skipped,
}

impl Brief {
    pub(crate) fn of(cell: &CellRecord) -> Self {
        Self {
            outcome: cell.outcome,
            status: cell.status,
            tainted: !cell.tainted.is_empty(),
            as_predicted: cell.as_predicted(),
            harness_failed: cell.ends().any(|outcome| outcome == Outcome::HarnessFailed),
            injected: cell.injected.is_some(),
            duration_us: cell.duration_us / (cell.shared_with.len() as u64 + 1),
            blackout_us: cell.blackout.map(|blackout| blackout.duration_us),
        }
    }

    /// Whether it survived, untainted, every time.
    pub fn clean(&self) -> bool {
        self.outcome == Outcome::Survived && !self.tainted && self.status != Status::Flaky
    }

    /// Whether somebody has to look at it.
    pub(crate) fn needs_attention(&self) -> bool {
        self.status != Status::Expected || self.outcome == Outcome::Skipped || self.as_predicted == Some(false)
    }

    /// What is read first: what nobody predicted, then what is not as expected, each with the worst first.
    pub(crate) fn urgency(&self) -> impl Ord + use<> {
        let known = (self.as_predicted != Some(false), self.status == Status::Expected);
        (known, std::cmp::Reverse(self.outcome.severity()))
    }

    /// The outcome, with a mark if the cell is tainted.
    pub fn word(&self) -> String {
        let mark = if self.tainted { "+tainted" } else { "" };
        format!("{}{mark}", self.outcome)
    }

    pub(crate) fn standing(&self) -> TestResult {
        match (self.outcome, self.status) {
            (Outcome::HarnessFailed, _) => TestResult::Error,
            (Outcome::Skipped, _) => TestResult::Skipped,
            (_, Status::Expected | Status::Improvement) => TestResult::Passed,
            (_, Status::Regression | Status::Unexpected | Status::Flaky) => TestResult::Failed,
        }
    }
}
