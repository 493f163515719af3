//! Makes sure that no QEMU outlives the luqual that started it.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The hidden subcommand by which `luqual` re-executes itself to become QEMU.
pub const SUBCOMMAND: &str = "__exec-with-parent";

/// Starts QEMU as `PROGRAM __exec-with-parent PARENT-PID QEMU ARGUMENTS…`.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program of the running luqual.
    pub program: PathBuf,
}

impl Launcher {
    /// The command that becomes `program`; the caller adds the arguments.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args([SUBCOMMAND, &std::process::id().to_string()]).arg(program).kill_on_drop(true);
        command
    }

    /// Starts such a command, on the one thread that starts all of them.
    pub(crate) async fn start(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts QEMU has ended");
        let (started, child) = oneshot::channel();
        parent().send(Start { command, runtime: Handle::current(), started }).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

/// A command to start, and the runtime that waits for its end.
struct Start {
    command: Command,
    runtime: Handle,
    started: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts every QEMU of this process.
///
/// The parent-death signal is bound to the *thread* that forked (prctl(2), PR_SET_PDEATHSIG): if a worker thread
/// starts QEMU, QEMU is killed when that thread ends, during its cell. This thread runs until the process ends.
fn parent() -> &'static Sender<Start> {
    static PARENT: OnceLock<Sender<Start>> = OnceLock::new();
    PARENT.get_or_init(|| {
        let (orders, taken) = channel();
        // If the thread cannot be created, the channel closes, and senders get an error.
        let _ = std::thread::Builder::new().name("qemu-parent".to_owned()).spawn(move || start_all(&taken));
        orders
    })
}

fn start_all(orders: &Receiver<Start>) {
    for Start { mut command, runtime, started } in orders {
        let _entered = runtime.enter();
        // If the caller has given up, dropping the child kills it.
        drop(started.send(command.spawn()));
    }
}

/// Becomes `program`, which the kernel kills when the parent ends (prctl(2), PR_SET_PDEATHSIG). Returns only on
/// failure, with the error.
pub fn exec_with_parent(parent: u32, program: OsString, arguments: Vec<OsString>) -> io::Error {
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return errno.into();
    }
    // A parent that ended before the previous call sends no signal.
    if getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()) != Some(parent) {
        return io::Error::other("the luqual that started QEMU has ended");
    }
    std::process::Command::new(program).args(arguments).exec()
}
