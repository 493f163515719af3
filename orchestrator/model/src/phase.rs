use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A step in the life of a cell. Each has its own deadline, whose clock starts with the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// QEMU starts, the source kernel reaches the agent.
    Boot,
    /// The host and the source's agent agree on who they are.
    Handshake,
    /// The workload hands its state to the kernel.
    Preserve,
    /// The target is loaded by kexec_file_load(2).
    Load,
    /// reboot(2) into the target, until the source's ticks stop.
    Kexec,
    /// From the silence to a new handshake that proves the target.
    Reconnect,
    /// The workload asks the target's kernel for its state.
    Retrieve,
    /// The workload compares what it got with what it had.
    Verify,
    /// The workload tells the kernel that it is done.
    Finish,
    /// Logs and traces are brought to the host.
    Collect,
    /// The machine is ended and its files are removed.
    Teardown,
}

impl Phase {
    /// Every phase, in the order in which a cell passes them.
    pub const ALL: [Self; 11] = [
        Self::Boot,
        Self::Handshake,
        Self::Preserve,
        Self::Load,
        Self::Kexec,
        Self::Reconnect,
        Self::Retrieve,
        Self::Verify,
        Self::Finish,
        Self::Collect,
        Self::Teardown,
    ];

    /// Whether it is the kernel that is left which is asked for something.
    pub const fn is_of_a_source(self) -> bool {
        matches!(self, Self::Preserve | Self::Load | Self::Kexec)
    }

    /// The word as it stands in records, in `matrix.toml` and on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Handshake => "handshake",
            Self::Preserve => "preserve",
            Self::Load => "load",
            Self::Kexec => "kexec",
            Self::Reconnect => "reconnect",
            Self::Retrieve => "retrieve",
            Self::Verify => "verify",
            Self::Finish => "finish",
            Self::Collect => "collect",
            Self::Teardown => "teardown",
        }
    }

    /// The phase of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }

    /// Which kernel runs in this phase, as far as the tool can know from the phase alone.
    pub const fn side(self) -> Side {
        match self {
            Self::Boot | Self::Handshake | Self::Preserve | Self::Load | Self::Kexec => Side::Source,
            Self::Reconnect | Self::Retrieve | Self::Verify | Self::Finish | Self::Collect | Self::Teardown => {
                Side::Target
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One of the two kernels of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The kernel before the kexec.
    Source,
    /// The kernel after the kexec.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}
