//! Checks that luqual, QEMU, accelerator and kernels are those of an earlier run.

use crate::context::Context;
use crate::error::EngineError;
use crate::kernels::find_kernels;
use crate::machine::Found;
use crate::notice::Notice;
use luqual_kernels::{Kernel, Store};
use luqual_model::{PlannedCell, RunInfo};
use std::collections::BTreeMap;

/// What to do if something differs from the earlier run.
#[derive(Clone, Copy)]
pub(crate) enum OnChange {
    /// Fail; the text is an alternative for the hint.
    Refused(&'static str),
    /// Send a notice, and use it.
    Told,
}

impl OnChange {
    fn differs(self, context: &Context<'_>, message: &str, hint: &str) -> Result<(), EngineError> {
        match self {
            Self::Refused(or) => Err(EngineError::usage(message).hint(format!("{hint}; {or}"))),
            Self::Told => {
                context.tell(Notice::Differs(message));
                Ok(())
            }
        }
    }
}

/// Checks luqual, QEMU and accelerator against those of `run`. `accel_then` is the accelerator that the run had, or
/// has to have.
pub(crate) fn same_host(
    context: &Context<'_>,
    run: &RunInfo,
    accel_then: &str,
    found: &Found,
    since: OnChange,
) -> Result<(), EngineError> {
    let version = found.qemu.version.to_string();
    for (what, then, now, hint) in [
        ("luqual", run.tool.as_str(), context.tool.as_str(), "use the luqual that started the run".to_owned()),
        ("QEMU", &run.host.qemu, &version, "name the QEMU of the run with --qemu".to_owned()),
        ("accelerator", accel_then, found.accel.accel.word(), format!("--accel {accel_then}")),
    ] {
        if then != now {
            let message = format!("the run was started with another {what}: {then}, this is {now}");
            since.differs(context, &message, &hint)?;
        }
    }
    Ok(())
}

/// The kernels of these cells, which have to be those of the run. Missing kernels are built.
pub(crate) async fn kernels_of<'a>(
    context: &Context<'_>,
    run: &RunInfo,
    store: &Store,
    cells: impl Iterator<Item = &'a PlannedCell>,
    since: OnChange,
) -> Result<BTreeMap<String, Kernel>, EngineError> {
    let mut kernels = find_kernels(context, store, cells.map(|planned| &planned.key)).await?;
    same_kernels(context, run, &mut kernels, since)?;
    Ok(kernels)
}

/// Checks that these kernels are those of the run, and gives them the command lines of the run.
pub(crate) fn same_kernels(
    context: &Context<'_>,
    run: &RunInfo,
    kernels: &mut BTreeMap<String, Kernel>,
    since: OnChange,
) -> Result<(), EngineError> {
    for (name, kernel) in kernels {
        // A run that was interrupted during the build of this kernel has run nothing with it.
        let Some(then) = run.kernels.get(name) else { continue };
        let (was, is) = (&then.image_sha256, &kernel.info.image_sha256);
        if was != is {
            let hint = format!("its image had the digest {was}, and has {is}");
            since.differs(
                context,
                &format!("the kernel {name} is not the one that the run was started with"),
                &hint,
            )?;
        }
        // The command line comes from the catalog, which may have changed.
        kernel.info.command_line.clone_from(&then.command_line);
    }
    Ok(())
}
