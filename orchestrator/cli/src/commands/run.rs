//! `luqual run`: from names to a run's folder.

use super::KernelSource;
use super::machine::MachineChoice;
use crate::error::{CliError, Exit};
use crate::progress::Shown;
use clap::Args;
use luqual_config::Deadlines;
use luqual_config::matrix::{self, Known, Matrix};
use luqual_model::{CellRecord, Event, HostInfo, Outcome, RunRecord, Stamped, Status};
use luqual_protocol::{WORKLOADS, Workload};
use luqual_reports::Display;
use luqual_runner::{BootKernel, Cell, Dispatcher, FAULT_SYNTAX, Fault, Host, run_cell};
use luqual_vm::{AccelFound, Profile, Qemu, WorkFolder, profile};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// What to run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  luqual run --source 7.2.12 --target 7.3.4
  luqual run --source 7.3.4 --target .            (a kernel that was built in this folder)
  luqual run --matrix quick --report-dir out
  luqual run --source 7.2.12 --target 7.3.4 --plant flip:64m:3:17    (see the tool find a corruption)

Kernels of the catalog that are not built yet are built first. The run's folder has run.json, report.html, events.jsonl
(written as it happens) and, per cell, the console, QEMU's command line and messages, and what the agent said.

Exit codes: 0 every cell as expected; 1 some cell is not, or none ran; 2 a mistake in what was asked for;
3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Run {
    /// The kernel before the kexec: a name of `luqual kernels list`, or a path
    #[arg(long, value_name = "KERNEL", requires = "target", required_unless_present = "matrix")]
    source: Option<String>,
    /// The kernel after it
    #[arg(long, value_name = "KERNEL", requires = "source")]
    target: Option<String>,
    /// A named matrix of matrix.toml, instead of one pair
    #[arg(long, value_name = "NAME", conflicts_with_all = ["source", "target"])]
    matrix: Option<String>,
    /// Where matrices are defined [default: luqual's own]
    #[arg(long, value_name = "FILE", requires = "matrix")]
    matrix_file: Option<PathBuf>,
    /// Which workloads, by name or glob; can be repeated [default: all, or the matrix's]
    #[arg(long, value_name = "GLOB")]
    workload: Vec<String>,
    /// The machine, instead of the one that each workload declares
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The run's folder; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    /// Keep each machine's memory and initramfs (1 GiB) in its cell's folder
    #[arg(long)]
    keep: bool,
    /// Plant a fault in each cell, to see that it is found
    #[arg(long, value_name = "FAULT", long_help = plant_help())]
    plant: Option<String>,
    #[command(flatten)]
    machine: MachineChoice,
    #[command(flatten)]
    kernels: KernelSource,
}

fn plant_help() -> String {
    format!("Plant a fault in each cell, to see that it is found: {FAULT_SYNTAX}")
}

/// Runs it.
pub(crate) async fn run(command: &Run) -> Result<Exit, CliError> {
    // Everything that can be wrong is looked at before anything is built or started.
    let store = command.kernels.store()?;
    let plan = plan(command, &store.catalog().versions())?;
    let plant = command.plant.as_deref().map(str::parse::<Fault>).transpose().map_err(CliError::usage)?;
    let profile = command.profile.as_deref().map(profile_of).transpose()?;
    let (qemu, accel) = command.machine.find().await?;
    let (id, folder) = create_folder(command.report_dir.as_deref())?;

    let interrupt = interrupt_on_ctrl_c();
    let mut kernels: BTreeMap<String, BootKernel> = BTreeMap::new();
    for name in plan.pairs.iter().flat_map(|(source, target)| [source, target]) {
        if !kernels.contains_key(name) {
            let mut interrupted = interrupt.clone();
            let shown = Shown::new();
            let kernel = tokio::select! {
                kernel = store.resolve(name, &shown) => kernel,
                _ = interrupted.wait_for(|interrupted| *interrupted) => {
                    remove_if_empty(&folder);
                    return Ok(Exit::Interrupted);
                }
            };
            let kernel = kernel.inspect_err(|_| remove_if_empty(&folder))?;
            kernels.insert(name.clone(), BootKernel { info: kernel.info, image: kernel.image });
        }
    }
    let cells: Vec<Cell<'_>> = plan
        .pairs
        .iter()
        .flat_map(|(source, target)| plan.workloads.iter().map(move |workload| (source, target, *workload)))
        .filter_map(|(source, target, workload)| {
            let profile = profile.or_else(|| profile::find(workload.profile))?;
            Some(Cell { source: kernels.get(source)?, target: kernels.get(target)?, profile, workload })
        })
        .collect();

    let mut record = RunRecord::new(
        id,
        concat!("luqual ", env!("CARGO_PKG_VERSION"), " (", env!("LUQUAL_COMMIT"), ")").to_owned(),
        std::env::args().collect(),
        jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        host_info(&qemu, &accel),
    );
    record.kernels = kernels.iter().map(|(name, kernel)| (name.clone(), kernel.info.clone())).collect();
    record.planned = cells.iter().map(Cell::key).collect();

    let (work, swept) = WorkFolder::create()?;
    if swept > 0 {
        eprintln!("removed {swept} working folder(s) that a killed luqual left behind");
    }
    let host = Host {
        launcher: &super::machine::launcher()?,
        qemu: &qemu,
        accel: accel.accel,
        work: &work,
        folder: &folder,
        deadlines: plan.deadlines.stretched(accel.accel.deadline_factor()),
        keep: command.keep,
        plant,
        interrupt: interrupt.clone(),
    };
    let record = run_cells(&cells, &host, record).await?;
    write_reports(&folder, &record)?;
    print!("{}\n{}", luqual_reports::grid(&record), luqual_reports::summary(&record));
    println!("report: {}", folder.join("report.html").display());
    Ok(exit_of(&record))
}

/// What is to run, before kernels are looked for.
struct Plan {
    pairs: Vec<(String, String)>,
    workloads: Vec<&'static Workload>,
    deadlines: Deadlines,
}

fn plan(command: &Run, versions: &[&str]) -> Result<Plan, CliError> {
    let (pairs, mut globs, deadlines) = match (&command.matrix, &command.source, &command.target) {
        (Some(name), _, _) => {
            let matrix = find_matrix(name, command.matrix_file.as_deref(), versions)?;
            let owned = |(source, target): (&str, &str)| (source.to_owned(), target.to_owned());
            (matrix.pairs().into_iter().map(owned).collect(), matrix.workloads, matrix.deadlines)
        }
        (None, Some(source), Some(target)) => {
            (vec![(source.clone(), target.clone())], vec!["*".to_owned()], Deadlines::default())
        }
        _ => return Err(CliError::usage("nothing to run").hint("--source and --target, or --matrix")),
    };
    if !command.workload.is_empty() {
        globs.clone_from(&command.workload);
    }
    let names = || WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
    for glob in &globs {
        if !WORKLOADS.iter().any(|workload| matrix::matches(glob, workload.name)) {
            return Err(CliError::usage(format!("no workload matches `{glob}`")).hint(format!("there are {}", names())));
        }
    }
    let wanted = |workload: &&Workload| globs.iter().any(|glob| matrix::matches(glob, workload.name));
    Ok(Plan { pairs, workloads: WORKLOADS.iter().filter(wanted).collect(), deadlines })
}

fn find_matrix(name: &str, file: Option<&Path>, versions: &[&str]) -> Result<Matrix, CliError> {
    let workloads: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    let known = Known { kernels: versions, workloads: &workloads };
    let matrices = match file {
        None => matrix::read("matrix.toml", matrix::EMBEDDED, &known)?,
        Some(file) => {
            let text =
                fs::read_to_string(file).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
            matrix::read(&file.display().to_string(), &text, &known)?
        }
    };
    let names: Vec<String> = matrices.iter().map(|matrix| matrix.name.clone()).collect();
    matrices.into_iter().find(|matrix| matrix.name == name).ok_or_else(|| {
        CliError::usage(format!("there is no matrix `{name}`")).hint(format!("there are {}", names.join(", ")))
    })
}

fn profile_of(name: &str) -> Result<&'static Profile, CliError> {
    profile::find(name).ok_or_else(|| {
        let names: Vec<&str> = profile::PROFILES.iter().map(|profile| profile.name).collect();
        CliError::usage(format!("there is no profile `{name}`")).hint(format!("there are {}", names.join(", ")))
    })
}

/// The run's id and folder.
fn create_folder(asked: Option<&Path>) -> Result<(String, PathBuf), CliError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let id = format!("{now}-{:04x}", std::process::id() & 0xffff);
    let folder = asked.map_or_else(|| Path::new("luqual-runs").join(&id), Path::to_owned);
    if ["run.json", "events.jsonl"].iter().any(|name| folder.join(name).exists()) {
        return Err(CliError::usage(format!("{} has a run in it", folder.display()))
            .hint("name another folder, or remove that one"));
    }
    fs::create_dir_all(&folder).map_err(CliError::file(folder.display()))?;
    Ok((id, folder))
}

/// A run that never started leaves no folder behind, unless it has something of the user's in it.
fn remove_if_empty(folder: &Path) {
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
fn interrupt_on_ctrl_c() -> watch::Receiver<bool> {
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
}

/// One cell after the other; events are taken while they run.
async fn run_cells(cells: &[Cell<'_>], host: &Host<'_>, start: RunRecord) -> Result<RunRecord, CliError> {
    let mut display = Display::new();
    let mut observer = |stamped: &Stamped| display.event(stamped);
    let journal = host.folder.join("events.jsonl");
    let mut dispatcher =
        Dispatcher::create(host.folder, Instant::now(), &mut observer).map_err(CliError::file(journal.display()))?;
    dispatcher.take(Event::RunStarted { run: Box::new(start) });
    let (events, mut taken) = mpsc::unbounded_channel();
    let cells = async {
        for cell in cells {
            match run_cell(*cell, host, &events).await {
                Some(record) => drop(events.send(Event::CellFinished { record: Box::new(record) })),
                None => break,
            }
        }
        let interrupted = *host.interrupt.borrow();
        let _ = events.send(Event::RunFinished { interrupted });
        drop(events);
    };
    let dispatch = async {
        while let Some(event) = taken.recv().await {
            dispatcher.take(event);
        }
        dispatcher.finish()
    };
    let ((), record) = tokio::join!(cells, dispatch);
    let record = record.map_err(CliError::file(journal.display()))?;
    record.ok_or_else(|| CliError::harness("the run has no record"))
}

fn write_reports(folder: &Path, record: &RunRecord) -> Result<(), CliError> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(CliError::file(path.display()))
    };
    write("run.json", luqual_reports::json(record).map_err(CliError::file("run.json"))?)?;
    let evidence = |cell: &CellRecord, name: &str| {
        let bytes = fs::read(folder.join(&cell.folder).join(name)).ok()?;
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    };
    write("report.html", luqual_reports::html(record, &evidence))
}

/// A harness failure says that nothing is known; nothing ran, or not all as expected, is 1.
fn exit_of(record: &RunRecord) -> Exit {
    let any = |outcome| record.cells.iter().any(|cell| cell.outcome == outcome);
    let ran = record.cells.iter().any(|cell| cell.outcome != Outcome::Skipped);
    if record.interrupted {
        Exit::Interrupted
    } else if any(Outcome::HarnessFailed) {
        Exit::Harness
    } else if !ran || record.cells.iter().any(|cell| cell.status != Status::Expected) {
        Exit::NotAsExpected
    } else {
        Exit::Ok
    }
}
