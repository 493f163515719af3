//! `kexec.*`: the update is made in another way; what is kept has to come back all the same. How it is made stands in the
//! table of `luqual_protocol`; what a source does besides is here.

use super::{Case, Scene, StepError};
use crate::facts::scratch_lengths;
use crate::kexec::{self, LoadError};
use crate::memfd::Memfd;
use luqual_protocol::Kernel;

pub(super) const CASES: &[Case] = &[
    Case { source: cancelled, ..Case::new("kexec.cancelled") },
    Case { source: crash_kernel, target: crash_kernel_is_gone, ..Case::new("kexec.crash-kernel") },
    Case { source: garbage, ..Case::new("kexec.garbage") },
    Case::new("kexec.kho-off"),
    Case::new("kexec.liveupdate-off"),
    Case::new("kexec.loaded-before"),
    Case::new("kexec.long-command-line"),
    Case::new("kexec.no-kaslr"),
    Case::new("kexec.one-cpu-source"),
    Case::new("kexec.one-cpu-target"),
    Case { source: loaded, ..Case::new("kexec.reloaded") },
    Case { source: scratch_is_rounded, ..Case::new("kexec.scratch-odd") },
    Case::new("kexec.scratch-scaled"),
    Case::new("kexec.scratch-too-small"),
];

fn loaded(_: &mut Scene) -> Result<(), StepError> {
    kexec::load(Kernel::Target, &[], "console=ttyS0 luqual.never-booted").map_err(StepError::from)
}

fn cancelled(scene: &mut Scene) -> Result<(), StepError> {
    loaded(scene)?;
    scene.takes("unload the target", kexec::unload());
    scene.check("kexec without a target", "EINVAL", kexec::go().map_or("returned 0".to_owned(), super::errno_name));
    Ok(())
}

fn crash_kernel(scene: &mut Scene) -> Result<(), StepError> {
    kexec::load_for_crash("console=ttyS0 luqual.never-booted")?;
    scene.check("crash kernel loaded", 1, told("kexec_crash_loaded")?);
    Ok(())
}

/// The target has none, and uses the memory that was set aside for it.
fn crash_kernel_is_gone(scene: &mut Scene) -> Result<(), StepError> {
    scene.check("crash kernel loaded", 0, told("kexec_crash_loaded")?);
    scene.check("bytes for a crash kernel", 0, told("kexec_crash_size")?);
    super::dirty_memory(512 << 20)
}

/// Documentation/ABI/obsolete/sysfs-kernel-kexec-kdump: the names that every kernel has.
fn told(file: &str) -> Result<String, StepError> {
    let path = format!("/sys/kernel/{file}");
    std::fs::read_to_string(&path).map(|text| text.trim_end().to_owned()).map_err(StepError::agent(path))
}

fn scratch_is_rounded(scene: &mut Scene) -> Result<(), StepError> {
    let lengths =
        scratch_lengths().map_err(|error| StepError::Missing(format!("CONFIG_KEXEC_HANDOVER_DEBUGFS: {error}")))?;
    let odd = lengths.into_iter().find(|length| length % (2 << 20) != 0);
    scene.check(
        "areas that are no multiple of 2 MiB",
        "none",
        odd.map_or("none".to_owned(), |odd| format!("{odd:#x}")),
    );
    Ok(())
}

fn garbage(scene: &mut Scene) -> Result<(), StepError> {
    let nonsense = scene.make(&Memfd::new("nonsense", 1 << 20))?;
    let answer = match kexec::load_file(&nonsense, &[], "console=ttyS0") {
        Ok(()) => Ok(()),
        Err(LoadError::Kernel(errno)) => Err(errno),
        Err(error @ LoadError::Agent(_)) => return Err(error.into()),
    };
    scene.refuses("load what is no kernel", "ENOEXEC", answer);
    Ok(())
}
