//! The machine and the guest of a boot, as traits. [`crate::QemuLab`] implements them with QEMU; the tests have a
//! scripted fake.

mod alone;
mod images;
mod qemu;
mod reply;

pub use images::unchanged_images;
pub use qemu::QemuLab;

use crate::observe::{KernelOfLog, LogReader, MachineTime, Ticks};
use luqual_guest::{Agent, AgentLog, Keys};
use luqual_model::{Accel, KernelInfo, PciAddress, Profile, QemuVersion};
use luqual_protocol::{Archived, Kernel, Reply, Request};
use luqual_vm::{Console, MachineEnd, Mode, PciFunction, Ram, TraceEvents};
use std::path::Path;
use std::pin::Pin;
use tokio::time::Instant;

/// A boxed future.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Starts machines.
pub trait Lab {
    /// The version of QEMU.
    fn qemu(&self) -> QemuVersion;

    /// The accelerator.
    fn accel(&self) -> Accel;

    /// Starts a machine and lets it run. An error says why the host could not do it.
    fn start<'a>(&'a self, start: Start<'a>) -> Waiting<'a, Result<Box<dyn Machine>, String>>;
}

/// The configuration of a machine.
pub struct Start<'a> {
    /// The machine.
    pub profile: &'a Profile,
    /// The mode of its guest.
    pub mode: Mode,
    /// The first kernel, its image, and its whole command line.
    pub kernel: (&'a KernelInfo, &'a Path),
    /// The whole command line of the first kernel.
    pub command_line: &'a str,
    /// The kernels of the boot, and their images.
    pub images: [(&'a KernelInfo, &'a Path); 2],
    /// The kernel images in the first guest's initramfs.
    pub carried: Vec<(Kernel, &'a Path)>,
    /// The SSH keys; `None` for a guest without a connection.
    pub keys: Option<&'a Keys>,
    /// Further files in the guest.
    pub files: Vec<File<'a>>,
    /// The folder of the logs.
    pub logs: &'a Path,
    /// Whether devices are accessed from outside of the guest, which needs qtest.
    pub open: bool,
    /// Gets each line of the console.
    pub console: Option<fn(&str)>,
    /// Gets the socket of gdb, which then lets the machine run.
    pub gdb: Option<&'a dyn Fn(&Path)>,
    /// The start of the boot; times in the logs are relative to it.
    pub started: Instant,
}

/// A file in the guest.
pub struct File<'a> {
    /// The path in the guest.
    pub path: String,
    /// The content.
    pub content: &'a [u8],
    /// Whether it is executable.
    pub runs: bool,
}

/// A machine that runs.
pub trait Machine {
    /// The machine's own end, if it has come.
    fn ended(&self) -> Option<MachineEnd>;

    /// Waits for the machine's own end.
    fn wait_end(&self) -> Waiting<'_, MachineEnd>;

    /// Kills QEMU, as a crash of the host would.
    fn kill(&self);

    /// Stops QEMU by SIGSTOP, as an operator would.
    fn stop(&self);

    /// The guest's console.
    fn console(&self) -> &Console;

    /// The guest's memory.
    fn ram(&self) -> &Ram;

    /// The folder of the files and sockets that its devices share with the host.
    fn folder(&self) -> &Path;

    /// The files and links of the first guest's initramfs.
    fn files(&self) -> &[Archived];

    /// Watches the tick page at a guest-physical address; `None` for a guest without a connection, which must not
    /// notice the host.
    fn watch_ticks(&self, page: u64) -> Option<Ticks>;

    /// Reads from now on what a kernel logs, from its memory. `None` for a guest without a connection. An error says why
    /// it cannot be read.
    fn read_log(&self, kernel: KernelOfLog<'_>) -> Option<Result<LogReader, String>>;

    /// The time in which the host did not let it run.
    fn time(&self) -> MachineTime;

    /// Waits for the guest's `times`-th ready line on the console, which can lose it.
    fn listens(&self, times: usize) -> Waiting<'_, ()>;

    /// Waits until the guest says on the console that it has no network.
    fn says_unreachable(&self) -> Waiting<'_, ()>;

    /// Connects to the guest. An error has the reason with its causes.
    fn connect<'a>(&'a self, keys: &'a Keys, log: &'a AgentLog) -> Waiting<'a, Result<Box<dyn Guest>, String>>;

    /// The PCI functions of the devices that workloads own, as the guest has configured them.
    fn functions(&self) -> Waiting<'_, Result<Vec<PciFunction>, String>>;

    /// Leaves a mark in the trace of QEMU's devices.
    fn mark<'a>(&'a self, name: &'a str) -> Waiting<'a, Result<(), String>>;

    /// Which of the trace events of devices are written.
    fn trace_events(&self) -> Waiting<'_, Result<TraceEvents, String>>;

    /// Turns the trace of DMA and of IOMMU faults off.
    fn trace_no_dma(&self) -> Waiting<'_, Result<(), String>>;

    /// Requests the guest to release a device, so that it can be unplugged.
    fn unplug<'a>(&'a self, id: &'a str) -> Waiting<'a, Result<(), String>>;

    /// Reads a word of a function's configuration space from outside of the guest.
    fn config(&self, function: PciAddress, offset: u8) -> Waiting<'_, Result<u32, String>>;

    /// Writes a word of a function's configuration space from outside of the guest.
    fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Waiting<'_, Result<(), String>>;

    /// Writes eight bytes at a guest-physical address, such as a register's, from outside of the guest.
    fn set_register(&self, address: u64, value: u64) -> Waiting<'_, Result<(), String>>;

    /// The registers of all processors, as text.
    fn registers(&self) -> Waiting<'_, Result<String, String>>;

    /// Sends an NMI to all processors.
    fn inject_nmi(&self) -> Waiting<'_, Result<(), String>>;

    /// Writes the memory as an ELF core, and returns its size on disk in bytes.
    fn dump<'a>(&'a self, path: &'a Path) -> Waiting<'a, Result<u64, String>>;

    /// Ends the machine and waits for its end. Copies its memory and initramfs to `keep` first, if that is given, and
    /// removes its folder in any case. An error says what could not be kept.
    fn quit<'a>(self: Box<Self>, keep: Option<&'a Path>) -> Waiting<'a, Result<(), String>>;
}

/// A guest with a connection.
pub trait Guest {
    /// Sends a request and waits for the reply. An error says how the connection ended, with its causes.
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>>;

    /// Injects a fault by a role of the agent. An error says why it failed; a connection that ends with the fault is
    /// not an error.
    fn inject<'a>(&'a self, fault: &'a str) -> Waiting<'a, Result<(), String>>;

    /// Whether requests are sent; a guest without a connection only sends replies.
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
