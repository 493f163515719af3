//! Runs cells: their boots on this host, the journal, and then the reports from the journal.

use crate::context::Context;
use crate::durations::Durations;
use crate::error::{EngineError, ErrorKind};
use crate::interactive::patient;
use crate::machine::Found;
use crate::notice::Notice;
use crate::plan;
use crate::registry::Registry;
use crate::report_files::write_reports;
use crate::supply::Supply;
use luqual_config::Deadlines;
use luqual_model::{CellId, CellKey, Event, PlannedCell, Profile, RunInfo, Settings, Stamped};
use luqual_protocol::Workload;
use luqual_reports::Record;
use luqual_runner::{
    Arrival, Attempts, Boot, BootCell, BootKernel, CoresTaken, Dispatcher, Fault, Host, InteractiveOptions, JOURNAL,
    Program, Seed, Slots, run_all, run_boot,
};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use tokio::sync::mpsc;

/// What the cells of a run need.
pub(crate) struct Stage<'a> {
    pub(crate) supply: Supply<'a>,
    pub(crate) registry: &'a Registry,
    pub(crate) found: &'a Found,
    pub(crate) folder: &'a Path,
    pub(crate) slots: Slots,
    pub(crate) person: InteractiveOptions<'a>,
    /// Cells that share no boot: their evidence may not get the name of a boot whose evidence others still have.
    pub(crate) alone: BTreeSet<CellId>,
}

/// Runs all cells of a new run.
pub(crate) async fn run_whole(context: &Context<'_>, run: &RunInfo, stage: Stage<'_>) -> Result<Record, EngineError> {
    let mut observer = |stamped: &Stamped| context.tell(Notice::Event(stamped));
    let journal = stage.folder.join(JOURNAL);
    let dispatcher = Dispatcher::create(stage.folder, run, &mut observer).map_err(EngineError::named(journal))?;
    run_cells(context, dispatcher, &run.settings, stage).await
}

/// Runs the cells of the supply, and then writes the reports of the whole run from its journal.
pub(crate) async fn run_cells(
    context: &Context<'_>,
    dispatcher: Dispatcher<'_>,
    settings: &Settings,
    stage: Stage<'_>,
) -> Result<Record, EngineError> {
    let Stage { mut supply, registry, found, folder, slots, person, alone } = stage;
    let fault = fault(settings.inject.as_deref())?;
    // A fault is injected into one workload, and a deterministic cell must not depend on others, so that neither
    // shares a boot.
    let all_alone = fault.is_some() || settings.deterministic;
    let alone = |key: &CellKey| all_alone || alone.contains(&key.id());
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
        append: settings.append.clone(),
        fault,
        attempts: Attempts { repeat: settings.repeat.max(1), retries: settings.retries },
        seed: settings.reproduces.as_ref().map_or(Seed::OfRun(settings.seed), |it| Seed::OfAttempt(it.seed)),
        waits: settings.waits(),
        deterministic: settings.deterministic,
        person,
        interrupt: context.interrupt.clone(),
    };
    let durations = Durations::load();
    let (boots, mut failed) = (RefCell::new(Vec::new()), None);
    let arrive = async |events: &mpsc::UnboundedSender<Event>| {
        let arrived = async {
            let Some(cells) = supply.next(events).await? else { return Ok(Arrival::All) };
            let planned: Vec<&PlannedCell> = cells.iter().collect();
            let (groups, loads) = plan::boots_and_loads(&planned, registry, alone, slots, &durations)?;
            for group in groups {
                let group = group.into_iter().map(|number| cells[number].clone()).collect();
                boots.borrow_mut().push(Rc::new(ReadyBoot::of(group, &supply, registry)?));
            }
            Ok(Arrival::Boots(loads))
        };
        arrived.await.unwrap_or_else(|error: EngineError| match error.kind() {
            ErrorKind::Interrupted => Arrival::Interrupted,
            ErrorKind::Usage | ErrorKind::Harness => {
                failed = Some(error);
                Arrival::Failed
            }
        })
    };
    let start = |number: usize, events: mpsc::UnboundedSender<Event>| {
        let boot = boots.borrow()[number].clone();
        async move { run_boot(&boot.boot(), host, &events).await }
    };
    let ran = run_all(dispatcher, slots, arrive, start).await;
    ran.map_err(EngineError::own(folder.join(JOURNAL).display()))?;
    let record = write_reports(folder)?;
    Durations::add(&record);
    match failed {
        None => Ok(record),
        Some(error) => Err(error.and_hint(format!(
            "the cells of the other kernels have run; then resume the run by luqual run --resume {}",
            folder.display()
        ))),
    }
}

/// The cells of a boot whose kernels exist.
struct ReadyBoot<'a> {
    source: Rc<BootKernel>,
    target: Rc<BootKernel>,
    profile: &'a Profile,
    cells: Vec<(PlannedCell, &'static Workload, Option<Program<'a>>)>,
}

impl<'a> ReadyBoot<'a> {
    fn of(cells: Vec<PlannedCell>, supply: &Supply<'_>, registry: &'a Registry) -> Result<Self, EngineError> {
        // All cells of a boot have the same kernels and the same machine.
        let key = cells.first().map(|cell| cell.key.clone());
        let key = key.ok_or_else(|| EngineError::harness("a boot without a cell"))?;
        let part = |cell: PlannedCell| {
            let name = &cell.key.workload;
            let workload =
                registry.find(name).ok_or_else(|| EngineError::usage(format!("this luqual has no workload {name}")))?;
            let program = registry.program(name);
            Ok((cell, workload, program))
        };
        let cells = cells.into_iter().map(part).collect::<Result<_, EngineError>>()?;
        let (source, target) = (supply.kernel(&key.source)?, supply.kernel(&key.target)?);
        Ok(Self { source, target, profile: registry.profiles.find(&key.profile)?, cells })
    }

    fn boot(&self) -> Boot<'_> {
        let parts = self.cells.iter();
        let parts = parts.map(|(plan, workload, program)| BootCell { workload, plan, program: *program });
        Boot { source: &self.source, target: &self.target, profile: self.profile, parts: parts.collect() }
    }
}

/// Parses a fault.
pub(crate) fn fault(text: Option<&str>) -> Result<Option<Fault>, EngineError> {
    text.map(str::parse::<Fault>).transpose().map_err(EngineError::usage)
}
