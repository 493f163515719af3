//! Finds QEMU and the accelerator.

use crate::error::EngineError;
use crate::host::cache_folder;
use crate::notice::{Listener, Notice};
use crate::request::{AccelWanted, MachineChoice};
use luqual_model::HostInfo;
use luqual_runner::{Lab, QemuLab, Waiting};
use luqual_vm::{AccelChoice, AccelFound, Launcher, Qemu, WorkFolder, choose_accel};
use std::fs;
use std::path::Path;

/// The QEMU and the accelerator for the cells.
#[derive(Clone, Debug)]
pub struct Found {
    /// The QEMU.
    pub qemu: Qemu,
    /// The accelerator.
    pub accel: AccelFound,
}

/// Finds QEMU and starts machines. [`QemuMachines`] does this with QEMU; the tests of the engine have scripted
/// machines.
pub trait Machines {
    /// Finds the QEMU at that path, or the first in PATH, and the accelerator. An error says why one cannot be used.
    fn find<'a>(&'a self, qemu: Option<&'a Path>, accel: AccelChoice) -> Waiting<'a, Result<Found, EngineError>>;

    /// The lab that starts machines with what was found.
    fn lab<'a>(&'a self, found: &'a Found) -> Result<Box<dyn Lab + 'a>, EngineError>;
}

/// Machines that QEMU runs.
pub struct QemuMachines<'a> {
    /// Starts the processes.
    pub launcher: Launcher,
    /// Gets the notice of removed working folders.
    pub listener: &'a dyn Listener,
}

impl Machines for QemuMachines<'_> {
    fn find<'a>(&'a self, qemu: Option<&'a Path>, accel: AccelChoice) -> Waiting<'a, Result<Found, EngineError>> {
        Box::pin(async move {
            let qemu = Qemu::find(qemu)?;
            let accel = choose_accel(&self.launcher, &qemu, accel, &cache_folder()).await?;
            Ok(Found { qemu, accel })
        })
    }

    fn lab<'a>(&'a self, found: &'a Found) -> Result<Box<dyn Lab + 'a>, EngineError> {
        let work = work_folder(self.listener)?;
        Ok(Box::new(QemuLab { launcher: &self.launcher, qemu: &found.qemu, accel: found.accel.accel, work }))
    }
}

/// Creates a working folder of this process, and removes the folders of killed processes first.
pub(crate) fn work_folder(listener: &dyn Listener) -> Result<WorkFolder, EngineError> {
    let (work, swept) = WorkFolder::create()?;
    if swept > 0 {
        listener.hear(Notice::WorkFoldersRemoved(swept));
    }
    Ok(work)
}

impl MachineChoice {
    /// Finds the requested QEMU and accelerator. A deterministic run is always emulated.
    pub(crate) async fn find(&self, machines: &dyn Machines, deterministic: bool) -> Result<Found, EngineError> {
        let choice = match self.accel {
            AccelWanted::Kvm if deterministic => {
                return Err(EngineError::usage("a deterministic run cannot use KVM")
                    .hint("remove --accel kvm; a deterministic run is emulated"));
            }
            AccelWanted::Auto if deterministic => AccelChoice::Tcg,
            AccelWanted::Auto => AccelChoice::Auto,
            AccelWanted::Kvm => AccelChoice::Kvm,
            AccelWanted::Tcg => AccelChoice::Tcg,
        };
        machines.find(self.qemu.as_deref(), choice).await
    }
}

impl Found {
    /// The description of the host for a run's record.
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
