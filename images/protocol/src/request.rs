use serde::{Deserialize, Serialize};

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who are you? Always the first on a connection.
    Hello {
        /// The host's [`crate::VERSION`].
        protocol: u32,
    },
    /// Hand the workload's state to the kernel. Source only.
    Preserve {
        /// Its name.
        workload: String,
        /// What its content is made from; the same value is given to [`Request::Retrieve`].
        seed: u64,
        /// Where the device is that it owns, as in `0000:00:03.0`; absent for a workload that owns none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Falsify something of a virtual machine that was left to the update. Source only, after [`Request::Preserve`].
    Inject {
        /// The workload that has it.
        workload: String,
        /// What.
        item: Item,
    },
    /// Flip the lowest bit of a byte of a workload's memory, for an injected fault where the host cannot do it.
    /// Source only, after [`Request::Preserve`].
    Flip {
        /// The workload that holds it.
        workload: String,
        /// What.
        place: WorkloadPage,
        /// The byte in the page.
        offset: u64,
    },
    /// Have the kernel panic, for an injected fault. There is a reply only when it did not.
    Panic,
    /// Where is that in physical memory? Source only, after [`Request::Preserve`].
    Locate {
        /// The workload that holds it.
        workload: String,
        /// What.
        place: WorkloadPage,
    },
    /// kexec_file_load(2) with an initramfs that has in it what this guest's has, but for the kernels.
    Load {
        /// Which of the kernels that this guest has.
        kernel: Kernel,
        /// Those that the next guest is to have, for what it loads and what is loaded after that.
        carry: Vec<Kernel>,
        /// The next kernel's whole command line.
        command_line: String,
    },
    /// reboot(2) with LINUX_REBOOT_CMD_KEXEC, once the holder has said that it still holds everything.
    /// There is a reply only when it did not go.
    Kexec,
    /// Ask the kernel for the workload's state. Target only.
    Retrieve {
        /// Its name.
        workload: String,
        /// As it was given to [`Request::Preserve`].
        seed: u64,
        /// How many kexecs were made since the first source.
        hop: u32,
        /// Where the device was before them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Compare what was retrieved with what it was.
    Verify {
        /// The workload.
        workload: String,
    },
    /// Tell the kernel that the workload is done, and look whether it took note.
    Finish {
        /// The workload.
        workload: String,
    },
    /// The kernel's log and taint.
    KernelLog,
}

impl Request {
    /// The workload that it is about, if it is about one.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Preserve { workload, .. }
            | Self::Inject { workload, .. }
            | Self::Flip { workload, .. }
            | Self::Locate { workload, .. }
            | Self::Retrieve { workload, .. }
            | Self::Verify { workload }
            | Self::Finish { workload } => Some(workload),
            Self::Hello { .. } | Self::Panic | Self::Load { .. } | Self::Kexec | Self::KernelLog => None,
        }
    }

    /// Whether it is the kernel which is left that is asked for something.
    pub const fn is_of_a_source(&self) -> bool {
        matches!(
            self,
            Self::Preserve { .. }
                | Self::Inject { .. }
                | Self::Flip { .. }
                | Self::Locate { .. }
                | Self::Load { .. }
                | Self::Kexec
        )
    }
}

/// One of the two kernels of an update, as a file in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// The one that ran first.
    Source,
    /// The one that it is updated to.
    Target,
}

impl Kernel {
    /// Where it is, in [`crate::KERNELS`].
    pub const fn path(self) -> &'static str {
        match self {
            Self::Source => "/luqual/kernels/source",
            Self::Target => "/luqual/kernels/target",
        }
    }
}

/// Something of a virtual machine.
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
    /// A timer that is under way.
    Timer,
    /// The time by KVM's clock.
    Clock,
}

impl Item {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Register, Self::Fpu, Self::Msr, Self::Page, Self::Interrupt, Self::Timer, Self::Clock];

    /// How it is written.
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

/// A place in a workload's memory.
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
    /// A page of the holder's own memory which nobody preserves.
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

/// What the guest answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(Hello),
    /// The step was done; its probes say how.
    Done {
        /// What it has found out.
        #[serde(flatten)]
        said: Said,
        /// /proc/sys/kernel/tainted after it.
        taint: u64,
    },
    /// To [`Request::Locate`].
    Located(Located),
    /// The kernel said no.
    Refused {
        /// The call as a kernel reader would name it.
        call: String,
        /// The errno's name; of a program, how it ended.
        errno: String,
        /// What it was about.
        about: String,
    },
    /// The machine or the kernel does not have what the workload is about.
    Missing {
        /// What is missing.
        what: String,
    },
    /// To [`Request::KernelLog`].
    KernelLog(KernelLog),
    /// The agent could not do its own work. Nothing is said about the kernel.
    Failed {
        /// What went wrong.
        message: String,
    },
}

/// What a step has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What was checked.
    pub probes: Vec<Probe>,
    /// How long the kernel took, where that is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// What a device reaches that was left to the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches: Option<Reaches>,
    /// The numbered frames that it has received, in runs: the first number of each and its last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<(u32, u32)>,
    /// What it has written through a device into the host's file behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// The virtual machine that was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedMachine>,
    /// What virtual machines say of the update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vm_reports: Vec<VmReport>,
}

/// What a virtual machine says of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// What the machine is called.
    pub machine: String,
    /// What it came to, in order, with the time by its own clock, in microseconds.
    pub moments: Vec<(String, u64)>,
    /// What it counts: before the update, and when it was read after it.
    pub counts: Vec<(String, u64, u64)>,
    /// How far its looks at its clock are apart otherwise, in microseconds, where it cannot be asked to hold: by so much the two
    /// around the update may be further apart than it.
    pub apart_us: u64,
}

impl VmReport {
    /// The last that it tells before the update.
    pub const BEFORE: &str = "last before the update";
    /// The first that it tells after it.
    pub const AFTER: &str = "first after it";

    /// How far its own clock moved over the update, in microseconds, if it went on.
    pub fn moved_us(&self) -> Option<u64> {
        let at = |wanted: &str| self.moments.iter().find(|(what, _)| what == wanted).map(|(_, at_us)| *at_us);
        Some(at(Self::AFTER)?.saturating_sub(at(Self::BEFORE)?))
    }
}

/// A virtual machine inside of the guest that is left to the update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedMachine {
    /// Where the account of its first processor is (images/program/src/account.rs), as a guest-physical address.
    pub account: u64,
    /// For how long it has held, in microseconds, when this is told.
    pub held_us: u64,
    /// For how long it has been paused then.
    pub paused_us: u64,
    /// Whether it holds until it is released, and was not just stopped where it was.
    pub holds: bool,
}

/// A page of the file behind a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// The [`crate::digest`] of its 4096 bytes.
    pub digest: String,
}

/// The preserved memory that a device reaches, by the guest-physical addresses of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaches {
    /// Those that nobody should write before the device is taken again.
    pub quiet: Vec<u64>,
    /// The one that it writes over and over, if it is busy.
    pub busy: Option<u64>,
}

/// Who the guest is.
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
    /// Whether /dev/liveupdate is there.
    pub liveupdate: bool,
}

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The guest-physical address of the page's first byte; absent where the workload has no such place.
    pub address: Option<u64>,
}

/// What the kernel has said so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLog {
    /// The messages of /dev/kmsg, one each, without their prefix.
    pub lines: Vec<String>,
    /// /proc/sys/kernel/tainted.
    pub taint: u64,
}

/// One thing that a workload checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What was checked, such as `memfd 64m content`.
    pub name: String,
    /// What should be.
    pub expected: String,
    /// What was.
    pub observed: String,
    /// Whether that is the same.
    pub passed: bool,
}

/// How long the kernel took for so much of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// For which step: its calls alone, without what the workload does besides.
    pub what: String,
    /// Of how much.
    pub size: u64,
    /// Of what, such as `files`.
    pub unit: String,
    /// In microseconds, by the guest's clock.
    pub duration_us: u64,
}

impl Probe {
    /// A probe that holds when both texts are equal.
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
        let request = Request::Preserve { workload: "memfd.basic".into(), seed: 7, device: None };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"request":"preserve","workload":"memfd.basic","seed":7}"#
        );
    }
}
