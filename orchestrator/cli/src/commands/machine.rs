//! QEMU and accelerator; the same for every command that boots something.

use crate::error::CliError;
use clap::{Args, ValueEnum};
use luqual_kernels::cache_folder;
use luqual_vm::{AccelChoice, AccelFound, Launcher, Qemu, choose_accel};
use std::path::PathBuf;

/// Which QEMU, and what runs the guests' code.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineChoice {
    /// What runs the guests' code; auto runs guest code under KVM, and remembers that it ran
    #[arg(long, value_enum, default_value_t = Choice::Auto, value_name = "X")]
    accel: Choice,
    /// A qemu-system-x86_64, 7.2 or later [default: the first in PATH]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    /// KVM where it runs guests, else TCG
    Auto,
    /// KVM or nothing
    Kvm,
    /// TCG: works everywhere, more slowly
    Tcg,
}

impl MachineChoice {
    /// What is there, or why it cannot be used.
    pub(crate) async fn find(&self) -> Result<(Qemu, AccelFound), CliError> {
        self.find_for(false).await
    }

    /// The same; what is to be deterministic is emulated.
    pub(crate) async fn find_for(&self, deterministic: bool) -> Result<(Qemu, AccelFound), CliError> {
        let qemu = Qemu::find(self.qemu.as_deref())?;
        let choice = match self.accel {
            Choice::Kvm if deterministic => {
                return Err(CliError::usage("no guest of KVM is deterministic").hint("leave out --accel kvm"));
            }
            Choice::Auto if deterministic => AccelChoice::Tcg,
            Choice::Auto => AccelChoice::Auto,
            Choice::Kvm => AccelChoice::Kvm,
            Choice::Tcg => AccelChoice::Tcg,
        };
        let found = choose_accel(&launcher()?, &qemu, choice, &cache_folder()).await?;
        Ok((qemu, found))
    }
}

/// This very program, by which QEMU is started.
pub(crate) fn launcher() -> Result<Launcher, CliError> {
    let program = std::env::current_exe().map_err(CliError::file("this program's own path"))?;
    Ok(Launcher { program })
}

/// Memory that the host can give away, in MiB (Documentation/filesystems/proc.rst, MemAvailable).
pub(crate) fn free_memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib >> 10)
}
