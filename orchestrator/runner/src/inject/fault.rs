//! The faults that can be injected, and their syntax.

use luqual_model::Phase;
use luqual_protocol::{FaultObject, GuestFault, Item, Moment, Request, WorkloadPage};
use std::fmt;
use std::str::FromStr;

/// A fault that is injected into a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Flips the lowest bit of one byte of a preserved memfd, through the RAM file, just before the kexec.
    Flip {
        /// The memfd's name.
        memfd: String,
        /// The page, from 0.
        page: u64,
        /// The byte in the page.
        offset: u64,
        /// The update, from 0, of a workload that has several.
        update: u32,
        /// Whether the guest's own comparison then says that nothing changed.
        is_hidden: bool,
    },
    /// Flips a bit in a page that is not preserved; the outcome must not change.
    FlipUnpreserved,
    /// A fault of the device of a workload.
    Device(DeviceFault),
    /// Changes the saved state of a nested virtual machine while it is paused.
    Machine(Item),
    /// A fault that the agent injects into what the workload preserves.
    Guest {
        /// The fault.
        fault: GuestFault,
        /// The names of what it is injected into.
        names: Vec<String>,
        /// The update, from 0, of a workload that has several.
        update: u32,
    },
    /// Adds options to the command line of a kernel.
    Options {
        /// The number of kexecs before the kernel.
        hop: u32,
        /// The options.
        options: String,
    },
    /// Loads the source where the target has to be loaded, in a workload whose guest has both.
    WrongKernel,
    /// The kernel kills a process to get memory, when a phase starts.
    OomKill {
        /// The phase.
        phase: Phase,
        /// Whether the console is told first to print no errors.
        is_unseen: bool,
    },
    /// Sends SIGKILL when a phase starts.
    Kill {
        /// The process.
        victim: Victim,
        /// The phase.
        phase: Phase,
    },
    /// Sends SIGSTOP to QEMU when a phase starts.
    Stop {
        /// The phase.
        phase: Phase,
    },
    /// Stops the guest when a phase starts.
    Kernel {
        /// How it stops.
        end: KernelEnd,
        /// The phase.
        phase: Phase,
    },
}

/// How a guest stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelEnd {
    /// Its kernel panics, by SysRq c.
    Panic,
    /// All of its processes stop, by SIGSTOP; its kernel is idle.
    Hang,
}

impl KernelEnd {
    /// The word in a fault, and the agent's role that injects it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

/// When a fault of a device is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectionPoint {
    /// Before the source has opened the device.
    Unused,
    /// After the source's end, before the target's first sign.
    Blackout,
    /// After the target has opened the device again, before it uses it.
    Taken,
}

/// A fault of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// Its first BAR moves to another address in the blackout.
    BarMoved,
    /// It writes into a preserved page in the blackout, by its own DMA.
    DmaWrite,
    /// Its interrupts are disabled after the target has opened it again.
    InterruptLost,
    /// Its function is reset in the blackout; its configuration is restored.
    Reset,
    /// Its slot is powered off in the blackout.
    Unplugged,
    /// QEMU traces no DMA of it and no fault: the host is blind for them.
    Untraced,
}

impl DeviceFault {
    const ALL: [Self; 6] =
        [Self::BarMoved, Self::DmaWrite, Self::InterruptLost, Self::Reset, Self::Unplugged, Self::Untraced];

    /// When it is injected.
    pub(super) const fn point(self) -> InjectionPoint {
        match self {
            Self::Untraced => InjectionPoint::Unused,
            Self::BarMoved | Self::DmaWrite | Self::Reset | Self::Unplugged => InjectionPoint::Blackout,
            Self::InterruptLost => InjectionPoint::Taken,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::BarMoved => "bar-moved",
            Self::DmaWrite => "dma-write",
            Self::InterruptLost => "interrupt-lost",
            Self::Reset => "reset",
            Self::Unplugged => "unplugged",
            Self::Untraced => "untraced",
        }
    }
}

/// The process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The QEMU of the cell.
    Qemu,
    /// The agent's SSH server.
    Agent,
    /// The agent's process that holds the descriptors.
    Holder,
}

impl Fault {
    /// The phase in which the kernel is to panic, if that is the fault.
    pub(crate) fn panics_in(&self) -> Option<Phase> {
        match self {
            Self::Kernel { end: KernelEnd::Panic, phase } => Some(*phase),
            _ => None,
        }
    }

    /// The options that the fault adds to the command line of the kernel after `hop` kexecs.
    pub(crate) fn options_after(&self, hop: u32) -> &str {
        match self {
            Self::Options { hop: of, options } if *of == hop => options,
            _ => "",
        }
    }

    /// The moment of an update at which the fault is injected into what is preserved, and the kexecs before it; `None`
    /// for another fault.
    fn due(&self) -> Option<(Moment, u32)> {
        match self {
            Self::Flip { update, .. } => Some((Moment::Loaded, *update)),
            Self::FlipUnpreserved => Some((Moment::Loaded, 0)),
            Self::Machine(_) => Some((Moment::Preserved, 0)),
            Self::Guest { fault, update, .. } => {
                let moment = fault.moment();
                Some((moment, update + u32::from(moment != Moment::Preserved)))
            }
            Self::Device(_)
            | Self::Options { .. }
            | Self::WrongKernel
            | Self::OomKill { .. }
            | Self::Kill { .. }
            | Self::Stop { .. }
            | Self::Kernel { .. } => None,
        }
    }

    /// Whether the fault is injected into what is preserved at this moment, after `hop` kexecs.
    pub(crate) fn is_due(&self, moment: Moment, hop: u32) -> bool {
        self.due() == Some((moment, hop))
    }

    /// The request by which a guest injects the fault by itself; `None` if it cannot.
    pub(crate) fn request(&self, workload: &str) -> Option<Request> {
        let workload = workload.to_owned();
        if let Self::Guest { fault, names, .. } = self {
            return Some(Request::Tamper { workload, fault: *fault, names: names.clone() });
        }
        let (place, offset) = flipped(self)?;
        Some(Request::Flip { workload, place, offset })
    }

    /// Whether a guest without a connection can have the fault.
    pub(crate) fn needs_no_host(&self) -> bool {
        match self {
            Self::Flip { is_hidden, .. } => !is_hidden,
            Self::FlipUnpreserved | Self::Guest { .. } | Self::Options { .. } => true,
            Self::WrongKernel => true,
            Self::Kernel { end, .. } => *end == KernelEnd::Panic,
            Self::Device(_) | Self::Machine(_) | Self::OomKill { .. } | Self::Kill { .. } | Self::Stop { .. } => false,
        }
    }
}

/// The page and the offset that a flip changes.
pub(crate) fn flipped(fault: &Fault) -> Option<(WorkloadPage, u64)> {
    match fault {
        Fault::Flip { memfd, page, offset, .. } => {
            Some((WorkloadPage::Memfd { memfd: memfd.clone(), page: *page }, *offset))
        }
        Fault::FlipUnpreserved => Some((WorkloadPage::Unpreserved, 0)),
        _ => None,
    }
}

/// Whether the guest's comparisons are to find nothing.
pub(super) const fn deceives_guest(fault: Option<&Fault>) -> bool {
    matches!(fault, Some(Fault::Flip { is_hidden: true, .. }))
}

/// Whether the fault is injected into a device from outside of the guest.
pub(crate) fn is_from_outside(fault: Option<&Fault>) -> bool {
    matches!(fault, Some(Fault::Device(_)))
}

/// The syntax of faults, for `--help` and for messages.
pub const FAULT_SYNTAX: &str = "flip:MEMFD:PAGE:OFFSET, flip-hidden:MEMFD:PAGE:OFFSET, flip-unpreserved, kill-qemu:PHASE, stop-qemu:PHASE, kill-agent:PHASE, kill-holder:PHASE, panic:PHASE, hang:PHASE, \
     oom-kill:PHASE, oom-kill-unseen:PHASE, options:HOP:OPTIONS, which adds options to the command line of the kernel after HOP kexecs, wrong-kernel, \
     guest:FAULT:MEMFD with FAULT one of offset, sealed, other-content, not-preserved, longer, shorter, hole and offset-later, \
     guest:FAULT:MEMFD:MEMFD with swapped and confused, \
     guest:FAULT:SESSION with session-closed, session-renamed, session-taken and session-finished, \
     guest:clock-step, guest:mute (flip and guest with @N: in the update after N others), device:FAULT \
     with FAULT one of bar-moved, dma-write, interrupt-lost, reset, unplugged and untraced, or machine:ITEM with ITEM one of register, fpu, msr, \
     page, interrupt, timer and clock";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a fault; write {FAULT_SYNTAX}");
        if let Some((hop, options)) = text.strip_prefix("options:").and_then(|it| it.split_once(':')) {
            let hop = hop.parse().map_err(|_| wrong())?;
            return Ok(Self::Options { hop, options: options.to_owned() });
        }
        let (text_of_update, update) = match text.rsplit_once('@') {
            Some((before, update)) => (before, update.parse::<u32>().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let mut words = text_of_update.split(':');
        let name = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let phase = || {
            let [phase] = rest[..] else { return Err(wrong()) };
            let known = || Phase::ALL.map(Phase::word).join(", ");
            Phase::from_word(phase).ok_or_else(|| format!("`{phase}` is not a phase; the phases are {}", known()))
        };
        // These faults need a connection, which does not exist in these phases.
        let inside = || match phase()? {
            phase @ (Phase::Boot | Phase::Handshake | Phase::Reconnect | Phase::Teardown) => Err(format!(
                "`{text}`: the host has no connection to the guest in {phase}; choose a phase from preserve to collect"
            )),
            phase => Ok(phase),
        };
        // The outcome is decided before teardown, and QEMU is killed there anyway.
        let outside = || match phase()? {
            Phase::Teardown => {
                Err(format!("`{text}`: the outcome is decided before teardown; choose an earlier phase"))
            }
            phase => Ok(phase),
        };
        if update > 0 && !["flip", "flip-hidden", "guest"].contains(&name) {
            return Err(format!("`{text}`: this fault has no update of its own; leave out @{update}"));
        }
        match name {
            "guest" => {
                let Some((word, names)) = rest.split_first() else { return Err(wrong()) };
                let fault = GuestFault::ALL.into_iter().find(|fault| fault.word() == *word).ok_or_else(wrong)?;
                if names.len() != fault.object().names() {
                    let wanted = match fault.object() {
                        FaultObject::Workload => "no name",
                        FaultObject::Memfd => "the name of a memfd",
                        FaultObject::TwoMemfds => "the names of two memfds",
                        FaultObject::Session => "the label of a session",
                    };
                    return Err(format!("`{text}`: guest:{word} has {wanted}"));
                }
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                Ok(Self::Guest { fault, names, update })
            }
            "wrong-kernel" if rest.is_empty() => Ok(Self::WrongKernel),
            "oom-kill" | "oom-kill-unseen" => {
                Ok(Self::OomKill { phase: inside()?, is_unseen: name == "oom-kill-unseen" })
            }
            "flip" | "flip-hidden" => {
                let [memfd, page, offset] = rest[..] else { return Err(wrong()) };
                let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
                let (page, offset) = (number(page)?, number(offset)?);
                if offset >= 4096 {
                    return Err(format!("`{text}`: a page has 4096 bytes; the offset is 0 to 4095"));
                }
                Ok(Self::Flip { memfd: memfd.to_owned(), page, offset, is_hidden: name == "flip-hidden", update })
            }
            "device" => {
                let [word] = rest[..] else { return Err(wrong()) };
                DeviceFault::ALL.into_iter().find(|fault| fault.word() == word).map(Self::Device).ok_or_else(wrong)
            }
            "machine" => {
                let [word] = rest[..] else { return Err(wrong()) };
                Item::ALL.into_iter().find(|item| item.word() == word).map(Self::Machine).ok_or_else(wrong)
            }
            "flip-unpreserved" if rest.is_empty() => Ok(Self::FlipUnpreserved),
            "stop-qemu" => Ok(Self::Stop { phase: outside()? }),
            "kill-qemu" => Ok(Self::Kill { victim: Victim::Qemu, phase: outside()? }),
            "kill-agent" => Ok(Self::Kill { victim: Victim::Agent, phase: inside()? }),
            "kill-holder" => Ok(Self::Kill { victim: Victim::Holder, phase: inside()? }),
            "panic" => Ok(Self::Kernel { end: KernelEnd::Panic, phase: inside()? }),
            "hang" => Ok(Self::Kernel { end: KernelEnd::Hang, phase: inside()? }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { memfd, page, offset, is_hidden, update } => {
                let name = if *is_hidden { "flip-hidden" } else { "flip" };
                write!(f, "{name}:{memfd}:{page}:{offset}{}", of_update(*update))
            }
            Self::Guest { fault, names, update } => {
                let words: Vec<&str> = [fault.word()].into_iter().chain(names.iter().map(String::as_str)).collect();
                write!(f, "guest:{}{}", words.join(":"), of_update(*update))
            }
            Self::Options { hop, options } => write!(f, "options:{hop}:{options}"),
            Self::WrongKernel => f.write_str("wrong-kernel"),
            Self::OomKill { phase, is_unseen } => {
                write!(f, "oom-kill{}:{phase}", if *is_unseen { "-unseen" } else { "" })
            }
            Self::FlipUnpreserved => f.write_str("flip-unpreserved"),
            Self::Device(fault) => write!(f, "device:{}", fault.word()),
            Self::Machine(item) => write!(f, "machine:{}", item.word()),
            Self::Kernel { end, phase } => write!(f, "{}:{phase}", end.word()),
            Self::Stop { phase } => write!(f, "stop-qemu:{phase}"),
            Self::Kill { victim: Victim::Qemu, phase } => write!(f, "kill-qemu:{phase}"),
            Self::Kill { victim: Victim::Agent, phase } => write!(f, "kill-agent:{phase}"),
            Self::Kill { victim: Victim::Holder, phase } => write!(f, "kill-holder:{phase}"),
        }
    }
}

/// The end of a fault that names an update; empty for the first one.
fn of_update(update: u32) -> String {
    if update == 0 { String::new() } else { format!("@{update}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read() {
        let kills = ["kill-qemu:boot", "kill-agent:verify", "kill-holder:kexec", "panic:preserve", "hang:kexec"];
        let others = [
            "flip:64m:3:17",
            "flip:64m:3:17@1",
            "flip-hidden:64m:3:17",
            "flip-unpreserved",
            "options:1:sysctl.kernel.tainted=512 a=b:c@1",
            "wrong-kernel",
            "oom-kill:verify",
            "oom-kill-unseen:kexec",
            "stop-qemu:verify",
        ];
        for text in others.into_iter().chain(kills) {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for fault in GuestFault::ALL {
            let names = ["one", "two"][..fault.object().names()].iter().map(|name| format!(":{name}"));
            let text = format!("guest:{}{}@2", fault.word(), names.collect::<String>());
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
            assert!(FAULT_SYNTAX.contains(fault.word()));
        }
        for fault in DeviceFault::ALL {
            let text = format!("device:{}", fault.word());
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
            assert!(FAULT_SYNTAX.contains(fault.word()));
        }
        for item in Item::ALL {
            let text = format!("machine:{}", item.word());
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
            assert!(FAULT_SYNTAX.contains(item.word()));
        }
    }

    #[test]
    fn what_is_not_a_fault_is_told_why() {
        for (text, why) in [
            ("", "is not a fault"),
            ("flip:64m", "is not a fault"),
            ("flip:64m:x:1", "is not a fault"),
            ("flip:64m:0:4096", "4096 bytes"),
            ("flip-hidden:64m:0", "is not a fault"),
            ("flip-unpreserved:1", "is not a fault"),
            ("device:tea", "is not a fault"),
            ("device", "is not a fault"),
            ("kill-qemu:lunch", "the phases are boot,"),
            ("kill-qemu:teardown", "decided before teardown"),
            ("kill-agent:boot", "no connection to the guest"),
            ("panic:reconnect", "no connection to the guest"),
            ("hang", "is not a fault"),
            ("hang:verify@1", "has no update of its own"),
            ("flip:64m:0:0@x", "is not a fault"),
            ("guest", "is not a fault"),
            ("guest:tea:4k", "is not a fault"),
            ("guest:offset", "the name of a memfd"),
            ("guest:swapped:4k", "the names of two memfds"),
            ("guest:session-closed", "the label of a session"),
            ("guest:mute:x", "no name"),
            ("options:x:y", "is not a fault"),
        ] {
            let message = text.parse::<Fault>().unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
