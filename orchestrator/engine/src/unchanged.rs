//! Checks that luqual, QEMU, accelerator and kernels are those of an earlier run.

use crate::context::Context;
use crate::error::EngineError;
use crate::machine::Found;
use crate::notice::Notice;
use luqual_kernels::{Kernel, Store};
use luqual_model::{PlannedCell, RunInfo};
use std::collections::{BTreeMap, BTreeSet};

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

/// The names of the kernels of these cells, each once.
pub(crate) fn names_of<'a>(cells: impl Iterator<Item = &'a PlannedCell>) -> BTreeSet<&'a String> {
    cells.flat_map(|planned| [&planned.key.source, &planned.key.target]).collect()
}

/// The kernels with these names, which have to be those of the run. They are found by their digest: somebody else may
/// have written the names, so that nothing is built, and no tree is looked into.
pub(crate) fn kernels_of<'a>(
    context: &Context<'_>,
    run: &RunInfo,
    store: &Store,
    names: impl IntoIterator<Item = &'a String>,
    since: OnChange,
) -> Result<BTreeMap<String, Kernel>, EngineError> {
    let mut kernels = BTreeMap::new();
    for name in names {
        kernels.insert(name.clone(), recorded(run, store, name)?);
    }
    same_kernels(context, run, &mut kernels, since)?;
    Ok(kernels)
}

/// The kernel that the run had by that name; if it is not here, what has its name now.
fn recorded(run: &RunInfo, store: &Store, name: &str) -> Result<Kernel, EngineError> {
    let Some(then) = run.kernels.get(name) else {
        // The run was cut off before it had read this image, and has run nothing with it.
        if let Some(kernel) = store.at_path(name) {
            return Ok(kernel?);
        }
        return Err(EngineError::usage(format!("the run never had its kernel {name}"))
            .hint("give the command that started the run, with --resume-if-exists: it builds what you ask for"));
    };
    let stored = store.with_digest(name, &then.image_sha256);
    if let Some(kernel) = stored.filter(|kernel| kernel.info.modules == then.modules) {
        return Ok(kernel);
    }
    if let Some(entry) = store.catalog().find(name) {
        if let Some(kernel) = store.ready(entry)? {
            return Ok(kernel);
        }
        let hint = format!("build it with `luqual kernels build {name}`");
        return Err(missing(name, &then.image_sha256).hint(hint));
    }
    match store.at_path(name) {
        Some(kernel) => Ok(kernel?),
        None => Err(missing(name, &then.image_sha256)
            .hint(format!("it was {}; luqual does not build what a record names", then.provenance))),
    }
}

fn missing(name: &str, digest: &str) -> EngineError {
    EngineError::usage(format!("the kernel {name} of the run, with the digest {digest}, is not here"))
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
        if let Some((module, _)) =
            then.modules.iter().find(|(module, was)| kernel.info.modules.get(*module) != Some(was))
        {
            let message =
                format!("the module {module} of the kernel {name} is not the one that the run was started with");
            since.differs(context, &message, "unpack the package again from which it was")?;
        }
        // The command line comes from the catalog, which may have changed.
        kernel.info.command_line.clone_from(&then.command_line);
    }
    Ok(())
}
