//! How cells are run, on what, and when that is a success.

use super::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::terminal::console_line;
use clap::{Args, ValueEnum};
use luqual_engine::{self as engine, AccelWanted, Conclusion, KeepOptions, MachineChoice, RunRequest};
use luqual_model::{Append, Vmcore, VmcoreOf, is_options};
use luqual_reports::Record;
use luqual_runner::FAULT_SYNTAX;
use std::path::PathBuf;

/// How cells are run, and where their evidence goes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Execution {
    /// The run's folder; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report_dir: Option<PathBuf>,
    /// Machines at once [default: by processors and free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Retry a cell that is not as expected, up to N times. A cell whose attempts differ is flaky, never green
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Random seed for memory contents and delays; pass a run's seed to reproduce it [default: a new one, recorded in run.json]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    #[command(flatten)]
    kept: KeptArgs,
    /// Show the guest's console on standard error while it runs; one machine runs at a time
    #[arg(long)]
    console: bool,
    /// Run each cell bit for bit reproducibly from its seed: emulated, one processor, no host interaction. Cells with devices or
    /// virtual machines are skipped
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    append: AppendArgs,
    /// Inject a fault into each cell, to see that luqual finds it
    #[arg(long, alias = "plant", value_name = "FAULT", long_help = inject_help())]
    inject: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    pub(crate) kernels: KernelArgs,
}

fn inject_help() -> String {
    format!("Inject a fault into each cell, to see that luqual finds it: {FAULT_SYNTAX}")
}

impl Execution {
    /// Each cell `repeat` times.
    pub(crate) fn execution(&self, repeat: u32) -> Result<engine::Execution, CliError> {
        let jobs = match (self.console, self.jobs) {
            (true, Some(2..)) => {
                return Err(CliError::usage("--console shows one machine, and several were requested")
                    .hint("remove --jobs, or give --jobs 1"));
            }
            (true, _) => Some(1),
            (false, jobs) => jobs,
        };
        let Self { retries, seed, deterministic, .. } = *self;
        let (kept, inject) = (self.kept.kept(), self.inject.clone());
        let append = self.append.append();
        Ok(engine::Execution { repeat, retries, jobs, seed, kept, append, inject, deterministic })
    }

    pub(crate) fn machine(&self) -> MachineChoice {
        self.machine.choice()
    }

    /// A run of these pairs, whose cells are selected by somebody else.
    pub(crate) fn request(&self, pairs: engine::Pairs, repeat: u32) -> Result<RunRequest, CliError> {
        Ok(RunRequest {
            execution: self.execution(repeat)?,
            machine: self.machine(),
            kernels: self.kernels.source(),
            report_dir: self.report_dir.clone(),
            ..RunRequest::of(pairs)
        })
    }

    /// Several runs with the same options.
    pub(crate) fn runs(&self, selection: engine::Selection, repeat: u32) -> Result<engine::RunsOptions, CliError> {
        Ok(engine::RunsOptions {
            selection,
            execution: self.execution(repeat)?,
            machine: self.machine(),
            kernels: self.kernels.source(),
            report_dir: self.report_dir.clone(),
            interactive: self.interactive(),
        })
    }

    pub(crate) fn interactive(&self) -> engine::Interactive {
        InteractiveArgs { console: self.console, gdb: false }.wanted()
    }
}

/// What is added to the command lines of the kernels.
#[derive(Args, Clone, Debug)]
struct AppendArgs {
    /// Add options to the command line of every kernel, such as 'mem=2G init_on_free=1'
    #[arg(long, value_name = "OPTIONS", value_parser = kernel_options)]
    append: Option<String>,
    /// Add options to the source's command line, behind those of --append
    #[arg(long, value_name = "OPTIONS", value_parser = kernel_options)]
    append_source: Option<String>,
    /// Add options to the target's command line, behind those of --append
    #[arg(long, value_name = "OPTIONS", value_parser = kernel_options)]
    append_target: Option<String>,
}

impl AppendArgs {
    fn append(&self) -> Append {
        Append::of(self.append.as_deref(), self.append_source.as_deref(), self.append_target.as_deref())
    }
}

fn kernel_options(text: &str) -> Result<String, String> {
    if !text.trim().is_empty() && is_options(text) {
        Ok(text.trim().to_owned())
    } else {
        Err("give options in printable ASCII, separated by spaces".to_owned())
    }
}

/// What is kept of machines, beside their logs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct KeptArgs {
    /// Keep each machine's memory and initramfs (1 GiB) in its cell's folder
    #[arg(long)]
    keep: bool,
    /// Keep the memory of machines as an ELF core for drgn or crash: of those whose kernel panicked or hung, or of all
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "crashed", require_equals = true)]
    vmcore: Option<WhichVmcore>,
    /// Limit of the disk space of all cores of the run, in MiB
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

impl KeptArgs {
    pub(crate) fn kept(self) -> KeepOptions {
        let of = |which| match which {
            WhichVmcore::Crashed => VmcoreOf::Crashed,
            WhichVmcore::All => VmcoreOf::All,
        };
        let vmcore = self.vmcore.map(|which| Vmcore { of: of(which), limit_mib: self.vmcore_limit });
        KeepOptions { memory: self.keep, vmcore }
    }
}

/// Which QEMU, and what runs the guests' code.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// The accelerator; auto runs guest code under KVM to see whether it works, and remembers that it did
    #[arg(long, value_enum, default_value_t = Accel::Auto, value_name = "X")]
    accel: Accel,
    /// A qemu-system-x86_64, 7.2 or later [default: the first in PATH]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Give QEMU the arguments that the machines of a resumed or reproduced run add. Do this for runs of your own
    #[arg(long)]
    allow_qemu_arguments: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Accel {
    /// KVM if it can run a guest, else TCG
    Auto,
    /// KVM; it is an error if KVM cannot run a guest
    Kvm,
    /// QEMU's emulation: it works everywhere, but is slower
    Tcg,
}

impl MachineArgs {
    pub(crate) fn choice(&self) -> MachineChoice {
        let accel = match self.accel {
            Accel::Auto => AccelWanted::Auto,
            Accel::Kvm => AccelWanted::Kvm,
            Accel::Tcg => AccelWanted::Tcg,
        };
        MachineChoice { accel, qemu: self.qemu.clone(), allow_arguments: self.allow_qemu_arguments }
    }
}

/// For commands that run one machine.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct InteractiveArgs {
    /// Show the guest's console on standard error while it runs
    #[arg(long)]
    pub(crate) console: bool,
    /// Wait for gdb before the first instruction, and print what to type. Phases have no deadline; the kernels get nokaslr
    #[arg(long)]
    pub(crate) gdb: bool,
}

impl InteractiveArgs {
    pub(crate) fn wanted(self) -> engine::Interactive {
        engine::Interactive { console: self.console.then_some(console_line as fn(&str)), gdb: self.gdb }
    }
}

/// When a run is a success.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Require this of every cell, whatever is expected
    #[arg(long, value_enum, value_name = "OUTCOME")]
    require: Option<Require>,
    /// Count an improvement as a failure of the run, too
    #[arg(long)]
    strict: bool,
    /// Count a skipped cell, whose workload requires what this kernel, QEMU or host lacks, as no failure of the run
    #[arg(long)]
    allow_skips: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// Every cell survived, untainted
    Survived,
}

impl Demand {
    pub(crate) fn demand(self) -> engine::Demand {
        let survived = matches!(self.require, Some(Require::Survived));
        engine::Demand { survived, strict: self.strict, allow_skips: self.allow_skips }
    }
}

/// What a run exits with.
pub(crate) fn exit_of(record: &Record, demand: engine::Demand) -> Exit {
    match Conclusion::of(record, demand) {
        Conclusion::AsExpected => Exit::Ok,
        Conclusion::NotAsExpected => Exit::NotAsExpected,
        Conclusion::HarnessFailed => Exit::Harness,
        Conclusion::Interrupted => Exit::Interrupted,
    }
}
