//! `luqual bench`: what the tool costs, as a ratio to a bare shell script in the same run.

use super::KernelSource;
use super::execute::bootable;
use super::machine::{MachineChoice, launcher};
use super::scale;
use crate::error::{CliError, Exit};
use crate::progress::Shown;
use clap::Args;
use luqual_guest::{GuestFile, initramfs};
use luqual_model::{CellKey, CellRecord, Event, Outcome, Planned};
use luqual_protocol::{Kernel, Request, VERSION, find_workload};
use luqual_runner::{Boot, BootKernel, Host, Part, QemuLab, run_boot};
use luqual_vm::{Accel, Mode, Qemu, WorkFolder, kernel_options, profile};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The baseline.
const BARE: &str = include_str!("bench/bare.sh");

/// What to measure.
#[derive(Args, Debug)]
#[command(after_help = "\
Each round runs one cell of luqual and the same kernels and work by a bare shell script around QEMU, one after the
other, and takes the ratio of their times. What counts is the ratio: the seconds are the machine's.

With --cells nothing is booted: so many cells are planned, run on a machine that is not there, and reported, to see what
the tool itself takes of time and memory.")]
pub(crate) struct Bench {
    /// The kernel before the kexec
    #[arg(long, value_name = "KERNEL", default_value = "7.2.12")]
    source: String,
    /// The kernel after it
    #[arg(long, value_name = "KERNEL", default_value = "7.3.4")]
    target: String,
    /// How many pairs of measurements, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Instead: plan, run and report so many cells without any machine
    #[arg(long, value_name = "N", conflicts_with_all = ["source", "target", "rounds"],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cells: Option<u32>,
    #[command(flatten)]
    machine: MachineChoice,
    #[command(flatten)]
    kernels: KernelSource,
}

const WORKLOAD: &str = "memfd.basic";

/// Measures and prints.
pub(crate) async fn run(command: &Bench) -> Result<Exit, CliError> {
    let store = command.kernels.store()?;
    if let Some(cells) = command.cells {
        return scale::run(cells as usize, &store).await;
    }
    let (qemu, accel) = command.machine.find().await?;
    let source = bootable(store.resolve(&command.source, &Shown::new()).await?);
    let target = bootable(store.resolve(&command.target, &Shown::new()).await?);
    let workload = find_workload(WORKLOAD).ok_or_else(|| CliError::harness(format!("no workload {WORKLOAD}")))?;
    let profile = profile::find(workload.profile).ok_or_else(|| CliError::harness("no profile"))?;
    let (work, _) = WorkFolder::create()?;
    let folder = work.cell(profile.memory_mib)?;
    let (_keep, interrupt) = watch::channel(false);
    let launcher = launcher()?;
    let lab = QemuLab { launcher: &launcher, qemu: &qemu, accel: accel.accel, work: &work };
    let host = Host::once(&lab, folder.path(), interrupt);
    let key = CellKey {
        source: command.source.clone(),
        target: command.target.clone(),
        profile: profile.name.to_owned(),
        workload: workload.name.to_owned(),
    };
    let plan = Planned { key, prediction: None, expectation: None };
    let parts = vec![Part { workload, plan: &plan, program: None }];
    let boot = Boot { source: &source, target: &target, profile, parts };
    println!(
        "{} → {} {WORKLOAD} with {}, {} rounds",
        command.source,
        command.target,
        host.accel.word(),
        command.rounds
    );

    let mut ratios = Vec::new();
    let mut records = Vec::new();
    for round in 0..=command.rounds {
        let bare = bare(&qemu, host.accel, &source, &target, folder.path())?;
        let record = measured(&boot, &host).await.ok_or_else(|| CliError::harness("interrupted"))?;
        if record.outcome != Outcome::Survived {
            return Err(CliError::harness(format!("the cell ended as {}: {}", record.outcome, record.title)));
        }
        let (ours, bare) = (record.duration_us as f64 / 1e6, bare.as_secs_f64());
        let counted = if round == 0 { " (not counted)" } else { "" };
        println!("round {round:>2}: luqual {ours:.2} s, script {bare:.2} s, ratio {:.3}{counted}", ours / bare);
        if round > 0 {
            ratios.push(ours / bare);
            records.push(record);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
    println!(
        "ratio: median {:.3}, quartiles {:.3} to {:.3}, all {:.3} to {:.3}",
        at(0.5),
        at(0.25),
        at(0.75),
        at(0.0),
        at(1.0)
    );
    println!("where luqual's time goes, median per phase:");
    for (phase, us) in phases(&records) {
        println!("  {phase:<10} {:>6} ms", us / 1000);
    }
    Ok(Exit::Ok)
}

/// One cell of luqual.
async fn measured(boot: &Boot<'_>, host: &Host<'_>) -> Option<CellRecord> {
    let (events, mut taken) = mpsc::unbounded_channel();
    run_boot(boot, host, &events).await;
    drop(events);
    while let Some(event) = taken.recv().await {
        if let Event::CellFinished { record } = event {
            return Some(*record);
        }
    }
    None
}

fn phases(records: &[CellRecord]) -> Vec<(luqual_model::Phase, u64)> {
    luqual_model::Phase::ALL
        .into_iter()
        .filter_map(|phase| {
            let of = |record: &CellRecord| record.phases.iter().find(|it| it.phase == phase).map(|it| it.duration_us);
            let mut all: Vec<u64> = records.iter().filter_map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).map(|us| (phase, *us))
        })
        .collect()
}

/// The script, from its start to its end; what it needs is made before, as a person would have it lying there.
fn bare(
    qemu: &Qemu,
    accel: Accel,
    source: &BootKernel,
    target: &BootKernel,
    folder: &Path,
) -> Result<Duration, CliError> {
    let workload = || WORKLOAD.to_owned();
    let append = |kernel: &BootKernel| {
        format!(
            "{} {}",
            kernel.info.command_line,
            kernel_options(&profile::PROFILES[0], Mode { accel, nested: false, alone: None })
        )
    };
    let requests = [
        Request::Hello { protocol: VERSION },
        Request::Preserve { workload: workload(), seed: 1, device: None },
        Request::Load { kernel: Kernel::Target, carry: Vec::new(), command_line: append(target) },
        Request::Kexec,
        Request::Hello { protocol: VERSION },
        Request::Retrieve { workload: workload(), seed: 1, hop: 1, device: None },
        Request::Verify { workload: workload() },
        Request::Finish { workload: workload() },
    ];
    let requests = lines(&requests)?;
    let kernel = fs::read(&target.image).map_err(CliError::file(target.image.display()))?;
    let autorun = GuestFile { path: luqual_protocol::AUTORUN, content: requests.as_bytes(), runs: false };
    let archive = initramfs(None, &[(Kernel::Target, kernel)], &[autorun]).map_err(CliError::file("initramfs"))?;
    let initrd = folder.join("bare.initrd");
    fs::write(&initrd, archive).map_err(CliError::file(initrd.display()))?;

    let started = Instant::now();
    let output = Command::new("sh")
        .args(["-c", BARE])
        .env("QEMU", &qemu.path)
        .env("ACCEL", accel.word())
        .env("KERNEL", &source.image)
        .env("INITRD", &initrd)
        .env("APPEND", append(source))
        .env("DIR", folder)
        .env("DONE", luqual_protocol::AUTORUN_DONE)
        .stdin(Stdio::null())
        .output()
        .map_err(CliError::file("sh"))?;
    let took = started.elapsed();
    if !output.status.success() {
        let console = fs::read(folder.join("console.log")).unwrap_or_default();
        let (said, console) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&console));
        let agent = console.lines().rfind(|line| line.contains("luqual-agent: ")).unwrap_or("the guest said nothing");
        return Err(CliError::harness(format!("the script failed ({}): {agent} {}", output.status, said.trim_end())));
    }
    Ok(took)
}

fn lines(requests: &[Request]) -> Result<String, CliError> {
    let line = |request| serde_json::to_string(request).map(|line| line + "\n");
    requests.iter().map(line).collect::<Result<_, _>>().map_err(CliError::file("JSON"))
}
