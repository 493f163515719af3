//! Kernels that come while cells of others run.

use super::room::{NEW, OLD, Room, concluded, ended};
use crate::cells::{Stage, run_whole};
use crate::conclusion::Conclusion;
use crate::error::{EngineError, ErrorKind};
use crate::folder::{self, Finished, IfExists};
use crate::interactive::Interactive;
use crate::kernels::open_store;
use crate::plan;
use crate::request::{KernelSource, MachineChoice, Pairs};
use crate::requested::RequestedRun;
use crate::supply::Supply;
use luqual_model::Event;
use std::collections::BTreeSet;
use std::fs;

/// Runs one workload on four pairs, where the new kernel is looked for only after the run has begun. It is not there if
/// `is_there` is false.
async fn run_late(room: &Room, is_there: bool) -> Result<Finished, EngineError> {
    let context = room.context();
    let store = open_store(&KernelSource::default())?;
    let mut request = room.request(&["kexec.long-command-line"]);
    request.pairs = Pairs::Matrix("square".into());
    let chosen = plan::choose(&store, &request)?;
    let [old, new] = [OLD, NEW].map(|name| room.path(name).to_str().unwrap().to_owned());
    let kernels = [(old.clone(), store.find(&old)?.unwrap())].into();
    let mut run = RequestedRun::of(&context, &chosen, &request.execution, Some(&kernels), &store).run;
    if !is_there {
        fs::remove_file(&new).unwrap();
    }
    let found = MachineChoice::default().find(context.machines, false).await?;
    let (id, folder) = folder::create(Some(&room.path("run")), IfExists::Fail)?;
    (run.id, run.host) = (id, found.host());
    let slots = plan::slots(Some(1), chosen.budget);
    run.settings.jobs = slots.jobs;
    let stage = Stage {
        supply: Supply::of(kernels, run.planned.clone()).and([new].into(), &context, &store),
        registry: &chosen.registry,
        found: &found,
        folder: &folder,
        slots,
        person: Interactive::default().person(&|_| {}),
        alone: BTreeSet::new(),
    };
    let record = run_whole(&context, &run, stage).await;
    room.is_quiet();
    Ok(Finished { record: record?, folder })
}

/// Where the first such event is.
fn place(events: &[Event], is_it: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(is_it).unwrap()
}

fn is_late_kernel(event: &Event) -> bool {
    matches!(event, Event::KernelAdded { .. })
}

fn needs_new(event: &Event) -> bool {
    matches!(event, Event::CellStarted { key, .. } if key.source.ends_with(NEW) || key.target.ends_with(NEW))
}

#[tokio::test(start_paused = true)]
async fn a_cell_runs_before_the_next_kernel_is_there() {
    let room = Room::new();
    let run = run_late(&room, true).await.unwrap();
    assert_eq!(concluded(&run), Conclusion::AsExpected);
    let events = room.events("run");
    let started = place(&events, |event| matches!(event, Event::CellStarted { .. }));
    let late = place(&events, is_late_kernel);
    assert!(started < late && late < place(&events, needs_new), "{events:?}");
    assert_eq!((ended(&events).len(), room.json("run").run.kernels.len()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn what_has_its_kernels_is_run_though_another_kernel_does_not_come() {
    let room = Room::new();
    let error = run_late(&room, false).await.err().unwrap();
    let hint = error.hint_text().unwrap();
    assert!(error.kind() == ErrorKind::Usage && hint.contains("luqual run --resume "), "{error}; {hint}");
    let events = room.events("run");
    assert_eq!(ended(&events).len(), 1);
    assert!(!events.iter().any(|event| matches!(event, Event::RunFinished { .. })), "it has not finished");
    // The mistake is mended, and the rest is run.
    room.kernel(NEW, NEW);
    let resumed = room.try_resume("run").await.unwrap();
    assert_eq!(concluded(&resumed), Conclusion::AsExpected);
    let events = room.events("run");
    assert!(place(&events, is_late_kernel) < place(&events, needs_new), "{events:?}");
    assert_eq!((ended(&events).len(), room.json("run").run.kernels.len()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_ended_before_all_its_kernels_came_is_resumed_to_the_same_cells() {
    let whole = Room::new();
    let run = run_late(&whole, true).await.unwrap();
    assert_eq!(concluded(&run), Conclusion::AsExpected);
    let mut without_kernel = 0;
    for number in 1..whole.events("run").len() {
        let room = Room::new();
        room.ends_after(Some(number));
        let record = run_late(&room, true).await.unwrap().record;
        without_kernel += usize::from(!record.run.kernels.contains_key(room.path(NEW).to_str().unwrap()));
        assert!(record.run.interrupted || record.totals().not_run == 0, "{number}");
        room.ends_after(None);
        let resumed = room.try_resume("run").await.unwrap();
        assert_eq!(concluded(&resumed), Conclusion::AsExpected, "{number}");
        let mut cells = ended(&room.events("run"));
        cells.sort();
        cells.dedup();
        assert_eq!((cells.len(), ended(&room.events("run")).len()), (4, 4), "{number}");
    }
    assert!(without_kernel > 0, "none was ended before the kernel came");
}
