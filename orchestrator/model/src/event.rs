use crate::{CellId, CellKey, CellRecord, Finding, KernelInfo, Phase, PhaseEnd, Prediction, RunInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stamped {
    /// Microseconds since the run started, by a monotonic clock.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An event of a run. The set is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first event of every run.
    RunStarted {
        /// The run as it is before any cell.
        run: Box<RunInfo>,
    },
    /// A run is resumed. Cells that had started and not ended start again.
    RunResumed {
        /// How many cells are left, with those of `again`.
        left: usize,
        /// The cells that had ended as harness-failed. Their earlier ends do not count any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        again: Vec<CellId>,
    },
    /// A kernel was built while cells of others ran. The cells that need it start later.
    KernelAdded {
        /// The kernel.
        kernel: Box<KernelInfo>,
        /// The predictions that can be made with it, by the id of the cell.
        predictions: BTreeMap<CellId, Prediction>,
    },
    /// A cell starts.
    CellStarted {
        /// Its id.
        cell: CellId,
        /// The parts of the cell.
        #[serde(flatten)]
        key: CellKey,
    },
    /// The cells of a boot group start. Events of the boot have its id.
    BootStarted {
        /// Its id.
        boot: CellId,
        /// The cells of the group.
        cells: Vec<CellId>,
    },
    /// The boot of a group ended.
    BootEnded {
        /// Its id.
        boot: CellId,
        /// Why each of its cells runs again alone; absent if they do not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A phase starts.
    PhaseStarted {
        /// The cell or the boot of a group.
        cell: CellId,
        /// The phase.
        phase: Phase,
        /// The number of kexecs before it.
        hop: u32,
    },
    /// A phase ended.
    PhaseEnded {
        /// The cell or the boot of a group.
        cell: CellId,
        /// The phase.
        phase: Phase,
        /// The number of kexecs before it.
        hop: u32,
        /// The duration in microseconds.
        duration_us: u64,
        /// How the phase ended.
        #[serde(flatten)]
        end: PhaseEnd,
    },
    /// The console printed a line that matters.
    ConsoleFinding {
        /// The cell or the boot of a group.
        cell: CellId,
        /// The line. Not flattened, since it has a time of its own.
        finding: Finding,
    },
    /// A cell ended.
    CellFinished {
        /// The result of the cell.
        record: Box<CellRecord>,
    },
    /// The last event of a run that was not killed.
    RunFinished {
        /// Whether the user ended the run before all cells were done.
        interrupted: bool,
    },
}

impl RunInfo {
    /// Takes in the end of the run and its late kernels. A resumed run has not ended.
    pub fn fold(&mut self, stamped: &Stamped) {
        match &stamped.event {
            Event::RunFinished { interrupted } => {
                self.duration_us = Some(stamped.at_us);
                self.interrupted = *interrupted;
            }
            Event::KernelAdded { kernel, predictions } => {
                self.kernels.insert(kernel.name.clone(), (**kernel).clone());
                for planned in &mut self.planned {
                    if let Some(prediction) = predictions.get(&planned.key.id()) {
                        planned.prediction = Some(prediction.clone());
                    }
                }
            }
            Event::RunResumed { .. } => {
                self.duration_us = None;
                self.interrupted = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FindingKind, HostInfo, Outcome, PlannedCell, Side};

    #[test]
    fn every_line_of_a_journal_can_be_read_again() {
        let key = CellKey { source: "a".into(), target: "b".into(), profile: "p".into(), workload: "w.x".into() };
        let cell = key.id();
        let (kind, side) = (FindingKind::Kho, Side::Target);
        let finding = Finding { kind, side, hop: 1, at_us: 5, line: 7, text: "KHO: x".into(), function: None };
        let (phase, hop) = (Phase::Kexec, 0);
        let end = PhaseEnd::Failed("why".into());
        for event in [
            Event::RunResumed { left: 3, again: Vec::new() },
            Event::RunResumed { left: 3, again: vec![cell.clone()] },
            Event::BootStarted { boot: cell.clone(), cells: vec![cell.clone()] },
            Event::BootEnded { boot: cell.clone(), why: Some("x".into()) },
            Event::KernelAdded {
                kernel: Box::default(),
                predictions: [(cell.clone(), Prediction { outcome: Outcome::Lost, why: "x".into() })].into(),
            },
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

    #[test]
    fn a_late_kernel_comes_with_the_predictions_of_its_cells() {
        let key = |target: &str| CellKey {
            source: "a".into(),
            target: target.into(),
            profile: "p".into(),
            workload: "w.x".into(),
        };
        let mut run = RunInfo::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        run.planned = ["b", "c"].map(|it| PlannedCell { key: key(it), prediction: None, expectation: None }).into();
        let kernel = Box::new(KernelInfo { name: "b".into(), ..Default::default() });
        let predictions = [(key("b").id(), Prediction { outcome: Outcome::Lost, why: "x".into() })].into();
        run.fold(&Stamped { at_us: 1, event: Event::KernelAdded { kernel, predictions } });
        assert!(run.kernels.contains_key("b") && run.duration_us.is_none());
        let predicted = run.planned.iter().map(|it| it.prediction.as_ref().map(|it| it.outcome));
        assert_eq!(predicted.collect::<Vec<_>>(), [Some(Outcome::Lost), None]);
    }
}
