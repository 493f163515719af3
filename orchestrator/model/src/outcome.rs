use serde::{Deserialize, Serialize};
use std::fmt;

/// How a cell ended. The set is closed; the order is by strength of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All that was preserved was retrieved, and every probe held.
    Survived,
    /// The target runs, and something preserved is missing, changed or not retrievable.
    Lost,
    /// The target runs and refused the handover as a whole; nothing of it was used.
    Incompatible,
    /// The source said no, at preserve or at the kexec, and kept running with its state intact.
    Refused,
    /// A kernel panicked, oopsed, hung or reset.
    Crashed,
    /// A declared requirement is absent; nothing was run.
    Skipped,
    /// The tool or the host failed; nothing is claimed about the kernels.
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

    /// The word as it stands in records and on the terminal.
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

/// A cell's outcome against what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As expected; a skipped cell too, since nothing was claimed of it.
    Expected,
    /// Worse than an expectation says.
    Regression,
    /// Better than an expectation says.
    Improvement,
    /// No expectation was given, and it did not survive untainted.
    Unexpected,
    /// A retry ended differently.
    Flaky,
}

impl Status {
    /// The status of a cell for which no expectation was given: it is expected to survive, untainted.
    /// `skipped` is neutral.
    pub fn without_expectation(outcome: Outcome, tainted: bool) -> Self {
        match outcome {
            Outcome::Survived if !tainted => Self::Expected,
            Outcome::Skipped => Self::Expected,
            _ => Self::Unexpected,
        }
    }

    /// The word as it stands in records and on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Regression => "regression",
            Self::Improvement => "improvement",
            Self::Unexpected => "unexpected",
            Self::Flaky => "flaky",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_untainted_survival_is_expected_without_being_told() {
        for outcome in Outcome::ALL {
            let clean = Status::without_expectation(outcome, false) == Status::Expected;
            assert_eq!(clean, matches!(outcome, Outcome::Survived | Outcome::Skipped), "{outcome}");
        }
        assert_eq!(Status::without_expectation(Outcome::Survived, true), Status::Unexpected);
    }

    #[test]
    fn words_are_what_serde_writes() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
    }
}
