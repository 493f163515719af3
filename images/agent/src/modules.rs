//! Loads the modules that the host has chosen for this kernel, before anything needs them.

use crate::errno::errno_name;
use crate::facts;
use crate::log::say;
use luqual_protocol::{MODULE_LINE, MODULES_OPTION};
use rustix::io::Errno;
use rustix::system::finit_module;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Loads them in the order of their names. One that the kernel does not load is told on the console, with the errno: what needs
/// it then fails, and names it.
pub(crate) fn load() {
    let Ok(command_line) = fs::read_to_string("/proc/cmdline") else { return };
    let Some(folder) = facts::option(&command_line, MODULES_OPTION) else { return };
    let files: BTreeSet<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    for file in files {
        if let Err(why) = load_one(&file) {
            say(&format!("{MODULE_LINE}{}: {why}", file.display()));
        }
    }
}

fn load_one(file: &Path) -> Result<(), String> {
    let open = File::open(file).map_err(|error| error.to_string())?;
    let parameters = CString::default();
    match finit_module(&open, &parameters, 0) {
        // Built in, or loaded by the kernel itself.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno_name(errno)),
    }
}
