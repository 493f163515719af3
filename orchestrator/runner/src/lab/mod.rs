//! What a boot is made with: a machine, and the guest in it. QEMU is one of them ([`crate::QemuLab`]); the tests of this tool's own
//! logic have another that does what a script says.

mod alone;
mod qemu;

pub use qemu::QemuLab;

use crate::observe::Ticks;
use luqual_guest::{Agent, AgentLog, Keys};
use luqual_model::KernelInfo;
use luqual_protocol::{Kernel, Reply, Request};
use luqual_vm::{Accel, Console, MachineEnd, Mode, PciAddress, PciFunction, Profile, QemuVersion, Ram};
use std::path::Path;
use std::pin::Pin;
use tokio::time::Instant;

/// Something that is waited for.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where machines are started.
pub trait Lab {
    /// The version of the QEMU that runs them.
    fn qemu(&self) -> QemuVersion;

    /// What runs the guests' code.
    fn accel(&self) -> Accel;

    /// Starts a machine and lets it run. An error says why the host could not do it.
    fn start<'a>(&'a self, start: Start<'a>) -> Waiting<'a, Result<Box<dyn Machine>, String>>;
}

/// What a machine is started with.
pub struct Start<'a> {
    /// The machine.
    pub profile: &'a Profile,
    /// How its guest is run.
    pub mode: Mode,
    /// The kernel that boots first, its bzImage, and its whole command line.
    pub kernel: (&'a KernelInfo, &'a Path),
    /// See there.
    pub command_line: &'a str,
    /// The kernels that the first guest carries, with their bzImages.
    pub carried: Vec<(Kernel, &'a Path)>,
    /// By which the guest is talked to; a guest that goes on alone has none.
    pub keys: Option<&'a Keys>,
    /// Files in the guest.
    pub files: Vec<File<'a>>,
    /// Where the logs go.
    pub logs: &'a Path,
    /// Whether devices are reached from outside of the guest.
    pub open: bool,
    /// Who is told each line of the console.
    pub console: Option<fn(&str)>,
    /// Who is told the socket of a debugger, which then lets the machine run.
    pub gdb: Option<&'a dyn Fn(&Path)>,
    /// Times in the logs are relative to this.
    pub started: Instant,
}

/// A file in the guest.
pub struct File<'a> {
    /// Where it is.
    pub path: String,
    /// What is in it.
    pub content: &'a [u8],
    /// Whether it can be run.
    pub runs: bool,
}

/// A machine that runs.
pub trait Machine {
    /// The end that nobody asked for, if it has come.
    fn ended(&self) -> Option<MachineEnd>;

    /// Waits for that end.
    fn wait_end(&self) -> Waiting<'_, MachineEnd>;

    /// Ends it as a crash of the host would.
    fn kill(&self);

    /// The guest's console.
    fn console(&self) -> &Console;

    /// The guest's memory.
    fn ram(&self) -> &Ram;

    /// The folder of the files and sockets that its devices share with the host.
    fn folder(&self) -> &Path;

    /// Watches the tick page at a guest-physical address; `None` where the guest goes on alone and is not to notice the host.
    fn watch_ticks(&self, page: u64) -> Option<Ticks>;

    /// Waits until a guest has said for the `times`-th time that it listens. It may have said so and not been heard.
    fn listens(&self, times: usize) -> Waiting<'_, ()>;

    /// Connects to the guest. An error says why not, with its causes.
    fn connect<'a>(&'a self, keys: &'a Keys, log: &'a AgentLog) -> Waiting<'a, Result<Box<dyn Guest>, String>>;

    /// The devices that workloads own, where the guest has them now.
    fn functions(&self) -> Waiting<'_, Result<Vec<PciFunction>, String>>;

    /// Asks the guest to let go of a device.
    fn unplug<'a>(&'a self, id: &'a str) -> Waiting<'a, Result<(), String>>;

    /// Reads a word of a function's configuration space from outside of the guest.
    fn config(&self, function: PciAddress, offset: u8) -> Waiting<'_, Result<u32, String>>;

    /// Writes it.
    fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Waiting<'_, Result<(), String>>;

    /// Writes eight bytes at a guest-physical address, such as a register's, from outside of the guest.
    fn set_register(&self, address: u64, value: u64) -> Waiting<'_, Result<(), String>>;

    /// The registers of all processors, as text.
    fn registers(&self) -> Waiting<'_, Result<String, String>>;

    /// An NMI to all processors.
    fn inject_nmi(&self) -> Waiting<'_, Result<(), String>>;

    /// Writes the memory as an ELF core, and returns how many bytes it takes on disk.
    fn dump<'a>(&'a self, path: &'a Path) -> Waiting<'a, Result<u64, String>>;

    /// Ends it and waits until it is gone. Its memory and initramfs are copied to `keep` first, if that is wanted; its folder is removed
    /// in any case. An error says what could not be kept.
    fn quit<'a>(self: Box<Self>, keep: Option<&'a Path>) -> Waiting<'a, Result<(), String>>;
}

/// A guest that is connected.
pub trait Guest {
    /// Asks, and waits for the reply. An error says how the connection ended, with its causes.
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>>;

    /// Injects a fault by a role of the agent's; `Err` says why it could not be. A connection that ends with it is none.
    fn inject<'a>(&'a self, fault: &'a str) -> Waiting<'a, Result<(), String>>;

    /// Whether it is asked; one that goes on alone is only heard.
    fn agent_is_asked(&self) -> bool {
        true
    }

    /// The agent behind it, for an interactive session.
    fn agent(&self) -> Option<&Agent>;
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
