use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A step of a boot. Each phase has a deadline of its own, which starts with the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// QEMU starts, and the source kernel starts the agent.
    Boot,
    /// The host and the source's agent identify each other.
    Handshake,
    /// The workload hands its state to the kernel.
    Preserve,
    /// kexec_file_load(2) loads the target.
    Load,
    /// reboot(2) into the target, until the source's ticks stop.
    Kexec,
    /// From the last tick to a new handshake that proves that the target runs.
    Reconnect,
    /// The workload retrieves its state from the target kernel.
    Retrieve,
    /// The workload compares the retrieved state with the original.
    Verify,
    /// The workload finishes its sessions.
    Finish,
    /// The host collects logs and traces.
    Collect,
    /// The host stops the machine and removes its files.
    Teardown,
}

impl Phase {
    /// Every phase, in order.
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

    /// Whether the phase acts on the kernel before the kexec.
    pub const fn is_of_a_source(self) -> bool {
        matches!(self, Self::Preserve | Self::Load | Self::Kexec)
    }

    /// The word in records, in `matrix.toml` and on the terminal.
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

    /// The kernel that runs in this phase, as far as the phase alone tells.
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

impl Side {
    /// The side of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Source, Self::Target].into_iter().find(|side| side.to_string() == word)
    }

    /// The side of the kernel that runs after `hop` kexecs.
    pub const fn after(hop: u32) -> Self {
        if hop == 0 { Self::Source } else { Self::Target }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}
