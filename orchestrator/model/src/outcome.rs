use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a cell ended. The set is closed, and the order is by strength of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything preserved was retrieved, and every probe passed.
    Survived,
    /// The target runs, and something preserved is missing, changed or not retrievable.
    Lost,
    /// The target runs and refused the handover as a whole. It used nothing of it.
    Incompatible,
    /// The source refused, at preserve or at the kexec, and kept running with its state intact.
    Refused,
    /// A kernel panicked, oopsed, hung or reset.
    Crashed,
    /// A declared requirement is absent. Nothing was preserved.
    Skipped,
    /// luqual or its host failed. This says nothing about the kernels.
    HarnessFailed,
}

impl Outcome {
    /// Every outcome, in order.
    pub const ALL: [Self; 7] = [
        Self::Survived,
        Self::Lost,
        Self::Incompatible,
        Self::Refused,
        Self::Crashed,
        Self::Skipped,
        Self::HarnessFailed,
    ];

    /// What the outcome costs the person who runs the update; 0 is nothing. A source that refuses keeps running. A
    /// target that refuses the handover loses everything, but openly. A target that loses a part may do so unnoticed.
    /// An inconclusive outcome is worse than a survival, and it must not hide an observed failure. This is not the
    /// order of the set.
    pub const fn severity(self) -> u32 {
        match self {
            Self::Survived => 0,
            Self::Skipped => 1,
            Self::HarnessFailed => 2,
            Self::Refused => 3,
            Self::Incompatible => 4,
            Self::Lost => 5,
            Self::Crashed => 6,
        }
    }

    /// Whether the outcome says something about the kernels. A skipped cell and a failure of the harness do not.
    pub const fn is_conclusive(self) -> bool {
        !matches!(self, Self::Skipped | Self::HarnessFailed)
    }

    /// The outcome with that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }

    /// The word in records and on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Survived => "survived",
            Self::Lost => "lost",
            Self::Incompatible => "incompatible",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
            Self::Skipped => "skipped",
            Self::HarnessFailed => "harness-failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a pair should do, before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The predicted outcome.
    pub outcome: Outcome,
    /// The reason.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_serde_writes() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
    }
}
