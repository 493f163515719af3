//! The overhead of luqual, as a ratio to a bare shell script in the same run.

use crate::context::Context;
use crate::error::EngineError;
use crate::kernels::{bootable, build_kernel, open_store};
use crate::machine::work_folder;
use crate::request::{KernelSource, MachineChoice};
use luqual_config::own_machine;
use luqual_guest::{GuestFile, initramfs};
use luqual_model::{Accel, CellKey, CellRecord, Event, Outcome, Phase, PlannedCell};
use luqual_protocol::{Kernel, Request, VERSION, find_workload};
use luqual_runner::{Boot, BootCell, BootKernel, Host, run_boot};
use luqual_vm::{Mode, Qemu, kernel_options};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The baseline.
const BARE: &str = include_str!("bench/bare.sh");

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// The kernel before the kexec.
    pub source: String,
    /// The kernel after it.
    pub target: String,
    /// How many pairs of measurements, after one that is not counted.
    pub rounds: u32,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
}

/// The progress of the measurement.
#[derive(Clone, Copy, Debug)]
pub enum Measured<'a> {
    /// The workload and the accelerator of the measurement.
    Begins(&'a str, &'a str),
    /// One round: its number (round 0 is not counted), luqual's time, and the script's.
    Round(u32, Duration, Duration),
}

/// The overhead of luqual.
pub struct Cost {
    /// luqual's time divided by the script's, for each counted round, in ascending order; at least one.
    pub ratios: Vec<f64>,
    /// luqual's median time in each phase, in microseconds.
    pub phases: Vec<(Phase, u64)>,
}

const WORKLOAD: &str = "memfd.basic";

/// Measures the overhead. `tell` gets each round.
pub async fn bench(
    context: &Context<'_>,
    request: &BenchRequest,
    tell: &dyn Fn(Measured<'_>),
) -> Result<Cost, EngineError> {
    let store = open_store(&request.kernels)?;
    let found = request.machine.find(context.machines, false).await?;
    let (qemu, accel) = (&found.qemu, found.accel.accel);
    let source = bootable(build_kernel(context, &store, &request.source).await?);
    let target = bootable(build_kernel(context, &store, &request.target).await?);
    let workload = find_workload(WORKLOAD).ok_or_else(|| {
        EngineError::harness(format!("luqual has no workload `{WORKLOAD}`, which the comparison runs"))
    })?;
    let profile = own_machine(workload.profile).ok_or_else(|| EngineError::harness("no profile"))?;
    let work = work_folder(context.listener)?;
    let folder = work.cell(profile.memory_mib)?;
    let lab = context.machines.lab(&found)?;
    let host = Host::once(&*lab, folder.path(), context.interrupt.clone());
    let key = CellKey {
        source: request.source.clone(),
        target: request.target.clone(),
        profile: profile.name.clone(),
        workload: workload.name.to_owned(),
    };
    let plan = PlannedCell { key, prediction: None, expectation: None };
    let parts = vec![BootCell { workload, plan: &plan, program: None }];
    let boot = Boot { source: &source, target: &target, profile, parts };
    tell(Measured::Begins(WORKLOAD, accel.word()));
    let mut ratios = Vec::new();
    let mut records = Vec::new();
    for round in 0..=request.rounds {
        let bare = bare(qemu, accel, &source, &target, folder.path())?;
        let record = cell(&boot, &host).await.ok_or_else(EngineError::interrupted)?;
        if record.outcome != Outcome::Survived {
            return Err(EngineError::harness(format!(
                "the cell has to survive to be timed, and it ended as {}: {}",
                record.outcome, record.title
            )));
        }
        let ours = Duration::from_micros(record.duration_us);
        tell(Measured::Round(round, ours, bare));
        if round > 0 {
            ratios.push(ours.as_secs_f64() / bare.as_secs_f64());
            records.push(record);
        }
    }
    ratios.sort_by(f64::total_cmp);
    Ok(Cost { ratios, phases: phases(&records) })
}

/// Runs one cell of luqual.
async fn cell(boot: &Boot<'_>, host: &Host<'_>) -> Option<CellRecord> {
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

fn phases(records: &[CellRecord]) -> Vec<(Phase, u64)> {
    Phase::ALL
        .into_iter()
        .filter_map(|phase| {
            let of = |record: &CellRecord| record.phases.iter().find(|it| it.phase == phase).map(|it| it.duration_us);
            let mut all: Vec<u64> = records.iter().filter_map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).map(|us| (phase, *us))
        })
        .collect()
}

/// Runs the script and returns its duration; its files are written before.
fn bare(
    qemu: &Qemu,
    accel: Accel,
    source: &BootKernel,
    target: &BootKernel,
    folder: &Path,
) -> Result<Duration, EngineError> {
    let workload = || WORKLOAD.to_owned();
    let append = |kernel: &BootKernel| format!("{} {}", kernel.info.command_line, kernel_options(Mode::plain(accel)));
    let requests = [
        Request::Hello { protocol: VERSION },
        Request::Preserve { workload: workload(), seed: 1, device: None, limit_s: None },
        Request::Load { kernel: Kernel::Target, carry: Vec::new(), command_line: append(target) },
        Request::Kexec,
        Request::Hello { protocol: VERSION },
        Request::Retrieve { workload: workload(), seed: 1, hop: 1, device: None },
        Request::Verify { workload: workload(), limit_s: None },
        Request::Finish { workload: workload() },
    ];
    let requests = lines(&requests)?;
    let kernel = fs::read(&target.image).map_err(EngineError::own(target.image.display()))?;
    let autorun = GuestFile { path: luqual_protocol::AUTORUN, content: requests.as_bytes(), runs: false };
    let (archive, _) =
        initramfs(None, &[(Kernel::Target, kernel)], &[autorun]).map_err(EngineError::own("initramfs"))?;
    let initrd = folder.join("bare.initrd");
    fs::write(&initrd, archive).map_err(EngineError::own(initrd.display()))?;

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
        .map_err(EngineError::own("sh"))?;
    let took = started.elapsed();
    if !output.status.success() {
        let console = fs::read(folder.join("console.log")).unwrap_or_default();
        let (said, console) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&console));
        let agent = console
            .lines()
            .rfind(|line| line.contains("luqual-agent: "))
            .unwrap_or("the guest of the script wrote nothing to its console");
        return Err(EngineError::harness(format!(
            "the script failed ({}): {agent} {}",
            output.status,
            said.trim_end()
        )));
    }
    Ok(took)
}

fn lines(requests: &[Request]) -> Result<String, EngineError> {
    let line = |request| serde_json::to_string(request).map(|line| line + "\n");
    requests.iter().map(line).collect::<Result<_, _>>().map_err(EngineError::own("JSON"))
}
