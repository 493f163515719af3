//! The evidence of a cell, which is the only input of the verdict.

use super::owed::Owed;
use crate::observe::Withheld;
use luqual_model::bounds::{TITLE, cut};
use luqual_model::{Emulation, Finding, Phase, Probe, Refusal, Side};
use luqual_vm::MachineEnd;
use std::time::Duration;

/// Why a boot stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All phases ended well.
    Complete,
    /// A requirement of the workload is missing. Nothing was preserved.
    Requirement(String),
    /// A kernel lacks something that is needed after something was preserved.
    Lacks {
        /// What is missing.
        what: String,
        /// The side of the kernel.
        side: Side,
    },
    /// A kernel refused a call.
    Refused {
        /// The call, its errno and its object.
        refused: Refusal,
        /// The side of the kernel.
        side: Side,
        /// In the source: whether the workload's state was intact afterwards; an error says what was not.
        intact: Result<(), String>,
    },
    /// QEMU ended, or the machine in it did.
    Machine(MachineEnd),
    /// A phase did not end in time.
    Deadline {
        /// The phase.
        phase: Phase,
        /// The deadline, in seconds.
        seconds: u64,
        /// How long the guest had not ticked, in milliseconds; `None` if no tick was seen, or ticks are not watched.
        silent_ms: Option<u64>,
        /// The attempts to connect, if the phase waited for that.
        link: Option<Link>,
        /// The time of the phase in which the machine could not run. The deadline was extended by it, but at most to
        /// twice its length.
        withheld: Withheld,
    },
    /// The kernel that answered is not the one that was booted.
    WrongKernel(String),
    /// The agent in the guest failed or has ended.
    Agent(String),
    /// The host failed.
    Host(String),
    /// The user ended the run.
    Interrupted,
    /// The guest was handed to an interactive session, which has ended.
    SessionClosed,
}

impl Stop {
    /// For `map_err` on an operation of the host: a [`Stop::Host`] with the operation and the error.
    pub(crate) fn host<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Host(format!("{what}: {error}"))
    }

    /// How long the machine could not run, if that is why a deadline passed.
    pub(crate) fn not_let_run(&self) -> Option<Withheld> {
        match self {
            Self::Deadline { withheld, seconds, .. } => {
                Some(*withheld).filter(|withheld| withheld.total() > Duration::from_secs(*seconds))
            }
            _ => None,
        }
    }

    /// The stop in one line, for the record of the phase in which it came.
    pub(crate) fn in_words(&self) -> String {
        cut(&self.whole(), TITLE)
    }

    fn whole(&self) -> String {
        match self {
            Self::Complete => "complete".to_owned(),
            Self::Requirement(why) | Self::WrongKernel(why) | Self::Agent(why) | Self::Host(why) => why.clone(),
            Self::Lacks { what, side } => format!("the {side} lacks something: {what}"),
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

/// The attempts to connect to a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Whether the guest said on its console that it listens.
    pub listened: bool,
    /// Why the last attempt failed, with its causes.
    pub error: Option<String>,
}

/// All input of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The last phase that started.
    pub phase: Phase,
    /// The phase of the first failed probe.
    pub first_failed: Option<Phase>,
    /// Why the boot stopped.
    pub stop: Stop,
    /// The side of the kernel that ran then.
    pub side: Side,
    /// The probes.
    pub probes: Vec<Probe>,
    /// The alternatives of what the workload owes; `None` for a program of somebody else.
    pub owed: Option<Vec<Owed<'static>>>,
    /// The findings of the consoles and of the kernels' logs.
    pub findings: Vec<Finding>,
    /// Parts of error messages that the workloads of the boot provoke.
    pub provoked: Vec<&'static str>,
    /// The taint flags that each kernel reported, by the number of kexecs before it.
    pub taints: Vec<u64>,
    /// What ran the guest.
    pub emulation: Emulation,
}
