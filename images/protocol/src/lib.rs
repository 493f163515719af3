//! The protocol between host and guest. Both sides use this crate, which has no runtime.
//!
//! For each request, the host runs [`AGENT`]` call` over SSH, writes one [`Request`] as a line of JSON to its
//! standard input, and reads one [`Reply`] as a line of JSON from its standard output. A person can do the same.

mod archive;
pub mod content;
mod digest;
mod fault;
pub mod frames;
mod pages;
mod progression;
mod prompt;
mod request;
mod workload;

pub use archive::Archive;
pub use digest::digest;
pub use fault::{FaultObject, GuestFault, Moment};
pub use pages::{MemfdPages, PageContent, PagePlace, PageRun};
pub use progression::{Next, Progression};
pub use prompt::{PROMPT, Prompt};
pub use request::{
    Archived, Hello, Item, Kernel, KernelLog, KnownPage, Located, Measure, MemoryRange, NotDone, PausedMachine, Probe,
    Reaches, Reply, Request, Said, VmReport, WorkloadPage, Written,
};
pub use workload::{
    Consequence, Device, EXTERNAL, LoadTime, Requirement, Unplug, Update, Workload, external, find as find_workload,
    program_path, workloads,
};

/// The version of the protocol. It rises with every incompatible change; both sides must have the same version.
pub const VERSION: u32 = 10;

/// The agent's path in the guest; it is also /init.
pub const AGENT: &str = "/bin/luqual-agent";

/// The folder of the files that the host makes for one VM.
pub const VM_FOLDER: &str = "/luqual";
/// The path of the only public key that may log in, in OpenSSH's format.
pub const AUTHORIZED_KEY: &str = "/luqual/authorized_key";
/// The path of the guest's host key, in OpenSSH's format. The host creates it, so that it can pin it.
pub const HOST_KEY: &str = "/luqual/host_key";
/// The folder of the kernel images that the guest can load.
pub const KERNELS: &str = "/luqual/kernels";

/// The folder of the folders of kernel modules, [`Kernel::modules`].
pub const MODULES: &str = "/luqual/modules";
/// The kernel command line option with the folder of the modules that /init loads.
pub const MODULES_OPTION: &str = "luqual.modules=";

/// The folder of programs that users add.
pub const PROGRAMS: &str = "/luqual/programs";

/// The path of the requests for a guest without a connection, one in each line. If the file exists, /init starts no
/// SSH server. Requests after a [`Request::Kexec`] are for the next kernel. A refusal in a source ends the run, after
/// a [`Request::Verify`] of each workload that was to be preserved; after a failed update, the guest skips all
/// requests of further updates.
pub const AUTORUN: &str = "/luqual/autorun.jsonl";
/// Where a guest with [`AUTORUN`] writes its replies, one in each line, if it has a second serial port. A request
/// that ends its kernel has no reply.
pub const ANSWERS: &str = "/dev/ttyS1";
/// The console line of a guest with [`AUTORUN`] after all of its requests succeeded; the last kernel prints it.
pub const AUTORUN_DONE: &str = "luqual-agent: all was done";

/// The console line that /init prints when SSH is ready. It only tells the host when to connect; it proves nothing.
pub const READY_LINE: &str = "luqual-agent: listening";

/// The console line of a guest without a network card that its kernel drives, before the reason. It ends the wait for a
/// guest that cannot answer.
pub const UNREACHABLE_LINE: &str = "luqual-agent: cannot be reached: ";

/// The kernel command line option that carries the nonce of one boot.
pub const NONCE_OPTION: &str = "luqual.nonce=";

/// The port of the guest's SSH server.
pub const SSH_PORT: u16 = 22;

/// The tolerance in milliseconds for the clock of a virtual machine against a clock that ran for `watched_ms`: an
/// eighth, for processors that wait for each other on a busy host, but at least 250 ms, for the time between two
/// reads. A clock that stood still during the update, or was set back to the time of its pause, differs by the whole
/// update. A machine that cannot be paused on request reads its clock every `apart_ms` milliseconds, which are added.
pub const fn clock_tolerance_ms(watched_ms: u64, apart_ms: u64) -> u64 {
    let of_watched = if watched_ms / 8 > 250 { watched_ms / 8 } else { 250 };
    of_watched + apart_ms
}

/// Milliseconds between two ticks.
pub const TICK_PERIOD_MS: u64 = 1;

/// The tick page, by which the host sees that the guest runs. It has little-endian 64-bit words.
pub mod tick_page {
    /// Byte offset of the magic, which is [`MAGIC`].
    pub const OFFSET_MAGIC: u64 = 0;
    /// Byte offset of the number of ticks so far.
    pub const OFFSET_COUNT: u64 = 8;
    /// Byte offset of CLOCK_MONOTONIC at the first tick, in nanoseconds.
    pub const OFFSET_FIRST_NS: u64 = 16;
    /// Byte offset of CLOCK_MONOTONIC at the last tick, in nanoseconds.
    pub const OFFSET_LAST_NS: u64 = 24;
    /// The used length of the page, in bytes.
    pub const LENGTH: usize = 32;
    /// The magic number of a tick page.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"LQtick01");
}
