use crate::{Probe, matches};
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

/// What a cell is known to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether the cell is tainted.
    #[serde(default)]
    pub tainted: bool,
    /// For `lost`: globs over the names of the probes that fail. If there is none, any probe may fail.
    #[serde(rename = "broken", default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Globs over the names of the probes that pass in one run and fail in another. Both are as expected.
    #[serde(rename = "unsteady", default, skip_serializing_if = "Vec::is_empty")]
    pub unstable: Vec<String>,
    /// The reason.
    pub reason: String,
    /// A link to more information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// The names of the probes of a cell, by result.
#[derive(Clone, Debug, Default)]
pub struct ProbeNames<'a> {
    /// The failed probes.
    pub failed: Vec<&'a str>,
    /// The passed probes.
    pub passed: Vec<&'a str>,
}

impl<'a> ProbeNames<'a> {
    /// Sorts these probes by result.
    pub fn of(probes: &'a [Probe]) -> Self {
        let names = |passed| probes.iter().filter(|it| it.passed == passed).map(|it| it.name.as_str()).collect();
        Self { failed: names(false), passed: names(true) }
    }
}

/// How the failed probes of a cell differ from those of its expectation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeMismatch<'a> {
    /// The failed probes that no glob matches, each once.
    pub also_failed: Vec<&'a str>,
    /// The globs that match no failed probe.
    pub did_not_fail: Vec<&'a str>,
}

impl fmt::Display for ProbeMismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("also failed", &self.also_failed), ("did not fail", &self.did_not_fail)];
        let told = parts.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        f.write_str(&told.join("; "))
    }
}

impl Expectation {
    /// How the failed probes differ from the expected ones. They do not differ if the expectation names none.
    pub fn probe_mismatch<'a>(&'a self, failed: &[&'a str]) -> ProbeMismatch<'a> {
        let mut other = ProbeMismatch::default();
        if self.failed.is_empty() {
            return other;
        }
        for name in failed {
            let is_known = self.failed.iter().chain(&self.unstable).any(|glob| matches(glob, name));
            if !is_known && !other.also_failed.contains(name) {
                other.also_failed.push(name);
            }
        }
        let takes_none = |glob: &&str| !failed.iter().any(|name| matches(glob, name));
        other.did_not_fail = self.failed.iter().map(String::as_str).filter(takes_none).collect();
        other
    }

    /// The status of a cell whose outcome and taint are as expected.
    fn by_probes(&self, told: &ProbeNames<'_>) -> Status {
        let other = self.probe_mismatch(&told.failed);
        // A probe that passes is better than expected; a probe that did not run is not.
        let holds = |glob: &&str| told.passed.iter().any(|name| matches(glob, name));
        if !other.also_failed.is_empty() || !other.did_not_fail.iter().all(holds) {
            Status::Regression
        } else if !other.did_not_fail.is_empty() {
            Status::Improvement
        } else {
            Status::Expected
        }
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

/// The outcome of a cell against its expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As expected. A skipped cell is too, since it claims nothing.
    Expected,
    /// Worse than the expectation.
    Regression,
    /// Better than the expectation, untainted, and without a loss.
    Improvement,
    /// There is no expectation, and the cell did not survive untainted.
    Unexpected,
    /// Attempts at the cell ended differently.
    Flaky,
}

impl Status {
    /// The status of a cell. Without an expectation, a cell is expected to survive untainted. `skipped` is neutral,
    /// and a failure of the harness is never expected. If the expectation names failing probes, another failing probe
    /// is a regression, and a passing one is an improvement.
    pub fn of(outcome: Outcome, tainted: bool, told: &ProbeNames<'_>, expectation: Option<&Expectation>) -> Self {
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
            (_, Some(expected)) if expected.outcome == outcome && tainted == expected.tainted => {
                expected.by_probes(told)
            }
            (Outcome::Lost, Some(_)) => Self::Regression,
            // If named probes fail, all others pass: an outcome without any result of a probe is worse.
            (_, Some(expected)) if !expected.failed.is_empty() && outcome != Outcome::Survived => Self::Regression,
            (_, Some(expected)) if outcome.severity() < expected.outcome.severity() && !tainted => Self::Improvement,
            // Worse, or tainted.
            (_, Some(_)) => Self::Regression,
        }
    }

    /// The word in records and on the terminal.
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

    fn expectation(outcome: Outcome, tainted: bool, failed: &[&str]) -> Expectation {
        let failed = failed.iter().map(|glob| (*glob).to_owned()).collect();
        Expectation { outcome, tainted, failed, unstable: Vec::new(), reason: String::new(), link: None }
    }

    #[test]
    fn without_an_expectation_only_an_untainted_survival_is_expected() {
        for outcome in Outcome::ALL {
            let clean = Status::of(outcome, false, &ProbeNames::default(), None) == Status::Expected;
            assert_eq!(clean, matches!(outcome, Outcome::Survived | Outcome::Skipped), "{outcome}");
        }
        assert_eq!(Status::of(Outcome::Survived, true, &ProbeNames::default(), None), Status::Unexpected);
    }

    #[test]
    fn an_expectation_is_met_beaten_or_missed() {
        let expect = |outcome, tainted| expectation(outcome, tainted, &[]);
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
            assert_eq!(
                Status::of(outcome, tainted, &ProbeNames { failed: vec!["D0 x"], passed: vec![] }, Some(&expected)),
                status,
                "{outcome} {expected:?}"
            );
        }
    }

    #[test]
    fn an_expected_loss_names_its_probes() {
        let known = expectation(Outcome::Lost, false, &["D3 *", "D4 *"]);
        let told = |failed: &[&'static str], passed: &[&'static str]| ProbeNames {
            failed: failed.into(),
            passed: passed.into(),
        };
        let status = |told: &ProbeNames<'_>| Status::of(Outcome::Lost, false, told, Some(&known));
        for (failed, passed, status_of) in [
            (["D3 a", "D4 b"].as_slice(), ["D0 x"].as_slice(), Status::Expected),
            (&["D3 a", "D3 b", "D4 b"], &[], Status::Expected),
            (&["D3 a"], &["D4 b"], Status::Improvement),
            // A probe that did not run has not passed.
            (&["D3 a"], &["D0 x"], Status::Regression),
            (&["D0 x", "D3 a", "D4 b"], &[], Status::Regression),
            // Worse beside better is a regression.
            (&["D0 x", "D3 a"], &["D4 b"], Status::Regression),
            (&[], &[], Status::Regression),
        ] {
            assert_eq!(status(&told(failed, passed)), status_of, "{failed:?} {passed:?}");
        }
        let other = known.probe_mismatch(&["D0 x", "D3 a", "D0 x"]);
        assert_eq!(other, ProbeMismatch { also_failed: vec!["D0 x"], did_not_fail: vec!["D4 *"] });
        assert_eq!(other.to_string(), "also failed: D0 x; did not fail: D4 *");
        // Another outcome is judged by the outcome alone.
        assert_eq!(Status::of(Outcome::Survived, false, &told(&[], &[]), Some(&known)), Status::Improvement);
        assert_eq!(Status::of(Outcome::Refused, false, &told(&[], &[]), Some(&known)), Status::Regression);
        assert_eq!(
            Status::of(Outcome::Crashed, false, &told(&["D3 a", "D4 b"], &[]), Some(&known)),
            Status::Regression
        );
    }

    #[test]
    fn an_unstable_probe_is_as_expected_either_way() {
        let mut known = expectation(Outcome::Lost, false, &["D4 *"]);
        known.unstable = vec!["D2 *".to_owned()];
        let status = |failed: &[&'static str], passed: &[&'static str]| {
            let told = ProbeNames { failed: failed.into(), passed: passed.into() };
            Status::of(Outcome::Lost, false, &told, Some(&known))
        };
        assert_eq!(status(&["D2 a", "D4 b"], &[]), Status::Expected);
        assert_eq!(status(&["D4 b"], &["D2 a"]), Status::Expected);
        assert_eq!(status(&["D2 a", "D3 c", "D4 b"], &[]), Status::Regression);
        assert_eq!(status(&["D2 a"], &["D4 b"]), Status::Improvement);
    }

    #[test]
    fn an_expectation_without_probes_takes_any() {
        let known = expectation(Outcome::Lost, false, &[]);
        assert_eq!(known.probe_mismatch(&["D0 x"]), ProbeMismatch::default());
        for failed in [vec![], vec!["D0 x"]] {
            let told = ProbeNames { failed, passed: Vec::new() };
            assert_eq!(Status::of(Outcome::Lost, false, &told, Some(&known)), Status::Expected);
        }
    }

    #[test]
    fn words_are_what_serde_writes() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
    }
}
