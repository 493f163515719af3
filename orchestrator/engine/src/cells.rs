//! Cells are run: their boots on this host's machines, into a journal, and then the reports are made from that.

use crate::attended::patient;
use crate::context::Context;
use crate::error::EngineError;
use crate::history::History;
use crate::machine::Found;
use crate::notice::Notice;
use crate::plan;
use crate::registry::Registry;
use crate::report_files::write_reports;
use crate::selection::profile_of;
use luqual_config::Deadlines;
use luqual_model::{Event, Planned, Run, Settings, Stamped};
use luqual_reports::Record;
use luqual_runner::{
    Attempts, Boot, BootKernel, CoresTaken, Dispatcher, Fault, Host, JOURNAL, Part, Person, Seed, Slots, run_all,
    run_boot,
};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::sync::mpsc;

/// With what cells are run.
pub(crate) struct Stage<'a> {
    pub(crate) kernels: &'a BTreeMap<String, BootKernel>,
    pub(crate) registry: &'a Registry,
    pub(crate) found: &'a Found,
    pub(crate) folder: &'a Path,
    pub(crate) slots: Slots,
    pub(crate) person: Person<'a>,
}

/// Runs all of a new run.
pub(crate) async fn run_whole(context: &Context<'_>, run: &Run, stage: Stage<'_>) -> Result<Record, EngineError> {
    let mut observer = |stamped: &Stamped| context.tell(Notice::Event(stamped));
    let journal = stage.folder.join(JOURNAL);
    let dispatcher = Dispatcher::create(stage.folder, run, &mut observer).map_err(EngineError::named(journal))?;
    let cells: Vec<&Planned> = run.planned.iter().collect();
    run_cells(context, dispatcher, &run.settings, &cells, stage).await
}

/// Runs these cells; then writes the reports of the whole run, from its journal.
pub(crate) async fn run_cells(
    context: &Context<'_>,
    dispatcher: Dispatcher<'_>,
    settings: &Settings,
    planned: &[&Planned],
    stage: Stage<'_>,
) -> Result<Record, EngineError> {
    let Stage { kernels, registry, found, folder, slots, person } = stage;
    let fault = fault(settings.plant.as_deref())?;
    // A fault is planted in a workload, not in a boot; and what is deterministic does not depend on what it is run with.
    let alone = fault.is_some() || settings.deterministic;
    let (boots, loads) = plan::boots_and_loads(planned, registry, alone, slots, &History::load())?;
    let plans = |boot: &Vec<usize>| boot.iter().map(|number| planned[*number]).collect::<Vec<&Planned>>();
    let boots =
        boots.iter().map(|it| boot(&plans(it), kernels, registry)).collect::<Result<Vec<Boot<'_>>, EngineError>>()?;
    let mut deadlines = Deadlines::default();
    settings.deadlines.iter().for_each(|(phase, seconds)| deadlines.set(*phase, *seconds));
    if person.gdb.is_some() {
        deadlines = patient(deadlines);
    }

    let lab = context.machines.lab(found)?;
    let host = &Host {
        lab: &*lab,
        folder,
        deadlines,
        keep: settings.keep,
        vmcore: settings.vmcore,
        cores_taken: CoresTaken::of(folder),
        fault,
        attempts: Attempts { repeat: settings.repeat.max(1), retries: settings.retries },
        seed: settings.repeats.as_ref().map_or(Seed::OfRun(settings.seed), |it| Seed::OfAttempt(it.seed)),
        waits: settings.waits(),
        deterministic: settings.deterministic,
        person,
        interrupt: context.interrupt.clone(),
    };
    let start = |index: usize, events: mpsc::UnboundedSender<Event>| {
        let boot = &boots[index];
        async move { run_boot(boot, host, &events).await }
    };
    let ran = run_all(dispatcher, &loads, slots, &context.interrupt, start).await;
    ran.map_err(EngineError::own(folder.join(JOURNAL).display()))?;
    let record = write_reports(folder)?;
    History::add(&record);
    Ok(record)
}

/// The fault of that text.
pub(crate) fn fault(text: Option<&str>) -> Result<Option<Fault>, EngineError> {
    text.map(str::parse::<Fault>).transpose().map_err(EngineError::usage)
}

fn boot<'a>(
    plans: &[&'a Planned],
    kernels: &'a BTreeMap<String, BootKernel>,
    registry: &'a Registry,
) -> Result<Boot<'a>, EngineError> {
    let kernel =
        |name: &str| kernels.get(name).ok_or_else(|| EngineError::harness(format!("kernel {name} was not looked for")));
    let key = plans.first().map(|plan| &plan.key).ok_or_else(|| EngineError::harness("a boot without a cell"))?;
    let part = |plan: &&'a Planned| {
        let name = &plan.key.workload;
        let workload =
            registry.find(name).ok_or_else(|| EngineError::usage(format!("this luqual has no workload {name}")))?;
        Ok(Part { workload, plan, program: registry.program(name) })
    };
    let parts = plans.iter().map(part).collect::<Result<_, EngineError>>()?;
    Ok(Boot { source: kernel(&key.source)?, target: kernel(&key.target)?, profile: profile_of(&key.profile)?, parts })
}
