//! One attempt at a boot of a fake machine.

use crate::boot::{Boot, BootCell, BootKernel, Host, run_once};
use crate::fake::{FakeLab, Play, Script, pages};
use luqual_config::own_machine;
use luqual_model::{
    Capability, CellKey, CellRecord, Event, KernelInfo, KernelModule, Outcome, Phase, PhaseEnd, PlannedCell,
};
use luqual_protocol::{NotDone, Probe, Reply, Said, find_workload};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// What is tried.
#[derive(Default)]
pub(super) struct Trial {
    pub(super) script: Script,
    /// `memfd.basic`, if nothing else is named.
    pub(super) workload: Option<&'static str>,
    pub(super) fault: Option<&'static str>,
    /// When the user ends the run.
    pub(super) interrupted_after: Option<Duration>,
    pub(super) waits: bool,
    pub(super) deterministic: bool,
    /// The ELF of a module of the target.
    pub(super) module: Option<&'static [u8]>,
}

/// What came of it.
pub(super) struct Tried {
    /// Nothing, where the user ended the run.
    pub(super) record: Option<CellRecord>,
    events: Vec<Event>,
    /// By the clock of the test.
    pub(super) took: Duration,
}

impl Trial {
    pub(super) fn of(script: Script) -> Self {
        Self { script, ..Self::default() }
    }

    /// Makes the attempt. Whatever it comes to, no machine is left and each phase that began has ended.
    pub(super) async fn run(self) -> Tried {
        let kernel = |name: &str| {
            let info = KernelInfo {
                name: name.into(),
                release: name.into(),
                build_id: Some(format!("id of {name}")),
                image_sha256: name.into(),
                command_line: "console=ttyS0".into(),
                ..KernelInfo::default()
            };
            BootKernel { info, image: PathBuf::new(), symbols: None, modules: Vec::new() }
        };
        let (source, mut target) = (kernel("old"), kernel("new"));
        target.modules.extend(self.module.map(|elf| KernelModule {
            name: "virtio_net".into(),
            elf: elf.into(),
            needed_by: BTreeSet::from([Capability::Agent]),
        }));
        let workload = find_workload(self.workload.unwrap_or("memfd.basic")).unwrap();
        let [a, b, c, d] = ["old", "new", workload.profile, workload.name].map(str::to_owned);
        let plan = PlannedCell {
            key: CellKey { source: a, target: b, profile: c, workload: d },
            prediction: None,
            expectation: None,
        };
        let parts = vec![BootCell { workload, plan: &plan, program: None }];
        let profile = own_machine(workload.profile).unwrap();
        let boot = Boot { source: &source, target: &target, profile, parts };
        let folder = tempfile::tempdir().unwrap();
        let lab = FakeLab::new(self.script, target.info.clone());
        let (interrupt, interrupted) = watch::channel(false);
        let mut host = Host::once(&lab, folder.path(), interrupted);
        (host.fault, host.waits) = (self.fault.map(|fault| fault.parse().unwrap()), self.waits);
        host.deterministic = self.deterministic;
        let (sender, mut events) = mpsc::unbounded_channel();
        let started = Instant::now();
        let user = async {
            match self.interrupted_after {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
            interrupt.send(true).unwrap();
            std::future::pending::<()>().await;
        };
        let records = tokio::select! {
            records = run_once(&boot, &host, 0, &sender) => records,
            () = user => unreachable!(),
        };
        let took = started.elapsed();
        assert_eq!(lab.running(), 0, "a machine is left");
        let tried = Tried {
            record: records.map(|mut records| records.remove(0)),
            events: std::iter::from_fn(|| events.try_recv().ok()).collect(),
            took,
        };
        tried.each_phase_has_ended();
        tried
    }
}

impl Tried {
    /// The outcome, the phase in which it was decided, and the title.
    pub(super) fn told(&self) -> (Outcome, Phase, &str) {
        let record = self.record.as_ref().unwrap();
        (record.outcome, record.phase, record.title.as_str())
    }

    /// The phases that were passed, in order.
    pub(super) fn passed(&self) -> Vec<Phase> {
        let passed = |event: &Event| match event {
            Event::PhaseEnded { phase, end: PhaseEnd::Done, .. } => Some(*phase),
            _ => None,
        };
        let mut all: Vec<Phase> = self.events.iter().filter_map(passed).collect();
        all.dedup();
        all
    }

    fn each_phase_has_ended(&self) {
        let mut open = None;
        for event in &self.events {
            match event {
                Event::PhaseStarted { phase, hop, .. } => assert_eq!(open.replace((*phase, *hop)), None),
                Event::PhaseEnded { phase, hop, .. } => assert_eq!(open.take(), Some((*phase, *hop))),
                _ => {}
            }
        }
        assert_eq!(open, None);
    }
}

/// The kernel says no.
pub(super) fn refused() -> Play {
    Play::Reply(NotDone::Refused { call: "ioctl".into(), errno: "EBUSY".into(), about: "a session".into() }.into())
}

/// A step that is done, with a probe that fails.
pub(super) fn fails() -> Play {
    let probes = vec![Probe::compare("memfd 4k content", "as it was", "another")];
    Play::Reply(Reply::Done { said: Said { probes, pages: pages(), ..Said::default() }, taint: 0 })
}
