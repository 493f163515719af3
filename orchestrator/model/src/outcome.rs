use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a cell ended. The set is closed; the order is by strength of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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

    /// What it costs whoever runs the update, from nothing: a source that says no goes on running, a target that refuses
    /// the whole loses it openly, one that loses a part may do so unseen. Of what was not found out, nothing is known, which
    /// is worse than a survival and hides no harm that was seen. Not the order of the set, which is by strength of the
    /// claim.
    pub const fn harm(self) -> u32 {
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

    /// Whether it says anything of the kernels: what was not run, and what the tool or its host failed at, does not.
    pub const fn says_something(self) -> bool {
        !matches!(self, Self::Skipped | Self::HarnessFailed)
    }

    /// The outcome of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }

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

/// What a cell is known to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// How it ends.
    pub outcome: Outcome,
    /// Whether a survival may be spoilt by warnings.
    #[serde(default)]
    pub tainted: bool,
    /// Why.
    pub reason: String,
    /// Where more is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What a pair should do, before it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// How it should end.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// A cell's outcome against what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As expected; a skipped cell too, since nothing was claimed of it.
    Expected,
    /// Worse than an expectation says.
    Regression,
    /// Better than an expectation says, with nothing that spoils it, and nothing lost that may go unseen.
    Improvement,
    /// No expectation was given, and it did not survive untainted.
    Unexpected,
    /// A retry ended differently.
    Flaky,
}

impl Status {
    /// The status of a cell. Without an expectation it is expected to survive, untainted. `skipped` is neutral, and a
    /// failure of the harness is never what anybody expects.
    pub fn of(outcome: Outcome, tainted: bool, expectation: Option<&Expectation>) -> Self {
        let clean = outcome == Outcome::Survived && !tainted;
        match (outcome, expectation) {
            (Outcome::Skipped, _) => Self::Expected,
            (Outcome::HarnessFailed, _) => Self::Unexpected,
            (_, None) => {
                if clean {
                    Self::Expected
                } else {
                    Self::Unexpected
                }
            }
            (Outcome::Survived, Some(expected)) if clean && expected.tainted => Self::Improvement,
            (_, Some(expected)) if expected.outcome == outcome && tainted == expected.tainted => Self::Expected,
            (Outcome::Lost, Some(_)) => Self::Regression,
            (_, Some(expected)) if outcome.harm() < expected.outcome.harm() && !tainted => Self::Improvement,
            // Worse, or spoilt.
            (_, Some(_)) => Self::Regression,
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
            let clean = Status::of(outcome, false, None) == Status::Expected;
            assert_eq!(clean, matches!(outcome, Outcome::Survived | Outcome::Skipped), "{outcome}");
        }
        assert_eq!(Status::of(Outcome::Survived, true, None), Status::Unexpected);
    }

    #[test]
    fn an_expectation_is_met_beaten_or_missed() {
        let expect = |outcome, tainted| Expectation { outcome, tainted, reason: String::new(), link: None };
        for (outcome, tainted, expected, status) in [
            (Outcome::Lost, false, expect(Outcome::Lost, false), Status::Expected),
            (Outcome::Survived, false, expect(Outcome::Lost, false), Status::Improvement),
            (Outcome::Crashed, false, expect(Outcome::Lost, false), Status::Regression),
            (Outcome::Lost, false, expect(Outcome::Refused, false), Status::Regression),
            (Outcome::Survived, true, expect(Outcome::Survived, false), Status::Regression),
            (Outcome::Survived, true, expect(Outcome::Survived, true), Status::Expected),
            (Outcome::Survived, false, expect(Outcome::Survived, true), Status::Improvement),
            (Outcome::Survived, true, expect(Outcome::Crashed, false), Status::Regression),
            (Outcome::Lost, false, expect(Outcome::Crashed, false), Status::Regression),
            (Outcome::Incompatible, false, expect(Outcome::Crashed, false), Status::Improvement),
            (Outcome::HarnessFailed, false, expect(Outcome::HarnessFailed, false), Status::Unexpected),
            (Outcome::Skipped, false, expect(Outcome::Survived, false), Status::Expected),
        ] {
            assert_eq!(Status::of(outcome, tainted, Some(&expected)), status, "{outcome} {expected:?}");
        }
    }

    #[test]
    fn words_are_what_serde_writes() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
    }
}
