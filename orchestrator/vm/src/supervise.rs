//! No QEMU outlives the luqual that started it, however that ends.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The hidden subcommand by which `luqual` re-executes itself to become QEMU.
pub const SUBCOMMAND: &str = "__exec-with-parent";

/// How QEMU is started: `PROGRAM __exec-with-parent PARENT-PID QEMU ARGUMENTS…`.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The running luqual.
    pub program: PathBuf,
}

/// Becomes `program`, which the kernel then kills when the parent ends (prctl(2), PR_SET_PDEATHSIG). Returns only when
/// that failed.
///
/// The signal is bound to the parent's *thread* that forked: luqual starts QEMU from its main thread.
pub fn exec_with_parent(parent: u32, program: OsString, arguments: Vec<OsString>) -> io::Error {
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return errno.into();
    }
    // A parent that ended before the line above sends no signal any more.
    if getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()) != Some(parent) {
        return io::Error::other("the luqual that started this is gone");
    }
    Command::new(program).args(arguments).exec()
}
