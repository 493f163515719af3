use super::*;
use crate::boot::Attempts;
use crate::boot::{BootCell, BootKernel};
use crate::fake::{FakeLab, Play, Script};
use luqual_config::own_machine;
use luqual_model::{CellKey, KernelInfo, Outcome, PlannedCell};
use luqual_protocol::{Probe, Reply, Request, Said, find_workload};
use std::cell::Cell;
use std::path::PathBuf;
use tokio::sync::watch;

/// Two cells in one boot, in so many rounds, of which the fake guest plays each.
async fn shared(repeat: u32, script: Script) -> Vec<CellRecord> {
    let (has_ended, events) = told(2, repeat, script, false).await;
    assert!(has_ended);
    let ended = events.into_iter().filter_map(|event| match event {
        Event::CellFinished { record } => Some(*record),
        _ => None,
    });
    ended.collect()
}

/// The first so many of two cells in one boot, and what is told of it.
async fn told(count: usize, repeat: u32, script: Script, interrupted: bool) -> (bool, Vec<Event>) {
    let kernel = |name: &str| {
        let info =
            KernelInfo { name: name.into(), release: name.into(), image_sha256: name.into(), ..KernelInfo::default() };
        BootKernel { info, image: PathBuf::new(), symbols: None, modules: Vec::new() }
    };
    let (source, target) = (kernel("old"), kernel("new"));
    let workloads = ["memfd.basic", "memfd.sparse"].map(|name| find_workload(name).unwrap());
    let plans = workloads.map(|workload| {
        let [a, b, c, d] = ["old", "new", workload.profile, workload.name].map(str::to_owned);
        PlannedCell {
            key: CellKey { source: a, target: b, profile: c, workload: d },
            prediction: None,
            expectation: None,
        }
    });
    let part = |(workload, plan)| BootCell { workload, plan, program: None };
    let parts = workloads.into_iter().zip(&plans).take(count).map(part).collect();
    let profile = own_machine(workloads[0].profile).unwrap();
    let boot = Boot { source: &source, target: &target, profile, parts };
    let folder = tempfile::tempdir().unwrap();
    let lab = FakeLab::new(script, target.info.clone());
    let (_keep, interrupt) = watch::channel(interrupted);
    let mut host = Host::once(&lab, folder.path(), interrupt);
    host.attempts = Attempts { repeat, retries: 0 };
    let (sender, mut events) = mpsc::unbounded_channel();
    let has_ended = run_boot(&boot, &host, &sender).await;
    (has_ended, std::iter::from_fn(|| events.try_recv().ok()).collect())
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_after_the_user_has_ended_the_run() {
    for count in [1, 2] {
        assert_eq!(told(count, 1, Script::default(), true).await, (false, Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_good_rounds_before_a_bad_one_count() {
    // The fourth boot is bad: the shared one of the last round.
    let boots = Cell::new(0);
    let plays = move |hop: u32, request: &Request| {
        if hop == 0 && matches!(request, Request::Hello { .. }) {
            boots.set(boots.get() + 1);
        }
        match request {
            Request::Verify { workload, .. } if boots.get() == 4 && workload == "memfd.basic" => {
                let probes = vec![Probe::compare("memfd 4k content", "a", "b")];
                Play::Reply(Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 })
            }
            _ => Play::Well,
        }
    };
    let records = shared(4, Script::plays(plays)).await;
    let [lost, other] = records.as_slice() else { panic!("{records:?}") };
    // Three good rounds, the bad one, and four alone.
    let rate = lost.rate().unwrap();
    assert_eq!((lost.outcome, rate.failed, rate.of), (Outcome::Lost, 1, 8));
    let rate = other.rate().unwrap();
    assert_eq!((other.outcome, rate.failed, rate.of), (Outcome::Survived, 0, 7));
}

#[tokio::test(start_paused = true)]
async fn rounds_that_are_all_good_are_all_there_is() {
    let records = shared(3, Script::default()).await;
    let counts: Vec<usize> = records.iter().map(|record| record.attempts.len()).collect();
    assert_eq!(counts, [3, 3]);
}
