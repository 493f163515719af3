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

    /// Whether the outcome says something about the kernels. A skipped cell and a failure of the harness do not.
    pub const fn says_something(self) -> bool {
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
    /// Globs over the names of the probes that pass in one run and fail in another. Both are as expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsteady: Vec<String>,
    /// The reason.
    pub reason: String,
    /// A link to more information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// The names of the probes of a cell, by result.
#[derive(Clone, Debug, Default)]
pub struct Told<'a> {
    /// The failed probes.
    pub broken: Vec<&'a str>,
    /// The passed probes.
    pub held: Vec<&'a str>,
}

impl<'a> Told<'a> {
    /// Sorts these probes by result.
    pub fn of(probes: &'a [Probe]) -> Self {
        let names = |held| probes.iter().filter(|it| it.held == held).map(|it| it.name.as_str()).collect();
        Self { broken: names(false), held: names(true) }
    }
}

/// How the failed probes of a cell differ from those of its expectation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherProbes<'a> {
    /// The failed probes that no glob matches, each once.
    pub also: Vec<&'a str>,
    /// The globs that match no failed probe.
    pub not: Vec<&'a str>,
}

impl fmt::Display for OtherProbes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("also broken", &self.also), ("not broken", &self.not)];
        let told = parts.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        f.write_str(&told.join("; "))
    }
}

impl Expectation {
    /// How the failed probes differ from the expected ones. They do not differ if the expectation names none.
    pub fn other_probes<'a>(&'a self, broken: &[&'a str]) -> OtherProbes<'a> {
        let mut other = OtherProbes::default();
        if self.broken.is_empty() {
            return other;
        }
        for name in broken {
            let is_known = self.broken.iter().chain(&self.unsteady).any(|glob| matches(glob, name));
            if !is_known && !other.also.contains(name) {
                other.also.push(name);
            }
        }
        let takes_none = |glob: &&str| !broken.iter().any(|name| matches(glob, name));
        other.not = self.broken.iter().map(String::as_str).filter(takes_none).collect();
        other
    }

    /// The status of a cell whose outcome and taint are as expected.
    fn by_probes(&self, told: &Told<'_>) -> Status {
        let other = self.other_probes(&told.broken);
        // A probe that passes is better than expected; a probe that did not run is not.
        let holds = |glob: &&str| told.held.iter().any(|name| matches(glob, name));
        if !other.also.is_empty() || !other.not.iter().all(holds) {
            Status::Regression
        } else if !other.not.is_empty() {
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
    pub fn of(outcome: Outcome, tainted: bool, told: &Told<'_>, expectation: Option<&Expectation>) -> Self {
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
            (_, Some(expected)) if !expected.broken.is_empty() && outcome != Outcome::Survived => Self::Regression,
            (_, Some(expected)) if outcome.harm() < expected.outcome.harm() && !tainted => Self::Improvement,
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

    fn expectation(outcome: Outcome, tainted: bool, broken: &[&str]) -> Expectation {
        let broken = broken.iter().map(|glob| (*glob).to_owned()).collect();
        Expectation { outcome, tainted, broken, unsteady: Vec::new(), reason: String::new(), link: None }
    }

    #[test]
    fn without_an_expectation_only_an_untainted_survival_is_expected() {
        for outcome in Outcome::ALL {
            let clean = Status::of(outcome, false, &Told::default(), None) == Status::Expected;
            assert_eq!(clean, matches!(outcome, Outcome::Survived | Outcome::Skipped), "{outcome}");
        }
        assert_eq!(Status::of(Outcome::Survived, true, &Told::default(), None), Status::Unexpected);
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
                Status::of(outcome, tainted, &Told { broken: vec!["D0 x"], held: vec![] }, Some(&expected)),
                status,
                "{outcome} {expected:?}"
            );
        }
    }

    #[test]
    fn an_expected_loss_names_its_probes() {
        let known = expectation(Outcome::Lost, false, &["D3 *", "D4 *"]);
        let told = |broken: &[&'static str], held: &[&'static str]| Told { broken: broken.into(), held: held.into() };
        let status = |told: &Told<'_>| Status::of(Outcome::Lost, false, told, Some(&known));
        for (broken, held, status_of) in [
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
            assert_eq!(status(&told(broken, held)), status_of, "{broken:?} {held:?}");
        }
        let other = known.other_probes(&["D0 x", "D3 a", "D0 x"]);
        assert_eq!(other, OtherProbes { also: vec!["D0 x"], not: vec!["D4 *"] });
        assert_eq!(other.to_string(), "also broken: D0 x; not broken: D4 *");
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
        known.unsteady = vec!["D2 *".to_owned()];
        let status = |broken: &[&'static str], held: &[&'static str]| {
            let told = Told { broken: broken.into(), held: held.into() };
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
        assert_eq!(known.other_probes(&["D0 x"]), OtherProbes::default());
        for broken in [vec![], vec!["D0 x"]] {
            let told = Told { broken, held: Vec::new() };
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
