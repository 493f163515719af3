use crate::{CellId, CellKey, CellRecord, Finding, Phase, PhaseEnd, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stamped {
    /// Microseconds since the run started, by a monotonic clock.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen in a run. The set is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Always the first.
    RunStarted {
        /// The run as it is before any cell.
        run: Box<Run>,
    },
    /// A run that was cut off goes on. Cells that had begun and not ended are run anew.
    RunResumed {
        /// How many cells are left.
        left: usize,
    },
    /// A cell begins.
    CellStarted {
        /// Its id.
        cell: CellId,
        /// What it is.
        #[serde(flatten)]
        key: CellKey,
    },
    /// Several cells begin that share a boot; what happens in it has the boot's id.
    BootStarted {
        /// Its id.
        boot: CellId,
        /// Which cells.
        cells: Vec<CellId>,
    },
    /// It ended.
    BootEnded {
        /// Its id.
        boot: CellId,
        /// Why each of its cells is run again alone; absent where they are not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A phase begins.
    PhaseStarted {
        /// In which cell, or in which shared boot.
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
        /// What. Not flattened: it has a time of its own, in the cell.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FindingKind, Side};

    #[test]
    fn every_line_of_a_journal_can_be_read_again() {
        let key = CellKey { source: "a".into(), target: "b".into(), profile: "p".into(), workload: "w.x".into() };
        let cell = key.id();
        let (kind, side) = (FindingKind::Kho, Side::Target);
        let finding = Finding { kind, side, at_us: 5, line: 7, text: "KHO: x".into() };
        let (phase, hop) = (Phase::Kexec, 0);
        let end = PhaseEnd::Failed("why".into());
        for event in [
            Event::RunResumed { left: 3 },
            Event::BootStarted { boot: cell.clone(), cells: vec![cell.clone()] },
            Event::BootEnded { boot: cell.clone(), why: Some("x".into()) },
            Event::CellStarted { cell: cell.clone(), key },
            Event::PhaseStarted { cell: cell.clone(), phase, hop },
            Event::PhaseEnded { cell: cell.clone(), phase, hop, duration_us: 1, end },
            Event::ConsoleFinding { cell, finding },
            Event::RunFinished { interrupted: true },
        ] {
            let stamped = Stamped { at_us: 9, event };
            let line = serde_json::to_string(&stamped).unwrap();
            assert_eq!(serde_json::from_str::<Stamped>(&line).unwrap(), stamped, "{line}");
        }
    }
}
