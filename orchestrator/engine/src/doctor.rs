//! Checks whether a run can start on this host, and says what is missing.

use crate::context::Context;
use crate::error::EngineError;
use crate::host::{cache_folder, free_memory_mib, tight_limit};
use crate::kernels::open_store;
use crate::machine::Found;
use crate::request::{KernelSource, MachineChoice};
use luqual_kernels::tools;
use luqual_model::{ARCH, Accel, QemuVersion};
use luqual_vm::{free_mib, work_base};
use std::path::Path;

/// One condition, and its state.
pub struct Condition {
    /// The name of the condition.
    pub what: &'static str,
    /// Its state, in words.
    pub says: String,
    /// What to do; `None` if the condition is met.
    pub todo: Option<String>,
    /// Whether a run can start without it.
    pub optional: bool,
}

/// Memory and disk space for one machine of the default profile, in MiB, with QEMU's own memory.
const ONE_MACHINE_MIB: u64 = 1400;

/// Checks all conditions. A run can start if each is met or optional.
pub async fn examine(
    context: &Context<'_>,
    machine: &MachineChoice,
    kernels: &KernelSource,
) -> Result<Vec<Condition>, EngineError> {
    let mut conditions = Vec::new();
    match machine.find(context.machines, false).await {
        Ok(Found { qemu, accel }) => {
            conditions.push(good("QEMU", format!("{} {}", qemu.path.display(), qemu.version)));
            conditions.push(good("accelerator", format!("{} ({})", accel.accel.word(), accel.reason)));
            conditions.extend(faults(qemu.version, accel.accel));
        }
        Err(error) => conditions.push(bad("QEMU", error.to_string(), error.hint_text().map(str::to_owned), false)),
    }
    conditions.push(room("memory", free_memory_mib(), ONE_MACHINE_MIB, "end a program that uses much memory"));
    let limited = tight_limit().map(|limit| {
        let advice = "raise the limit of the container, or run with fewer machines at once";
        let state = room("memory limit", Some(limit.free_mib), ONE_MACHINE_MIB, advice);
        Condition { says: format!("{limit}; {}", state.says), ..state }
    });
    conditions.extend(limited);
    let work = work_base();
    let advice = "set LUQUAL_WORK_DIR to a folder with more room";
    conditions.push(room("working folder", free_mib(&work).ok(), ONE_MACHINE_MIB, advice).about(&work));
    let cache = cache_folder();
    let existing = cache.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned();
    let mut place = room(
        "kernel store",
        free_mib(&existing).ok(),
        3400,
        "free disk space, or set XDG_CACHE_HOME to a folder with more",
    )
    .about(&cache);
    place.optional = true;
    conditions.push(place);

    let store = open_store(kernels)?;
    let missing = tools::missing();
    // Without a compiler the names in the store are unknown; only kernels by path can be used.
    let built: Vec<&str> = match missing.is_empty() {
        true => store
            .catalog()
            .entries()
            .iter()
            .filter(|entry| matches!(store.ready(entry), Ok(Some(_))))
            .map(|entry| entry.version.as_str())
            .collect(),
        false => Vec::new(),
    };
    conditions.push(if missing.is_empty() {
        good("build tools", "all there".to_owned())
    } else {
        let todo = format!("apt-get install {}", tools::PACKAGES);
        bad("build tools", format!("missing: {}", missing.join(", ")), Some(todo), !built.is_empty())
    });
    conditions.push(if built.is_empty() {
        let todo = "run `luqual kernels build VERSION`, or `luqual run`, which builds the kernels that it needs";
        bad("kernels", "no kernel is built".to_owned(), Some(todo.to_owned()), true)
    } else {
        good("kernels", format!("built: {}", built.join(", ")))
    });
    Ok(conditions)
}

/// The known faults of the QEMU that guests can meet with this accelerator.
fn faults(qemu: QemuVersion, accel: Accel) -> impl Iterator<Item = Condition> {
    ARCH.emulator_faults.iter().filter(move |fault| fault.is_of(qemu, accel)).map(|fault| {
        let says = format!("{}: {}", fault.name, fault.what);
        match fault.avoided {
            Some(avoided) => good("fault of QEMU", format!("{says}; avoided: {avoided}; {}", fault.mended())),
            None => bad("fault of QEMU", says, Some(fault.mended()), true),
        }
    })
}

impl Condition {
    fn about(mut self, path: &Path) -> Self {
        self.says = format!("{}: {}", path.display(), self.says);
        self
    }
}

fn good(what: &'static str, says: String) -> Condition {
    Condition { what, says, todo: None, optional: false }
}

fn bad(what: &'static str, says: String, todo: Option<String>, optional: bool) -> Condition {
    Condition { what, says, todo: Some(todo.unwrap_or_else(|| "see above".to_owned())), optional }
}

fn room(what: &'static str, free: Option<u64>, needed: u64, advice: &str) -> Condition {
    match free {
        Some(free) if free >= needed => good(what, format!("{free} MiB free")),
        Some(free) => bad(what, format!("{free} MiB free, {needed} needed"), Some(advice.to_owned()), false),
        None => bad(what, "the free space cannot be read".to_owned(), Some(advice.to_owned()), false),
    }
}
