use crate::{GuestFault, MemfdPages, Moment};
use serde::{Deserialize, Serialize};

/// A request of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Identifies the guest. It is the first request on each connection.
    Hello {
        /// The host's [`crate::VERSION`].
        protocol: u32,
    },
    /// Preserves the workload's state. Source only.
    Preserve {
        /// The name of the workload.
        workload: String,
        /// The seed of the content; [`Request::Retrieve`] gets the same value.
        seed: u64,
        /// The PCI address of the workload's device, such as `0000:00:03.0`; absent for a workload without a device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// After how many seconds an external program is killed; absent for a workload without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_s: Option<u64>,
    },
    /// Injects a fault into the saved state of a nested virtual machine. Source only, after [`Request::Preserve`].
    Inject {
        /// The workload with the machine.
        workload: String,
        /// The item that the fault changes.
        item: Item,
    },
    /// Flips the lowest bit of a byte of a workload's memory, to inject a fault that the host cannot inject. Source
    /// only, after [`Request::Preserve`].
    Flip {
        /// The workload with the page.
        workload: String,
        /// The page.
        place: WorkloadPage,
        /// The offset of the byte in the page, 0 to 4095.
        offset: u64,
    },
    /// Injects a fault into what a workload has preserved, or into its sessions.
    Tamper {
        /// The workload.
        workload: String,
        /// The fault.
        fault: GuestFault,
        /// The names of what it is injected into ([`GuestFault::object`]).
        names: Vec<String>,
    },
    /// Makes the kernel panic, to inject a fault. There is a reply only if the kernel did not panic.
    Panic,
    /// Returns the physical address of a page. Source only, after [`Request::Preserve`].
    Locate {
        /// The workload with the page.
        workload: String,
        /// The page.
        place: WorkloadPage,
    },
    /// Calls kexec_file_load(2) with an initramfs that has the files of this guest's initramfs, except the kernels.
    Load {
        /// The kernel to load.
        kernel: Kernel,
        /// The kernels to put into the next initramfs, for later loads.
        carry: Vec<Kernel>,
        /// The next kernel's whole command line.
        command_line: String,
    },
    /// Calls reboot(2) with LINUX_REBOOT_CMD_KEXEC, after the holder process has confirmed that it still has all
    /// descriptors. There is a reply only if the kexec failed.
    Kexec,
    /// Retrieves the workload's state. Target only.
    Retrieve {
        /// The name of the workload.
        workload: String,
        /// The seed that [`Request::Preserve`] got.
        seed: u64,
        /// The number of kexecs since the first source.
        hop: u32,
        /// The PCI address of the workload's device before the kexecs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Compares the retrieved state with the preserved state.
    Verify {
        /// The workload.
        workload: String,
        /// After how many seconds an external program is killed; absent for a workload without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_s: Option<u64>,
    },
    /// Finishes the workload's sessions, and checks that the kernel released them.
    Finish {
        /// The workload.
        workload: String,
    },
    /// Returns the kernel's log and its taint flags.
    KernelLog,
}

impl Request {
    /// The workload of the request, if it has one.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Preserve { workload, .. }
            | Self::Inject { workload, .. }
            | Self::Flip { workload, .. }
            | Self::Tamper { workload, .. }
            | Self::Locate { workload, .. }
            | Self::Retrieve { workload, .. }
            | Self::Verify { workload, .. }
            | Self::Finish { workload } => Some(workload),
            Self::Hello { .. } | Self::Panic | Self::Load { .. } | Self::Kexec | Self::KernelLog => None,
        }
    }

    /// Whether the request is for the kernel before a kexec.
    pub const fn is_of_a_source(&self) -> bool {
        match self {
            Self::Preserve { .. }
            | Self::Inject { .. }
            | Self::Flip { .. }
            | Self::Locate { .. }
            | Self::Load { .. }
            | Self::Kexec => true,
            Self::Tamper { fault, .. } => matches!(fault.moment(), Moment::Preserved),
            Self::Hello { .. }
            | Self::Panic
            | Self::Retrieve { .. }
            | Self::Verify { .. }
            | Self::Finish { .. }
            | Self::KernelLog => false,
        }
    }
}

/// One of the two kernels of an update, as a file in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// The source: the kernel before the update.
    Source,
    /// The target: the kernel after the update.
    Target,
}

impl Kernel {
    /// The path of the image, in [`crate::KERNELS`].
    pub const fn path(self) -> &'static str {
        match self {
            Self::Source => "/luqual/kernels/source",
            Self::Target => "/luqual/kernels/target",
        }
    }

    /// The folder of the modules that /init loads in it, in the order of their names.
    pub const fn modules(self) -> &'static str {
        match self {
            Self::Source => "/luqual/modules/source",
            Self::Target => "/luqual/modules/target",
        }
    }
}

/// A part of a virtual machine's state that a fault can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A general register.
    Register,
    /// A byte of the FPU's state.
    Fpu,
    /// A model-specific register.
    Msr,
    /// A byte of memory.
    Page,
    /// An interrupt that is pending.
    Interrupt,
    /// A timer that is armed.
    Timer,
    /// KVM's clock.
    Clock,
}

impl Item {
    /// All items.
    pub const ALL: [Self; 7] =
        [Self::Register, Self::Fpu, Self::Msr, Self::Page, Self::Interrupt, Self::Timer, Self::Clock];

    /// The word for the item on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Fpu => "fpu",
            Self::Msr => "msr",
            Self::Page => "page",
            Self::Interrupt => "interrupt",
            Self::Timer => "timer",
            Self::Clock => "clock",
        }
    }
}

/// A page of a workload's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "kebab-case")]
pub enum WorkloadPage {
    /// A page of a memfd.
    Memfd {
        /// The memfd's name.
        memfd: String,
        /// The page's index, from 0.
        page: u64,
    },
    /// A page of the holder process's own memory, which is not preserved.
    Unpreserved,
}

impl std::fmt::Display for WorkloadPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memfd { memfd, page } => write!(f, "page {page} of a memfd {memfd}"),
            Self::Unpreserved => f.write_str("unpreserved page"),
        }
    }
}

/// A reply of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(Hello),
    /// The step is done; its probes have the results.
    Done {
        /// The results of the step.
        #[serde(flatten)]
        said: Said,
        /// The value of /proc/sys/kernel/tainted after the step.
        taint: u64,
    },
    /// The step was not done. What it found before that counts.
    NotDone {
        /// The reason.
        why: NotDone,
        /// The results of the step before it ended.
        #[serde(flatten)]
        said: Said,
        /// The value of /proc/sys/kernel/tainted then; 0 if no step was begun.
        #[serde(default)]
        taint: u64,
    },
    /// To [`Request::Locate`].
    Located(Located),
    /// To [`Request::KernelLog`].
    KernelLog(KernelLog),
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotDone {
    /// The kernel refused a call.
    Refused {
        /// The call, such as `ioctl LIVEUPDATE_SESSION_PRESERVE_FD`.
        call: String,
        /// The name of the errno; for a program, how it ended.
        errno: String,
        /// The object of the call.
        about: String,
    },
    /// The machine or the kernel lacks a requirement of the workload.
    Missing {
        /// What is missing.
        what: String,
    },
    /// The agent failed. This says nothing about the kernel.
    Failed {
        /// The error message.
        message: String,
    },
}

impl From<NotDone> for Reply {
    /// The reply without any results.
    fn from(why: NotDone) -> Self {
        Self::NotDone { why, said: Said::default(), taint: 0 }
    }
}

impl Reply {
    /// The reply of an agent that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        NotDone::Failed { message: message.into() }.into()
    }
}

/// The results of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The probes of the step.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// The measured times of the kernel's calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// The preserved memory that the device of the workload can access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches: Option<Reaches>,
    /// Where the memory of the memfds that the workload keeps is: after preserve in a source, when nobody writes to it
    /// any more, and after retrieve in a target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<MemfdPages>,
    /// The numbered frames that the device has received, in runs: the first and the last number of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<(u32, u32)>,
    /// The page that the workload wrote through a device into the host's file behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// The nested virtual machine that was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedMachine>,
    /// The kernel that was loaded, and the files and links of the initramfs that was loaded with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<Archived>,
    /// The reports of the nested virtual machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vm_reports: Vec<VmReport>,
}

/// A file or a link of an initramfs, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Its absolute path.
    pub path: String,
    /// Its kind and permissions, as in `st_mode` (inode(7)).
    pub mode: u32,
    /// The SHA-256 of its content, or of the target of a link, as hex.
    pub sha256: String,
}

/// The report of a nested virtual machine about an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// The name of the machine.
    pub machine: String,
    /// Its events in order, with the time by its own clock, in microseconds.
    pub moments: Vec<(String, u64)>,
    /// Its counters: name, value before the update, value after it.
    pub counts: Vec<(String, u64, u64)>,
    /// The usual time between two reads of its clock, in microseconds, for a machine that cannot be paused on
    /// request; the two reads around the update can be that much further apart than the update.
    pub apart_us: u64,
}

impl VmReport {
    /// The name of its last event before the update.
    pub const BEFORE: &str = "last before the update";
    /// The name of its first event after the update.
    pub const AFTER: &str = "first after it";

    /// How far its own clock moved over the update, in microseconds; `None` if it did not resume.
    pub fn moved_us(&self) -> Option<u64> {
        let at = |wanted: &str| self.moments.iter().find(|(what, _)| what == wanted).map(|(_, at_us)| *at_us);
        Some(at(Self::AFTER)?.saturating_sub(at(Self::BEFORE)?))
    }
}

/// A nested virtual machine that was paused for the update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedMachine {
    /// The guest-physical address of the report page of its first processor (images/program/src/account.rs).
    pub account: u64,
    /// How long it has been quiescent when this reply is sent, in microseconds.
    pub held_us: u64,
    /// How long it has been paused then, in microseconds.
    pub paused_us: u64,
    /// Whether its program waits until it is released; otherwise it was stopped at an arbitrary instruction.
    pub holds: bool,
}

/// A page of the file behind a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The offset of the page in the file, in bytes.
    pub offset: u64,
    /// The [`crate::digest`] of its 4096 bytes.
    pub digest: String,
}

/// The preserved pages that a device can access, by guest-physical address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaches {
    /// The pages that must not be written before the device is opened again.
    pub quiet: Vec<u64>,
    /// The page that a busy device writes repeatedly.
    pub busy: Option<u64>,
    /// A page with a content of its own, by which the host knows that it looks at the same memory.
    pub known: KnownPage,
}

/// A page and its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPage {
    /// The guest-physical address.
    pub at: u64,
    /// The [`crate::digest`] of its 4096 bytes.
    pub digest: String,
}

/// The identity of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The guest's [`crate::VERSION`].
    pub protocol: u32,
    /// The agent's version.
    pub agent: String,
    /// `uname -r`.
    pub release: String,
    /// The GNU build id from /sys/kernel/notes, as hex; empty if there is none.
    pub build_id: String,
    /// The value of [`crate::NONCE_OPTION`] on the kernel's command line; empty if there is none.
    pub nonce: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// The guest-physical address of the tick page (see [`crate::tick_page`]).
    pub tick_page: u64,
    /// /proc/sys/kernel/tainted.
    pub taint: u64,
    /// Whether /dev/liveupdate exists.
    pub liveupdate: bool,
}

/// The address of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The guest-physical address of the page's first byte; absent if the workload has no such page.
    pub address: Option<u64>,
}

/// The kernel's log so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLog {
    /// The messages of /dev/kmsg, one each, without their prefix.
    pub lines: Vec<String>,
    /// /proc/sys/kernel/tainted.
    pub taint: u64,
    /// Where /sys/kernel/vmcoreinfo says that the kernel's note is; absent if there is none.
    pub vmcoreinfo: Option<MemoryRange>,
}

/// A part of the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRange {
    /// The guest-physical address of its first byte.
    pub address: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// One check of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The name of the check, such as `memfd 64m content`.
    pub name: String,
    /// The expected value.
    pub expected: String,
    /// The observed value.
    pub observed: String,
    /// Whether the observed value is the expected one.
    pub passed: bool,
}

/// How long the kernel took for a step, with the size of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// The step; only the kernel's calls are measured.
    pub what: String,
    /// The size of the input, in `unit`.
    pub size: u64,
    /// The unit of `size`, such as `files`.
    pub unit: String,
    /// The duration in microseconds, by the guest's clock.
    pub duration_us: u64,
}

impl Probe {
    /// A probe that passes if both texts are equal.
    pub fn compare(name: impl Into<String>, expected: impl ToString, observed: impl ToString) -> Self {
        let (expected, observed) = (expected.to_string(), observed.to_string());
        let passed = expected == observed;
        Self { name: name.into(), expected, observed, passed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_holds_only_when_both_are_equal() {
        assert!(Probe::compare("size", 4096, "4096").passed);
        assert!(!Probe::compare("size", 4096, 4095).passed);
    }

    #[test]
    fn requests_are_one_line_of_json_with_a_name() {
        let request = Request::Preserve { workload: "memfd.basic".into(), seed: 7, device: None, limit_s: None };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"request":"preserve","workload":"memfd.basic","seed":7}"#
        );
    }
}
