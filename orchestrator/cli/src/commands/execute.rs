//! From chosen cells to a run's folder: kernels, machines, journal, reports. What `run` and `qualify` share.

use super::KernelSource;
use super::attended::{Attended, patient, what_to_type};
use super::bundle::Unpacked;
use super::go_on::{Asked, new_run};
use super::history::History;
use super::machine::{MachineChoice, launcher};
use super::plan;
use super::registry::Registry;
use super::report::{evidence, read, write_report};
use super::selection::{Chosen, profile_of};
use crate::error::{CliError, Exit};
use crate::progress::Shown;
use clap::{Args, ValueEnum};
use luqual_config::{Budget, Deadlines};
use luqual_kernels::{Kernel, Store};
use luqual_model::{CellKey, Event, HostInfo, Phase, Planned, Repeated, Run, Settings, Stamped, Vmcore, VmcoreOf};
use luqual_reports::{Display, Evidence, Record};
use luqual_runner::{
    Attempts, Boot, BootKernel, CoresTaken, CutOff, Dispatcher, FAULT_SYNTAX, Fault, Host, JOURNAL, Part, Person,
    QemuLab, Seed, Slots, run_all, run_boot,
};
use luqual_vm::{AccelFound, Qemu, WorkFolder};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokio::sync::{mpsc, watch};

/// What wrote a record.
pub(crate) const TOOL: &str = concat!("luqual ", env!("CARGO_PKG_VERSION"), " (", env!("LUQUAL_COMMIT"), ")");

/// How cells are run, and where their evidence goes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Execution {
    /// The run's folder; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report_dir: Option<PathBuf>,
    /// Machines at once [default: by processors and free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Try a cell that is not as expected up to N times more; where attempts differ it is flaky, never green
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,
    /// What contents and delays are drawn from, to draw them again [default: a new number; run.json has it]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    kept: Kept,
    /// Show the guest's console on standard error while it runs, of one machine at a time
    #[arg(long)]
    pub(crate) console: bool,
    /// Let each cell do the same every time, instruction by instruction, from its seed: the guest is emulated, with one processor, and
    /// nobody talks to it; cells with devices or virtual machines are skipped
    #[arg(long)]
    pub(crate) deterministic: bool,
    /// Plant a fault in each cell, to see that it is found
    #[arg(long, value_name = "FAULT", long_help = plant_help())]
    pub(crate) plant: Option<String>,
    #[command(flatten)]
    pub(crate) machine: MachineChoice,
    #[command(flatten)]
    pub(crate) kernels: KernelSource,
}

impl Execution {
    /// Machines at once, if that is said.
    fn jobs(&self) -> Result<Option<u64>, CliError> {
        match (self.console, self.jobs) {
            (true, Some(2..)) => Err(CliError::usage("the consoles of several machines cannot be told apart")
                .hint("with --console leave out --jobs, or say --jobs 1")),
            (true, _) => Ok(Some(1)),
            (false, jobs) => Ok(jobs),
        }
    }
}

/// What is kept of machines, beside their logs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Keep each machine's memory and initramfs (1 GiB) in its cell's folder
    #[arg(long)]
    keep: bool,
    /// Keep the memory of machines as an ELF core, for drgn or crash: of those whose kernel panicked or hung, or of all
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "crashed", require_equals = true)]
    vmcore: Option<WhichVmcore>,
    /// How much all cores of the run may take on disk, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8192, requires = "vmcore")]
    vmcore_limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhichVmcore {
    /// Where a kernel panicked or hung
    Crashed,
    /// Of each cell
    All,
}

impl Kept {
    /// In these settings.
    fn set(self, settings: &mut Settings) {
        settings.keep = self.keep;
        settings.vmcore = self.vmcore.map(|which| Vmcore {
            of: match which {
                WhichVmcore::Crashed => VmcoreOf::Crashed,
                WhichVmcore::All => VmcoreOf::All,
            },
            limit_mib: self.vmcore_limit,
        });
    }
}

fn plant_help() -> String {
    format!("Plant a fault in each cell, to see that it is found: {FAULT_SYNTAX}")
}

/// A run that ended, or that the user ended before it began.
pub(crate) enum Ended {
    /// Its record and its folder.
    Run(Box<Record>, PathBuf),
    /// Nothing was started.
    Interrupted,
}

/// What becomes of a run that is in the folder already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    /// It is an error.
    Refused,
    /// It goes on where it was cut off, if it is the one that is asked for.
    GoesOn,
}

/// Runs what was chosen, each cell `repeat` times. Everything that can be wrong is looked at before anything is started.
pub(crate) async fn execute(
    store: &Store,
    chosen: &Chosen,
    options: &Execution,
    repeat: u32,
    there: There,
) -> Result<Ended, CliError> {
    // Looked at before anything is built.
    let _: Option<Fault> = fault(options.plant.as_deref())?;
    let slots = plan::slots(options.jobs()?, chosen.budget);
    chosen.cells.iter().try_for_each(|key| plan::fits(key, slots).map(drop))?;
    let (qemu, accel) = options.machine.find_for(options.deterministic).await?;
    let (id, folder) = create_folder(options.report_dir.as_deref(), there)?;
    if there == There::GoesOn {
        // Before a kernel is built for it.
        Asked::of(chosen, options, repeat, None, store).find(&folder)?;
    }
    let interrupt = interrupt_on_ctrl_c();
    let looking = find_kernels(store, chosen.cells.iter());
    let Some(kernels) = before_it_begins(&folder, &interrupt, looking).await? else { return Ok(Ended::Interrupted) };
    let asked = Asked::of(chosen, options, repeat, Some(&kernels), store);
    if there == There::GoesOn {
        if let Some(begun) = asked.find(&folder)? {
            made_with_the_same(
                &begun.run,
                &qemu,
                (&begun.run.host.accel, &accel),
                Since::Refused("or name another folder"),
            )?;
            return resume(&folder, store, &options.machine).await;
        }
        has_no_run(&folder)?;
    }
    let kernels = all_bootable(kernels);
    let mut run = asked.run;
    (run.id, run.host) = (id, host_info(&qemu, &accel));
    let deadlines = chosen.deadlines.stretched(accel.accel.deadline_factor());
    run.settings.deadlines = Phase::ALL.into_iter().map(|phase| (phase, deadlines.of(phase).as_secs())).collect();
    (run.settings.jobs, run.settings.memory_mib) = (slots.jobs, chosen.budget.memory_mib);
    options.kept.set(&mut run.settings);
    let registry = &chosen.registry;
    let person = Attended { console: options.console, gdb: false }.person(&|_| {});
    let stage =
        Stage { kernels: &kernels, registry, qemu: &qemu, accel: &accel, folder: &folder, slots, person, interrupt };
    let record = run_whole(&run, stage).await?;
    Ok(Ended::Run(Box::new(record), folder))
}

/// One attempt at a cell of an earlier run, with the cells that were in its boot.
pub(crate) struct Again<'a> {
    /// The run that it was made in.
    pub(crate) run: &'a Run,
    /// Which attempt, and at which cell.
    pub(crate) repeated: Repeated,
    /// The cells of its boot, in plan order.
    pub(crate) planned: Vec<Planned>,
    /// Whether it is made even with something that has changed since.
    pub(crate) anyway: bool,
    /// Whether it does the same every time.
    pub(crate) deterministic: bool,
    /// What whoever makes it again wants to see.
    pub(crate) attended: Attended,
}

/// Makes an attempt again, in a run of its own: all that it is made with comes from the earlier run.
pub(crate) async fn repeat(
    again: Again<'_>,
    images: Images<'_>,
    machine: &MachineChoice,
    report_dir: Option<&Path>,
    kept: Kept,
) -> Result<Ended, CliError> {
    fault(again.run.settings.plant.as_deref())?;
    let (qemu, accel) = machine.find_for(again.deterministic).await?;
    let since = if again.anyway { Since::Told } else { Since::Refused("--anyway takes what is there today") };
    // What becomes deterministic is emulated, whatever it was.
    let then = if again.deterministic { accel.accel.word() } else { &again.run.host.accel };
    made_with_the_same(again.run, &qemu, (then, &accel), since)?;
    let registry = Registry::of_run(&again.run.programs)?;
    let slots = plan::slots(Some(1), Budget::default());
    again.planned.iter().try_for_each(|cell| plan::fits(&cell.key, slots).map(drop))?;
    let (id, folder) = create_folder(report_dir, There::Refused)?;
    let interrupt = interrupt_on_ctrl_c();
    let looking = kernels_of(again.run, images, again.planned.iter(), since);
    let Some(mut kernels) = before_it_begins(&folder, &interrupt, looking).await? else {
        return Ok(Ended::Interrupted);
    };
    again.attended.prepare(&mut kernels);
    // One pair of kernels: those of the boot.
    let key = again.planned.first().map(|cell| cell.key.clone());
    let pair = key.and_then(|key| Some((kernels.get(&key.source)?.clone(), kernels.get(&key.target)?.clone())));
    let wait = |socket: &Path| {
        pair.iter().for_each(|(source, target)| eprint!("{}", what_to_type(socket, source, Some(target))));
    };
    let mut run = new_run(&kernels);
    let kernels = all_bootable(kernels);
    (run.id, run.host) = (id, host_info(&qemu, &accel));
    run.programs = registry.programs(again.planned.iter().map(|cell| cell.key.workload.as_str()));
    run.planned = again.planned;
    let (repeats, jobs) = (Some(again.repeated), slots.jobs);
    let deterministic = again.deterministic;
    run.settings = Settings {
        jobs,
        memory_mib: None,
        retries: 0,
        repeat: 1,
        deterministic,
        repeats,
        ..again.run.settings.clone()
    };
    kept.set(&mut run.settings);
    let registry = &registry;
    let person = again.attended.person(&wait);
    let stage =
        Stage { kernels: &kernels, registry, qemu: &qemu, accel: &accel, folder: &folder, slots, person, interrupt };
    let record = run_whole(&run, stage).await?;
    Ok(Ended::Run(Box::new(record), folder))
}

/// Runs all of a new run.
async fn run_whole(run: &Run, stage: Stage<'_>) -> Result<Record, CliError> {
    let is_attended = stage.person.console.is_some() || stage.person.gdb.is_some();
    let mut display = if is_attended { Display::plain() } else { Display::new() };
    let mut observer = |stamped: &Stamped| display.event(stamped);
    let dispatcher = Dispatcher::create(stage.folder, run, &mut observer).map_err(journal_error(stage.folder))?;
    let cells: Vec<&Planned> = run.planned.iter().collect();
    run_cells(dispatcher, &run.settings, &cells, stage).await
}

/// Goes on with the run in `folder`: with the same kernels, settings and cells, whatever today's configuration says.
pub(crate) async fn resume(folder: &Path, store: &Store, machine: &MachineChoice) -> Result<Ended, CliError> {
    let cut_off = CutOff::read(folder).map_err(|error| CliError::usage(format!("{}: {error}", folder.display())))?;
    if cut_off.left.is_empty() && cut_off.run.duration_us.is_some() {
        eprintln!("{}: every cell of the run has ended: nothing is left to run", folder.display());
        return Ok(Ended::Run(Box::new(write_reports(folder)?), folder.to_owned()));
    }
    let run = cut_off.run.clone();
    let (qemu, accel) = machine.find_for(run.settings.deterministic).await?;
    let since = Since::Refused("or start a new run");
    made_with_the_same(&run, &qemu, (&run.host.accel, &accel), since)?;
    let interrupt = interrupt_on_ctrl_c();
    let left: Vec<&Planned> = cut_off.left.iter().map(|number| &run.planned[*number]).collect();
    let kernels = tokio::select! {
        kernels = kernels_of(&run, Images::Store(store), left.iter().copied(), since) => kernels?,
        () = interrupted(interrupt.clone()) => return Ok(Ended::Interrupted),
    };
    let kernels = all_bootable(kernels);
    let registry = Registry::of_run(&run.programs)?;
    for id in &cut_off.stale {
        let _ = fs::remove_dir_all(folder.join("cells").join(id.to_string()));
    }
    let mut display = Display::new();
    let mut observer = |stamped: &Stamped| display.event(stamped);
    let dispatcher = cut_off.go_on(&mut observer).map_err(journal_error(folder))?;
    let slots = plan::slots(Some(run.settings.jobs), Budget { jobs: None, memory_mib: run.settings.memory_mib });
    let person = Person::default();
    let stage =
        Stage { kernels: &kernels, registry: &registry, qemu: &qemu, accel: &accel, folder, slots, person, interrupt };
    let record = run_cells(dispatcher, &run.settings, &left, stage).await?;
    Ok(Ended::Run(Box::new(record), folder.to_owned()))
}

/// What becomes of it when something is not what it was when a run was started.
#[derive(Clone, Copy)]
pub(crate) enum Since {
    /// It is an error; and what else can be done.
    Refused(&'static str),
    /// It is told, and taken.
    Told,
}

impl Since {
    fn differs(self, message: &str, hint: &str) -> Result<(), CliError> {
        match self {
            Self::Refused(or) => Err(CliError::usage(message).hint(format!("{hint}; {or}"))),
            Self::Told => {
                eprintln!("warning: {message}");
                Ok(())
            }
        }
    }
}

/// The rest of a run, and what is repeated of one, has to be made with what its beginning was made with.
fn made_with_the_same(
    run: &Run,
    qemu: &Qemu,
    (accel_then, accel): (&str, &AccelFound),
    since: Since,
) -> Result<(), CliError> {
    let version = qemu.version.to_string();
    for (what, then, now, hint) in [
        ("luqual", run.tool.as_str(), TOOL, "take the luqual that started it".to_owned()),
        ("QEMU", &run.host.qemu, &version, "name that QEMU with --qemu".to_owned()),
        ("accelerator", accel_then, accel.accel.word(), format!("--accel {accel_then}")),
    ] {
        if then != now {
            since.differs(&format!("the run was started with another {what}: {then}, this is {now}"), &hint)?;
        }
    }
    Ok(())
}

/// Where the kernels of an earlier run come from.
#[derive(Clone, Copy)]
pub(crate) enum Images<'a> {
    /// From the store, by their names. What is missing is built.
    Store(&'a Store),
    /// From a bundle, by their digests.
    Bundle(&'a Unpacked),
}

/// The kernels of these cells, which have to be those that the run was started with.
pub(crate) async fn kernels_of<'a>(
    run: &Run,
    images: Images<'_>,
    cells: impl Iterator<Item = &'a Planned>,
    since: Since,
) -> Result<BTreeMap<String, Kernel>, CliError> {
    let cells = cells.map(|planned| &planned.key);
    let store = match images {
        Images::Store(store) => store,
        Images::Bundle(bundle) => {
            let names: BTreeSet<&String> = cells.flat_map(|key| [&key.source, &key.target]).collect();
            return names.into_iter().map(|name| Ok((name.clone(), bundle.kernel(name)?))).collect();
        }
    };
    let mut kernels = find_kernels(store, cells).await?;
    for (name, kernel) in &mut kernels {
        let then = run.kernels.get(name);
        let (was, is) = (then.map_or("", |info| &info.image_sha256), &kernel.info.image_sha256);
        if was != is {
            let hint = format!("its image was {was}, and is {is}");
            since.differs(&format!("{name} is not the kernel that the run was started with"), &hint)?;
        }
        if let Some(then) = then {
            // It is the catalog's, and may be another today.
            kernel.info.command_line.clone_from(&then.command_line);
        }
    }
    Ok(kernels)
}

pub(crate) fn fault(text: Option<&str>) -> Result<Option<Fault>, CliError> {
    text.map(str::parse::<Fault>).transpose().map_err(CliError::usage)
}

fn journal_error(folder: &Path) -> impl FnOnce(std::io::Error) -> CliError {
    CliError::file(folder.join(JOURNAL).display().to_string())
}

/// The kernels of these cells. What is missing is built.
pub(crate) async fn find_kernels(
    store: &Store,
    cells: impl Iterator<Item = &CellKey>,
) -> Result<BTreeMap<String, Kernel>, CliError> {
    let mut kernels = BTreeMap::new();
    for name in cells.flat_map(|key| [&key.source, &key.target]) {
        if !kernels.contains_key(name) {
            kernels.insert(name.clone(), store.resolve(name, &Shown::new()).await?);
        }
    }
    Ok(kernels)
}

/// The runner is given no more of a kernel than it boots.
pub(crate) fn bootable(Kernel { info, image, .. }: Kernel) -> BootKernel {
    BootKernel { info, image }
}

fn all_bootable(kernels: BTreeMap<String, Kernel>) -> BTreeMap<String, BootKernel> {
    kernels.into_iter().map(|(name, kernel)| (name, bootable(kernel))).collect()
}

/// With what cells are run.
struct Stage<'a> {
    kernels: &'a BTreeMap<String, BootKernel>,
    registry: &'a Registry,
    qemu: &'a Qemu,
    accel: &'a AccelFound,
    folder: &'a Path,
    slots: Slots,
    person: Person<'a>,
    interrupt: watch::Receiver<bool>,
}

/// Runs these cells; then writes the reports of the whole run, from its journal.
async fn run_cells(
    dispatcher: Dispatcher<'_>,
    settings: &Settings,
    planned: &[&Planned],
    stage: Stage<'_>,
) -> Result<Record, CliError> {
    let Stage { kernels, registry, qemu, accel, folder, slots, person, interrupt } = stage;
    let fault = fault(settings.plant.as_deref())?;
    // A fault is planted in a workload, not in a boot; and what is deterministic does not depend on what it is run with.
    let alone = fault.is_some() || settings.deterministic;
    let (boots, loads) = plan::boots_and_loads(planned, registry, alone, slots, &History::load())?;
    let plans = |boot: &Vec<usize>| boot.iter().map(|number| planned[*number]).collect::<Vec<&Planned>>();
    let boots =
        boots.iter().map(|it| boot(&plans(it), kernels, registry)).collect::<Result<Vec<Boot<'_>>, CliError>>()?;
    let mut deadlines = Deadlines::default();
    settings.deadlines.iter().for_each(|(phase, seconds)| deadlines.set(*phase, *seconds));
    if person.gdb.is_some() {
        deadlines = patient(deadlines);
    }

    let (work, swept) = WorkFolder::create()?;
    if swept > 0 {
        eprintln!("removed {swept} working folder(s) that a killed luqual left behind");
    }
    let launcher = launcher()?;
    let lab = QemuLab { launcher: &launcher, qemu, accel: accel.accel, work: &work };
    let host = &Host {
        lab: &lab,
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
        interrupt: interrupt.clone(),
    };
    let start = |index: usize, events: mpsc::UnboundedSender<Event>| {
        let boot = &boots[index];
        async move { run_boot(boot, host, &events).await }
    };
    run_all(dispatcher, &loads, slots, &interrupt, start).await.map_err(journal_error(folder))?;
    let record = write_reports(folder)?;
    History::add(&record);
    Ok(record)
}

/// The reports of the whole run, from its journal.
pub(crate) fn write_reports(folder: &Path) -> Result<Record, CliError> {
    let record = read(folder)?;
    write_json(folder, &record)?;
    write_html(folder, &record)?;
    Ok(record)
}

fn boot<'a>(
    plans: &[&'a Planned],
    kernels: &'a BTreeMap<String, BootKernel>,
    registry: &'a Registry,
) -> Result<Boot<'a>, CliError> {
    let kernel =
        |name: &str| kernels.get(name).ok_or_else(|| CliError::harness(format!("kernel {name} was not looked for")));
    let key = plans.first().map(|plan| &plan.key).ok_or_else(|| CliError::harness("a boot without a cell"))?;
    let part = |plan: &&'a Planned| {
        let name = &plan.key.workload;
        let workload =
            registry.find(name).ok_or_else(|| CliError::usage(format!("this luqual has no workload {name}")))?;
        Ok(Part { workload, plan, program: registry.program(name) })
    };
    let parts = plans.iter().map(part).collect::<Result<_, CliError>>()?;
    Ok(Boot { source: kernel(&key.source)?, target: kernel(&key.target)?, profile: profile_of(&key.profile)?, parts })
}

pub(crate) async fn interrupted(mut interrupt: watch::Receiver<bool>) {
    if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending().await
    }
}

/// The run's id and folder.
pub(crate) fn create_folder(asked: Option<&Path>, there: There) -> Result<(String, PathBuf), CliError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let id = format!("{now}-{:04x}", std::process::id() & 0xffff);
    let folder = asked.map_or_else(|| Path::new("luqual-runs").join(&id), Path::to_owned);
    if there == There::Refused {
        has_no_run(&folder)?;
    }
    // QEMU takes it for the place of its process id in the name of a log, and has no way to write it out (util/log.c).
    if folder.to_string_lossy().contains('%') {
        return Err(CliError::usage(format!(
            "{}: QEMU writes no log into a folder with a % in its name",
            folder.display()
        ))
        .hint("name another folder"));
    }
    fs::create_dir_all(&folder).map_err(CliError::file(folder.display()))?;
    Ok((id, folder))
}

fn has_no_run(folder: &Path) -> Result<(), CliError> {
    // The last is what a shell leaves.
    if ["run.json", JOURNAL, "console.log"].iter().any(|name| folder.join(name).exists()) {
        return Err(CliError::usage(format!("{} has a run in it", folder.display()))
            .hint("name another folder, or remove that one"));
    }
    Ok(())
}

/// What is looked for before a run begins, in whose folder nothing is yet; `None` when the user ended it.
pub(crate) async fn before_it_begins<T>(
    folder: &Path,
    interrupt: &watch::Receiver<bool>,
    looking: impl Future<Output = Result<T, CliError>>,
) -> Result<Option<T>, CliError> {
    let found = tokio::select! {
        found = looking => found.map(Some),
        () = interrupted(interrupt.clone()) => Ok(None),
    };
    if !matches!(found, Ok(Some(_))) {
        remove_if_empty(folder);
    }
    found
}

/// A run that never started leaves no folder behind, unless it has something of the user's in it.
pub(crate) fn remove_if_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
    // The folder of all runs, if this would have been the first.
    let _ = folder.parent().filter(|parent| parent.ends_with("luqual-runs")).map(fs::remove_dir);
}

fn host_info(qemu: &Qemu, accel: &AccelFound) -> HostInfo {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo").lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
        kib.parse::<u64>().ok().map(|kib| kib << 10)
    });
    HostInfo {
        arch: std::env::consts::ARCH.to_owned(),
        release: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
        qemu: qemu.version.to_string(),
        accel: accel.accel.word().to_owned(),
        accel_reason: accel.reason.clone(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: memory.unwrap_or_default(),
    }
}

/// The first Ctrl-C ends the run in order; the second one is not waited for.
pub(crate) fn interrupt_on_ctrl_c() -> watch::Receiver<bool> {
    // One for all runs of a command.
    static INTERRUPT: OnceLock<watch::Receiver<bool>> = OnceLock::new();
    let listen = || {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                eprintln!("ending the run; once more to end at once");
                // Nobody listens any more once the run has ended.
                let _ = sender.send(true);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(Exit::Interrupted as i32);
            }
        });
        receiver
    };
    INTERRUPT.get_or_init(listen).clone()
}

pub(crate) fn write_json(folder: &Path, record: &Record) -> Result<(), CliError> {
    write_report(&folder.join("run.json"), |to| luqual_reports::json(record, to))
}

pub(crate) fn write_html(folder: &Path, record: &Record) -> Result<(), CliError> {
    write_report(&folder.join("report.html"), |to| {
        luqual_reports::html(record, Evidence { read: &evidence(folder), linked: true }, to)
    })
}
