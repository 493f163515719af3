//! Injects faults that are known, and compares what finds each of them with a table: whether luqual can be believed on
//! this host.

mod expected;
mod fault;
mod table;

pub use expected::{Expected, Observed};
pub use fault::{Injection, SelftestFault};

use crate::context::Context;
use crate::error::{EngineError, ErrorKind};
use crate::folder::{IfExists, of_runs};
use crate::interactive::Interactive;
use crate::kernels::open_store;
use crate::machine::{Found, Machines};
use crate::notice::{Listener, Notice};
use crate::plan::slots;
use crate::request::{Execution, KernelSource, MachineChoice, Otherwise, Pairs, RunRequest, Selection};
use crate::run::run_chosen;
use expected::{differences, word};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use luqual_config::Budget;
use luqual_kernels::Store;
use luqual_model::{CellRecord, Outcome, Phase, matches};
use luqual_runner::{Lab, Waiting};
use luqual_vm::AccelChoice;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The request: which faults, and what they are injected into.
#[derive(Clone, Debug)]
pub struct SelftestRequest {
    /// Globs over the names of faults; if empty, all.
    pub faults: Vec<String>,
    /// The source and the target.
    pub pair: (String, String),
    /// The number of machines at once; `None` for a number from processors and free memory.
    pub jobs: Option<u64>,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
    /// The folder of the boots; `None` for `luqual-runs/selftest-ID`.
    pub report_dir: Option<PathBuf>,
}

/// What came of one fault.
pub struct Tested {
    /// The fault.
    pub fault: &'static SelftestFault,
    /// What was observed; an error says why nothing is said of the fault.
    pub observed: Result<Observed, String>,
    /// How that differs from the table, a line each; empty if the fault was found exactly as the table says.
    pub differences: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// The folder of the evidence.
    pub folder: PathBuf,
}

impl Tested {
    /// Whether the fault was found exactly as the table says.
    pub fn is_found(&self) -> bool {
        self.observed.is_ok() && self.differences.is_empty()
    }
}

/// The faults that match one of the globs; all if there is none. An error if a glob matches none.
pub fn faults(globs: &[String]) -> Result<Vec<&'static SelftestFault>, EngineError> {
    let is_taken = |fault: &&SelftestFault| globs.is_empty() || globs.iter().any(|glob| matches(glob, fault.name));
    let matches_none = |glob: &&String| !table::all().any(|fault| matches(glob, fault.name));
    if let Some(glob) = globs.iter().find(matches_none) {
        let why = format!("no fault is called `{glob}`");
        return Err(EngineError::usage(why).hint("`luqual selftest --list` has the names"));
    }
    Ok(table::all().filter(is_taken).collect())
}

/// Injects the faults, after a clean boot of each workload. `tell` gets each result as it comes.
pub async fn selftest(
    context: &Context<'_>,
    request: &SelftestRequest,
    tell: &dyn Fn(&Tested),
) -> Result<Vec<Tested>, EngineError> {
    let chosen = faults(&request.faults)?;
    let store = open_store(&request.kernels)?;
    let found = request.machine.find(context.machines, false).await?;
    let machines = FoundOnce { machines: context.machines, found };
    let listener = WithoutEvents(context.listener);
    let context = Context { listener: &listener, machines: &machines, ..context.clone() };
    let id = jiff::Timestamp::now().strftime("selftest-%Y%m%d-%H%M%S").to_string();
    let lab = Bench { context: &context, store: &store, request, folder: of_runs(request.report_dir.as_deref(), &id) };
    let at_once = lab.machines_at_once();

    let mut cells: Vec<Place> = chosen.iter().map(|fault| place(fault)).collect();
    cells.sort_unstable();
    cells.dedup();
    let clean = stream::iter(cells).map(|cell| lab.clean(cell)).buffer_unordered(at_once);
    let clean: BTreeMap<Place, Result<(), String>> = clean.try_collect().await?;
    let tested = stream::iter(chosen).map(|fault| lab.test(fault, &clean)).buffer_unordered(at_once);
    tested.inspect_ok(|tested| tell(tested)).try_collect().await
}

/// A workload and its machine.
type Place = (&'static str, Option<&'static str>);

fn place(fault: &SelftestFault) -> Place {
    (fault.workload, fault.profile)
}

/// What the boots have in common.
struct Bench<'a> {
    context: &'a Context<'a>,
    store: &'a Store,
    request: &'a SelftestRequest,
    folder: PathBuf,
}

impl Bench<'_> {
    /// How many machines of the usual size fit.
    fn machines_at_once(&self) -> usize {
        const USUAL_MIB: u64 = 1500;
        let slots = slots(self.request.jobs, Budget::default());
        usize::try_from(slots.jobs.min(slots.memory_mib / USUAL_MIB).max(1)).unwrap_or(1)
    }

    /// Boots a workload without a fault. The inner error says why nothing can be said of faults in it.
    async fn clean(&self, place: Place) -> Result<(Place, Result<(), String>), EngineError> {
        let (workload, profile) = place;
        let name = profile.map_or_else(|| workload.to_owned(), |profile| format!("{workload}.{profile}"));
        let cell = self.boot(place, None, &self.folder.join("clean").join(name), Budget::default()).await?;
        let why = || format!("without a fault {workload} ends {}: {}", cell.outcome, cell.title);
        Ok((place, if cell.survived_clean() { Ok(()) } else { Err(why()) }))
    }

    /// Injects one fault.
    async fn test(
        &self,
        fault: &'static SelftestFault,
        clean: &BTreeMap<Place, Result<(), String>>,
    ) -> Result<Tested, EngineError> {
        let started = Instant::now();
        let mut folder = self.folder.join(fault.name);
        let observed = match clean.get(&place(fault)) {
            Some(Err(why)) => Err(why.clone()),
            _ => Ok(self.inject(fault, &mut folder).await?),
        };
        let differences = observed.as_ref().map_or_else(|_| Vec::new(), |seen| differences(&fault.expected, seen));
        Ok(Tested { fault, observed, differences, took: started.elapsed(), folder })
    }

    /// What comes of a fault. The folder becomes the one of the evidence.
    async fn inject(&self, fault: &SelftestFault, folder: &mut PathBuf) -> Result<Observed, EngineError> {
        let run = |inject, budget| self.boot(place(fault), inject, folder, budget);
        let cell = match fault.injection {
            Injection::Boot(inject) => run(Some(inject), Budget::default()).await?,
            Injection::TwoRunsAtOnce => {
                match tokio::join!(run(None, Budget::default()), run(None, Budget::default())) {
                    (Ok(cell), Err(error)) | (Err(error), Ok(cell)) if cell.survived_clean() => {
                        return refused(error);
                    }
                    (one, other) => one.or(other)?,
                }
            }
            Injection::NoRoom => match run(None, Budget { memory_mib: Some(64), ..Budget::default() }).await {
                Ok(cell) => cell,
                Err(error) => return refused(error),
            },
        };
        folder.push(&cell.folder);
        Ok(Observed::of(&cell))
    }

    /// One cell in a boot of its own, with that budget.
    async fn boot(
        &self,
        place: Place,
        inject: Option<&str>,
        folder: &Path,
        budget: Budget,
    ) -> Result<CellRecord, EngineError> {
        let (workload, profile) = place;
        let (source, target) = self.request.pair.clone();
        let selection = Selection {
            workloads: vec![workload.to_owned()],
            profiles: profile.map(str::to_owned).into_iter().collect(),
            otherwise: Otherwise::Only(workload.to_owned()),
            ..Selection::default()
        };
        let run = RunRequest {
            selection,
            execution: Execution {
                jobs: Some(1),
                seed: Some(SEED),
                inject: inject.map(str::to_owned),
                ..Execution::default()
            },
            machine: self.request.machine.clone(),
            kernels: self.request.kernels.clone(),
            report_dir: Some(folder.to_owned()),
            ..RunRequest::of(Pairs::One(source, target))
        };
        let mut chosen = run.selection.choose(self.store, &run.pairs)?;
        chosen.budget = budget;
        // A hang, and a machine that does not run, are noticed at its phase's deadline.
        let hangs = ["hang:", "stop-qemu:"].into_iter().find_map(|start| inject?.strip_prefix(start));
        if let Some(phase) = hangs.and_then(Phase::from_word) {
            chosen.deadlines.set(phase, HANG_SECONDS);
        }
        let finished =
            run_chosen(self.context, self.store, &chosen, &run, IfExists::Fail, Interactive::default()).await?;
        if finished.record.run.interrupted {
            return Err(EngineError::interrupted());
        }
        let cell = finished.record.cells().next().transpose().map_err(EngineError::own(folder.display()))?;
        cell.ok_or_else(|| EngineError::harness(format!("{}: the boot has no cell", folder.display())))
    }
}

/// What is observed of a run that is refused; an error if the user ended it.
fn refused(error: EngineError) -> Result<Observed, EngineError> {
    match error.kind() {
        ErrorKind::Interrupted => Err(error),
        ErrorKind::Usage | ErrorKind::Harness => Ok(Observed::refused_run(&error.to_string())),
    }
}

/// The seed of all contents: a byte that is cut off or exchanged must not happen to be the one that is expected.
const SEED: u64 = 22;

/// The deadline of a phase in which a kernel hangs, for an accelerated guest.
const HANG_SECONDS: u64 = 3;

/// Machines whose QEMU and accelerator were found before: each boot is a run, and need not look again.
struct FoundOnce<'a> {
    machines: &'a dyn Machines,
    found: Found,
}

impl Machines for FoundOnce<'_> {
    fn find<'a>(&'a self, _: Option<&'a Path>, _: AccelChoice) -> Waiting<'a, Result<Found, EngineError>> {
        Box::pin(async { Ok(self.found.clone()) })
    }

    fn lab<'a>(&'a self, found: &'a Found) -> Result<Box<dyn Lab + 'a>, EngineError> {
        self.machines.lab(found)
    }
}

/// A listener that hears of kernels, and not of each run.
struct WithoutEvents<'a>(&'a dyn Listener);

impl Listener for WithoutEvents<'_> {
    fn hear(&self, notice: Notice<'_>) {
        if !matches!(notice, Notice::Event(_)) {
            self.0.hear(notice);
        }
    }
}

impl Expected {
    /// What has to come, in one line.
    pub fn in_words(&self) -> String {
        in_words(self.outcome, self.probes, self.tainted, self.title)
    }
}

impl Observed {
    /// What came, in one line.
    pub fn in_words(&self) -> String {
        let probes: Vec<&str> = self.probes.iter().map(String::as_str).collect();
        let tainted: Vec<&str> = self.tainted.iter().map(String::as_str).collect();
        in_words(self.outcome, &probes, &tainted, &self.title)
    }
}

fn in_words(outcome: Option<Outcome>, probes: &[&str], tainted: &[&str], title: &str) -> String {
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (probes, tainted, title) {
        ([], [], "" | "*") => word(outcome).to_owned(),
        ([], [], title) => format!("{}: {title}", word(outcome)),
        (probes, [], _) => format!("{}, by {}", word(outcome), quoted(probes)),
        ([], tainted, _) => format!("{}, tainted by {}", word(outcome), quoted(tainted)),
        (probes, tainted, _) => {
            format!("{}, by {}, tainted by {}", word(outcome), quoted(probes), quoted(tainted))
        }
    }
}
