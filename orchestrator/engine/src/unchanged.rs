//! Whether what an earlier run was made with is there still: luqual, QEMU, accelerator, kernels.

use crate::context::Context;
use crate::error::EngineError;
use crate::kernels::find_kernels;
use crate::machine::Found;
use crate::notice::Notice;
use luqual_kernels::{Kernel, Store};
use luqual_model::{PlannedCell, RunInfo};
use std::collections::BTreeMap;

/// What becomes of it when something is not what it was when a run was started.
#[derive(Clone, Copy)]
pub(crate) enum OnChange {
    /// It is an error; and what else can be done.
    Refused(&'static str),
    /// It is told, and taken.
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

/// The rest of a run, and what is repeated of one, has to be made with what its beginning was made with; `accel_then` is the
/// accelerator that it had, or has to have.
pub(crate) fn same_host(
    context: &Context<'_>,
    run: &RunInfo,
    accel_then: &str,
    found: &Found,
    since: OnChange,
) -> Result<(), EngineError> {
    let version = found.qemu.version.to_string();
    for (what, then, now, hint) in [
        ("luqual", run.tool.as_str(), context.tool.as_str(), "take the luqual that started it".to_owned()),
        ("QEMU", &run.host.qemu, &version, "name that QEMU with --qemu".to_owned()),
        ("accelerator", accel_then, found.accel.accel.word(), format!("--accel {accel_then}")),
    ] {
        if then != now {
            let message = format!("the run was started with another {what}: {then}, this is {now}");
            since.differs(context, &message, &hint)?;
        }
    }
    Ok(())
}

/// The kernels of these cells, which have to be those that the run was started with. What is missing is built.
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

/// These kernels have to be those that the run was started with, and are told what they were told then.
pub(crate) fn same_kernels(
    context: &Context<'_>,
    run: &RunInfo,
    kernels: &mut BTreeMap<String, Kernel>,
    since: OnChange,
) -> Result<(), EngineError> {
    for (name, kernel) in kernels {
        // A run that was cut off while it was built has run nothing with it.
        let Some(then) = run.kernels.get(name) else { continue };
        let (was, is) = (&then.image_sha256, &kernel.info.image_sha256);
        if was != is {
            let hint = format!("its image was {was}, and is {is}");
            since.differs(context, &format!("{name} is not the kernel that the run was started with"), &hint)?;
        }
        // It is the catalog's, and may be another today.
        kernel.info.command_line.clone_from(&then.command_line);
    }
    Ok(())
}
