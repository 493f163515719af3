//! `luqual doctor`: can a run start here, and if not, what to do.

use super::KernelSource;
use super::machine::{MachineChoice, free_memory_mib};
use crate::error::{CliError, Exit};
use crate::output;
use clap::Args;
use luqual_kernels::{cache_folder, tools};
use luqual_vm::{free_mib, work_base};
use std::path::Path;

/// What to look at.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    machine: MachineChoice,
    #[command(flatten)]
    kernels: KernelSource,
}

/// One finding.
struct Finding {
    what: &'static str,
    says: String,
    /// What to do; a finding without one is good.
    todo: Option<String>,
    /// Whether a run can start all the same.
    optional: bool,
}

/// Memory and room for one machine of the default profile, in MiB, with what QEMU itself takes.
const ONE_MACHINE_MIB: u64 = 1400;

/// Looks, prints, and exits with 0 only if a run can start.
pub(crate) async fn run(command: &Doctor) -> Result<Exit, CliError> {
    let mut findings = Vec::new();
    match command.machine.find().await {
        Ok((qemu, accel)) => {
            findings.push(good("QEMU", format!("{} {}", qemu.path.display(), qemu.version)));
            findings.push(good("accelerator", format!("{} ({})", accel.accel.word(), accel.reason)));
        }
        Err(error) => findings.push(bad("QEMU", error.message().to_owned(), error.hint_text(), false)),
    }
    findings.push(room("memory", free_memory_mib(), ONE_MACHINE_MIB, "end something that uses memory"));
    let work = work_base();
    let advice = "set LUQUAL_WORK_DIR to a folder with more room";
    findings.push(room("working folder", free_mib(&work).ok(), ONE_MACHINE_MIB, advice).about(&work));
    let cache = cache_folder();
    let existing = cache.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned();
    let mut kernels =
        room("kernel store", free_mib(&existing).ok(), 3400, "make room, or set XDG_CACHE_HOME").about(&cache);
    kernels.optional = true;
    findings.push(kernels);

    let store = command.kernels.store()?;
    let missing = tools::missing();
    // Without a compiler the store's names cannot be known; then only kernels by path can be used.
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
    findings.push(if missing.is_empty() {
        good("build tools", "all there".to_owned())
    } else {
        let todo = format!("apt-get install {}", tools::PACKAGES);
        bad("build tools", format!("missing: {}", missing.join(", ")), Some(todo), !built.is_empty())
    });
    findings.push(if built.is_empty() {
        let todo = "luqual kernels build VERSION, or luqual run, which builds what it needs";
        bad("kernels", "none is built".to_owned(), Some(todo.to_owned()), true)
    } else {
        good("kernels", format!("built: {}", built.join(", ")))
    });
    for Finding { what, says, todo, optional } in &findings {
        let mark = match (todo, optional) {
            (None, _) => "ok  ",
            (Some(_), true) => "note",
            (Some(_), false) => "FAIL",
        };
        output::line(format_args!("{mark} {what:<15} {says}"))?;
        if let Some(todo) = todo {
            output::line(format_args!("     {:<15} → {todo}", ""))?;
        }
    }
    let ready = findings.iter().all(|finding| finding.todo.is_none() || finding.optional);
    output::line(if ready { "a run can start" } else { "a run cannot start" })?;
    Ok(if ready { Exit::Ok } else { Exit::Harness })
}

impl Finding {
    fn about(mut self, path: &Path) -> Self {
        self.says = format!("{}: {}", path.display(), self.says);
        self
    }
}

fn good(what: &'static str, says: String) -> Finding {
    Finding { what, says, todo: None, optional: false }
}

fn bad(what: &'static str, says: String, todo: Option<String>, optional: bool) -> Finding {
    Finding { what, says, todo: Some(todo.unwrap_or_else(|| "see above".to_owned())), optional }
}

fn room(what: &'static str, free: Option<u64>, needed: u64, advice: &str) -> Finding {
    match free {
        Some(free) if free >= needed => good(what, format!("{free} MiB free")),
        Some(free) => bad(what, format!("{free} MiB free, {needed} needed"), Some(advice.to_owned()), false),
        None => bad(what, "cannot be measured".to_owned(), Some(advice.to_owned()), false),
    }
}
