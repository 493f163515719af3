use crate::{CellId, CellKey, CellRecord, Finding, Phase, PhaseEnd, RunRecord};
use serde::{Deserialize, Serialize};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Microseconds since the run started, by a monotonic clock.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen in a run. The set is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Always the first: the record as it is before any cell.
    RunStarted {
        /// The record, with no cells.
        run: Box<RunRecord>,
    },
    /// A cell begins.
    CellStarted {
        /// Its id.
        cell: CellId,
        /// What it is.
        #[serde(flatten)]
        key: CellKey,
    },
    /// A phase begins.
    PhaseStarted {
        /// In which cell.
        cell: CellId,
        /// Which.
        phase: Phase,
        /// The number of kexecs before it.
        hop: u32,
    },
    /// A phase ended.
    PhaseEnded {
        /// In which cell.
        cell: CellId,
        /// Which.
        phase: Phase,
        /// The number of kexecs before it.
        hop: u32,
        /// How long it took, in microseconds.
        duration_us: u64,
        /// How.
        #[serde(flatten)]
        end: PhaseEnd,
    },
    /// The console said something that matters.
    ConsoleFinding {
        /// In which cell.
        cell: CellId,
        /// What.
        #[serde(flatten)]
        finding: Finding,
    },
    /// A cell ended.
    CellFinished {
        /// All of it.
        record: Box<CellRecord>,
    },
    /// Always the last.
    RunFinished {
        /// Whether the user ended it before all cells were done.
        interrupted: bool,
    },
}
