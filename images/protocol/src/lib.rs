//! What host and guest say to each other; shared by both sides, with no runtime in it.
//!
//! The host runs [`AGENT`]` call` over SSH once for each request, writes one [`Request`] as JSON to its
//! standard input and reads one [`Reply`] as JSON from its standard output, a line each. A person can do the same.

mod archive;
mod digest;
pub mod frames;
mod progression;
mod prompt;
mod request;
mod workload;

pub use archive::Archive;
pub use digest::digest;
pub use progression::{Next, Progression};
pub use prompt::{PROMPT, Prompt};
pub use request::{
    Hello, Item, Kernel, KernelLog, Located, Measure, PausedMachine, Probe, Reaches, Reply, Request, Said, VmReport,
    WorkloadPage, Written,
};
pub use workload::{
    Device, EXTERNAL, LoadTime, Requirement, Unplug, Update, Workload, external, find as find_workload, program_path,
    workloads,
};

/// Grows with every change that the other side would misread. Both sides must name the same.
pub const VERSION: u32 = 7;

/// Where the agent is in the guest, as /init and under its own name.
pub const AGENT: &str = "/bin/luqual-agent";

/// The folder of the files that the host makes for one VM.
pub const VM_FOLDER: &str = "/luqual";
/// The one public key, in OpenSSH's format, that may log in.
pub const AUTHORIZED_KEY: &str = "/luqual/authorized_key";
/// The guest's own key, in OpenSSH's format; made by the host, so that it can pin it.
pub const HOST_KEY: &str = "/luqual/host_key";
/// Where the kernels are that can be loaded.
pub const KERNELS: &str = "/luqual/kernels";

/// The folder of other people's programs.
pub const PROGRAMS: &str = "/luqual/programs";

/// Requests, a line each, for a guest that nobody talks to: where it is there, /init starts no SSH server. What comes after a
/// [`Request::Kexec`] is for the next kernel. What is refused in a source ends it, after a [`Request::Verify`] of each workload that
/// it was to preserve; what was broken by the update leaves out all that would begin another one.
pub const AUTORUN: &str = "/luqual/autorun.jsonl";
/// Where such a guest writes its replies, a line each, if it has a second serial port. A request that ends its kernel has none.
pub const ANSWERS: &str = "/dev/ttyS1";
/// What such a guest prints on the console once all of them went well; the line comes from the last kernel it booted.
pub const AUTORUN_DONE: &str = "luqual-agent: all was done";

/// What /init prints on the console when SSH is ready. A hint for the host to connect now; it proves nothing.
pub const READY_LINE: &str = "luqual-agent: listening";

/// The kernel command line option that carries the nonce of one boot.
pub const NONCE_OPTION: &str = "luqual.nonce=";

/// Where the SSH server listens.
pub const SSH_PORT: u16 = 22;

/// By how many milliseconds the clock of a virtual machine may differ from another that watched it for so many: an eighth, for
/// processors that wait for each other on a busy host, and 250 at least, for the time between two looks. A clock that stood still
/// meanwhile, or was set back to the time of its pause, differs by all of it. One that cannot be asked to hold tells of the time
/// between two looks, in which it was away for a part: they are so many milliseconds apart otherwise.
pub const fn clock_tolerance_ms(watched_ms: u64, apart_ms: u64) -> u64 {
    let of_watched = if watched_ms / 8 > 250 { watched_ms / 8 } else { 250 };
    of_watched + apart_ms
}

/// Milliseconds between two ticks.
pub const TICK_PERIOD_MS: u64 = 1;

/// The tick page: how the host sees that the guest lives without asking it. Little-endian 64-bit words.
pub mod tick_page {
    /// Byte offset of the magic, which is [`MAGIC`].
    pub const OFFSET_MAGIC: u64 = 0;
    /// Byte offset of the number of ticks so far.
    pub const OFFSET_COUNT: u64 = 8;
    /// Byte offset of CLOCK_MONOTONIC at the first tick, in nanoseconds.
    pub const OFFSET_FIRST_NS: u64 = 16;
    /// Byte offset of CLOCK_MONOTONIC at the last tick, in nanoseconds.
    pub const OFFSET_LAST_NS: u64 = 24;
    /// How much of the page is used.
    pub const LENGTH: usize = 32;
    /// Says that the page is one.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"LQtick01");
}
