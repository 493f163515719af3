//! QEMU, the accelerator, and what there is of the host.

use crate::context::Context;
use crate::error::EngineError;
use crate::request::{AccelWanted, MachineChoice};
use luqual_kernels::cache_folder;
use luqual_model::HostInfo;
use luqual_vm::{AccelChoice, AccelFound, Qemu, choose_accel};
use std::fs;

/// What cells are run on.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) qemu: Qemu,
    pub(crate) accel: AccelFound,
}

impl MachineChoice {
    /// What is there, or why it cannot be used. What is to be deterministic is emulated.
    pub(crate) async fn find(&self, context: &Context<'_>, deterministic: bool) -> Result<Found, EngineError> {
        let qemu = Qemu::find(self.qemu.as_deref())?;
        let choice = match self.accel {
            AccelWanted::Kvm if deterministic => {
                return Err(EngineError::usage("no guest of KVM is deterministic").hint("leave out --accel kvm"));
            }
            AccelWanted::Auto if deterministic => AccelChoice::Tcg,
            AccelWanted::Auto => AccelChoice::Auto,
            AccelWanted::Kvm => AccelChoice::Kvm,
            AccelWanted::Tcg => AccelChoice::Tcg,
        };
        let accel = choose_accel(&context.launcher(), &qemu, choice, &cache_folder()).await?;
        Ok(Found { qemu, accel })
    }
}

impl Found {
    /// For a run's record.
    pub(crate) fn host(&self) -> HostInfo {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo").lines().find_map(|line| {
            let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
            kib.parse::<u64>().ok().map(|kib| kib << 10)
        });
        HostInfo {
            arch: std::env::consts::ARCH.to_owned(),
            release: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
            qemu: self.qemu.version.to_string(),
            accel: self.accel.accel.word().to_owned(),
            accel_reason: self.accel.reason.clone(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.unwrap_or_default(),
        }
    }
}

/// Memory that the host can give away, in MiB (Documentation/filesystems/proc.rst, MemAvailable).
pub(crate) fn free_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib >> 10)
}
