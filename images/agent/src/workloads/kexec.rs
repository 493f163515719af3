//! `kexec.*`: the kexec is made in another way, and what is kept has to come back all the same. The table of `luqual_protocol` says
//! how the kexec is made; this module has what a source does in addition.

use crate::errno::errno_name;
use crate::facts::scratch_lengths;
use crate::kexec::{self, LoadError};
use crate::memfd::Memfd;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::memory;
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

fn loaded(_: &mut Context) -> Result<(), StepError> {
    kexec::load(Kernel::Target, &[], "console=ttyS0 luqual.never-booted").map(drop).map_err(StepError::from)
}

fn cancelled(context: &mut Context) -> Result<(), StepError> {
    loaded(context)?;
    context.check_success("unload the target", kexec::unload());
    context.check("kexec without a target", "EINVAL", kexec::go().map_or("returned 0".to_owned(), errno_name));
    Ok(())
}

fn crash_kernel(context: &mut Context) -> Result<(), StepError> {
    kexec::load_for_crash("console=ttyS0 luqual.never-booted")?;
    context.check("crash kernel loaded", 1, read("kexec_crash_loaded")?);
    Ok(())
}

/// The target has no crash kernel, and uses the memory that was reserved for it.
fn crash_kernel_is_gone(context: &mut Context) -> Result<(), StepError> {
    context.check("crash kernel loaded", 0, read("kexec_crash_loaded")?);
    context.check("bytes for a crash kernel", 0, read("kexec_crash_size")?);
    memory::dirty(512 << 20)
}

/// A file of /sys/kernel, by the names that every kernel has (Documentation/ABI/obsolete/sysfs-kernel-kexec-kdump).
fn read(file: &str) -> Result<String, StepError> {
    let path = format!("/sys/kernel/{file}");
    std::fs::read_to_string(&path).map(|text| text.trim_end().to_owned()).map_err(StepError::agent(path))
}

fn scratch_is_rounded(context: &mut Context) -> Result<(), StepError> {
    let lengths =
        scratch_lengths().map_err(|error| StepError::Missing(format!("CONFIG_KEXEC_HANDOVER_DEBUGFS: {error}")))?;
    let odd = lengths.into_iter().find(|length| length % (2 << 20) != 0);
    context.check(
        "areas that are no multiple of 2 MiB",
        "none",
        odd.map_or("none".to_owned(), |odd| format!("{odd:#x}")),
    );
    Ok(())
}

fn garbage(context: &mut Context) -> Result<(), StepError> {
    let nonsense = context.make_memfd(&Memfd::new("nonsense", 1 << 20))?;
    let answer = match kexec::load_file(&nonsense, &[], "console=ttyS0") {
        Ok(()) => Ok(()),
        Err(LoadError::Kernel(errno)) => Err(errno),
        Err(error @ LoadError::Agent(_)) => return Err(error.into()),
    };
    context.check_refused("load what is no kernel", "ENOEXEC", answer);
    Ok(())
}
