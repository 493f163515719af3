//! What is known of a cell when it has stopped: the verdict's only input.

use luqual_model::{Finding, Phase, Probe, Refusal, Side};
use luqual_vm::MachineEnd;

/// Why the sequence of phases ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All phases were passed.
    Complete,
    /// Something that the workload declares to need is absent.
    Requirement(String),
    /// The kernel said no.
    Refused {
        /// To what.
        refused: Refusal,
        /// Which kernel.
        side: Side,
        /// In the source: whether the workload's state was found intact afterwards, or what was not.
        intact: Result<(), String>,
    },
    /// QEMU ended, or the machine in it did.
    Machine(MachineEnd),
    /// A phase did not end in time.
    Deadline {
        /// Which.
        phase: Phase,
        /// How long it was given, in seconds.
        seconds: u64,
        /// For how long the guest had not ticked, in milliseconds; `None` where no tick was seen, or nobody watches.
        silent_ms: Option<u64>,
        /// What came of connecting, where that was waited for.
        link: Option<Link>,
    },
    /// The kernel that answered is not the one that was booted.
    WrongKernel(String),
    /// The agent in the guest could not do its own work, or is gone.
    Agent(String),
    /// The host could not do its part.
    Host(String),
    /// The user ended the run.
    Interrupted,
    /// It was handed over to an interactive session, which has ended.
    SessionClosed,
}

impl Stop {
    /// For `map_err` on what the host does: it could not do that, and why.
    pub(crate) fn host<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Host(format!("{what}: {error}"))
    }

    /// The stop in one line, for the record of the phase in which it came.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Complete => "complete".to_owned(),
            Self::Requirement(why) | Self::WrongKernel(why) | Self::Agent(why) | Self::Host(why) => why.clone(),
            Self::Refused { refused, .. } => refused.to_string(),
            Self::Machine(end) => match end {
                MachineEnd::Panicked => "the guest panicked".to_owned(),
                MachineEnd::Reset => "the guest reset the machine".to_owned(),
                MachineEnd::PoweredOff => "the guest powered the machine off".to_owned(),
                MachineEnd::Qemu(why) => why.clone(),
            },
            Self::Deadline { seconds, silent_ms: None, .. } => format!("not done within {seconds} s"),
            Self::Deadline { seconds, silent_ms: Some(ms), .. } => {
                format!("not done within {seconds} s; the last tick was {ms} ms ago")
            }
            Self::Interrupted => "interrupted".to_owned(),
            Self::SessionClosed => "left".to_owned(),
        }
    }
}

/// What came of connecting to a guest so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Whether the guest said on its console that it listens.
    pub listened: bool,
    /// Why the last attempt failed, with its causes.
    pub error: Option<String>,
}

/// All that a verdict may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The last phase that was entered.
    pub phase: Phase,
    /// Why there was no further one.
    pub stop: Stop,
    /// What the workload checked.
    pub probes: Vec<Probe>,
    /// What the console and the kernel's log said.
    pub findings: Vec<Finding>,
    /// The source's taint flags when last asked.
    pub source_taint: u64,
    /// The target's taint flags when last asked.
    pub target_taint: u64,
}
