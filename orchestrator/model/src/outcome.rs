use crate::{Phase, Probe, Refusal, Side, matches};
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

/// What a cell is known to do. A cell has to end as all that is given here says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// The outcome.
    pub outcome: Outcome,
    /// A glob over the call that a kernel refused, such as `ioctl LIVEUPDATE_SESSION_PRESERVE_FD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The name of the errno with which it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// A glob over the title: the signature of a crash, or the line by which a target refused the handover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The side of the kernel that refused or crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The phase that decides the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
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

/// How a cell ended, as far as an expectation can say.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether the cell is tainted.
    pub tainted: bool,
    /// The names of its probes.
    pub probes: ProbeNames<'a>,
    /// The title.
    pub title: &'a str,
    /// The call that a kernel refused.
    pub refusal: Option<&'a Refusal>,
    /// The side of the kernel that refused or crashed.
    pub side: Option<Side>,
    /// The phase that decided the outcome.
    pub phase: Phase,
}

impl End<'_> {
    /// An end in verify, by its outcome alone. For generated records and tests.
    pub fn of(outcome: Outcome, tainted: bool) -> Self {
        let (probes, phase) = (ProbeNames::default(), Phase::Verify);
        Self { outcome, tainted, probes, title: "", refusal: None, side: None, phase }
    }
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

    /// The expectation of an outcome alone, which any cell with that outcome meets.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            call: None,
            errno: None,
            signature: None,
            side: None,
            phase: None,
            tainted: false,
            failed: Vec::new(),
            unstable: Vec::new(),
            reason: String::new(),
            link: None,
        }
    }

    /// What of the end is not as expected, of refusals and crashes: the key, what it says, and what was seen.
    pub fn end_mismatch(&self, end: &End<'_>) -> Option<String> {
        let other = |key: &str, expected: &str, seen: &str| {
            let seen = if seen.is_empty() { "none" } else { seen };
            (!matches(expected, seen)).then(|| format!("{key}: expected {expected}, was {seen}"))
        };
        let refusal = |part: fn(&Refusal) -> &String| end.refusal.map_or("", |refusal| part(refusal).as_str());
        let side = end.side.map(|side| side.to_string()).unwrap_or_default();
        let phase = end.phase.to_string();
        let call = self.call.as_deref().and_then(|call| other("call", call, refusal(|it| &it.call)));
        let errno = self.errno.as_deref().and_then(|errno| other("errno", errno, refusal(|it| &it.errno)));
        let signature = self.signature.as_deref().and_then(|glob| other("signature", glob, end.title));
        let of_side = self.side.and_then(|expected| other("side", &expected.to_string(), &side));
        let of_phase = self.phase.and_then(|expected| other("phase", &expected.to_string(), &phase));
        call.or(errno).or(signature).or(of_side).or(of_phase)
    }

    /// The status of a cell whose outcome and taint are as expected.
    fn by_probes(&self, told: &ProbeNames<'_>) -> Status {
        let other = self.probe_mismatch(&told.failed);
        // A probe that passes is better than expected; a probe that did not run is not.
        let passes = |glob: &&str| told.passed.iter().any(|name| matches(glob, name));
        if !other.also_failed.is_empty() || !other.did_not_fail.iter().all(passes) {
            Status::Regression
        } else if !other.did_not_fail.is_empty() {
            Status::Unexpected
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
    /// As expected.
    Expected,
    /// Worse than the expectation.
    Regression,
    /// An untainted survival where less was expected.
    Improvement,
    /// Any other end: not the expected one, and neither a survival nor worse; not survived untainted, without an
    /// expectation; or no result, since the cell was skipped or the harness failed.
    Unexpected,
    /// Attempts at the cell ended differently.
    Flaky,
}

impl Status {
    /// The status of a cell. Without an expectation, a cell is expected to survive untainted. A cell that was skipped
    /// and a failure of the harness are never expected, since nothing is known then. Only an untainted survival is an
    /// improvement: an end that looks milder than the expected one can hide a loss, as a refusal does.
    pub fn of(end: &End<'_>, expectation: Option<&Expectation>) -> Self {
        let (outcome, tainted) = (end.outcome, end.tainted);
        let clean = outcome == Outcome::Survived && !tainted;
        match (outcome, expectation) {
            (Outcome::Skipped | Outcome::HarnessFailed, _) => Self::Unexpected,
            (_, None) => {
                if clean {
                    Self::Expected
                } else {
                    Self::Unexpected
                }
            }
            (_, Some(expected)) if expected.outcome == outcome && tainted == expected.tainted => {
                match expected.end_mismatch(end) {
                    Some(_) => Self::Regression,
                    None => expected.by_probes(&end.probes),
                }
            }
            (_, Some(_)) if clean => Self::Improvement,
            // A loss may go unnoticed, which is worse than any other end.
            (Outcome::Lost, Some(expected)) if expected.outcome != Outcome::Lost => Self::Regression,
            // If named probes fail, all others pass: an outcome without any result of a probe is worse.
            (_, Some(expected)) if !expected.failed.is_empty() && outcome != expected.outcome => Self::Regression,
            (_, Some(expected)) if outcome.severity() <= expected.outcome.severity() && expected.tainted >= tainted => {
                Self::Unexpected
            }
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
        Expectation { tainted, failed, ..Expectation::of(outcome) }
    }

    fn status_of(outcome: Outcome, tainted: bool, told: &ProbeNames<'_>, expectation: Option<&Expectation>) -> Status {
        Status::of(&End { probes: told.clone(), ..End::of(outcome, tainted) }, expectation)
    }

    #[test]
    fn without_an_expectation_only_an_untainted_survival_is_expected() {
        for outcome in Outcome::ALL {
            let clean = status_of(outcome, false, &ProbeNames::default(), None) == Status::Expected;
            assert_eq!(clean, outcome == Outcome::Survived, "{outcome}");
        }
        assert_eq!(status_of(Outcome::Survived, true, &ProbeNames::default(), None), Status::Unexpected);
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
            (Outcome::Incompatible, false, expect(Outcome::Crashed, false), Status::Unexpected),
            (Outcome::Lost, true, expect(Outcome::Lost, false), Status::Regression),
            (Outcome::Lost, true, expect(Outcome::Lost, true), Status::Expected),
            (Outcome::Lost, false, expect(Outcome::Lost, true), Status::Unexpected),
            (Outcome::Crashed, true, expect(Outcome::Crashed, false), Status::Regression),
            (Outcome::Refused, true, expect(Outcome::Incompatible, false), Status::Regression),
            // Nothing was lost, since nothing was preserved: that is not what was to be known.
            (Outcome::Refused, false, expect(Outcome::Lost, false), Status::Unexpected),
            (Outcome::HarnessFailed, false, expect(Outcome::HarnessFailed, false), Status::Unexpected),
            (Outcome::Skipped, false, expect(Outcome::Survived, false), Status::Unexpected),
            (Outcome::Skipped, false, expect(Outcome::Lost, false), Status::Unexpected),
        ] {
            assert_eq!(
                status_of(outcome, tainted, &ProbeNames { failed: vec!["D0 x"], passed: vec![] }, Some(&expected)),
                status,
                "{outcome} {expected:?}"
            );
        }
    }

    #[test]
    fn only_an_untainted_survival_is_an_improvement_and_only_the_expected_end_is_expected() {
        let results = [ProbeNames::default(), ProbeNames { failed: vec!["D0 x"], passed: vec!["D4 b"] }];
        let all = || Outcome::ALL.into_iter().flat_map(|outcome| [(outcome, false), (outcome, true)]);
        for ((outcome, tainted), (expected, is_known)) in all().flat_map(|end| all().map(move |known| (end, known))) {
            for (told, failed) in
                results.iter().flat_map(|told| [(told, &[][..]), (told, &["D0 x"]), (told, &["D4 *"])])
            {
                let known = expectation(expected, is_known, failed);
                let status = status_of(outcome, tainted, told, Some(&known));
                let end = format!("{outcome} {tainted} {told:?}, expected {known:?}");
                let survived = outcome == Outcome::Survived && !tainted;
                assert!(status != Status::Improvement || survived, "{end}");
                let is_it = (outcome, tainted) == (expected, is_known) && outcome.is_conclusive();
                assert!(status != Status::Expected || is_it, "{end}");
            }
        }
    }

    #[test]
    fn an_expected_loss_names_its_probes() {
        let known = expectation(Outcome::Lost, false, &["D3 *", "D4 *"]);
        let told = |failed: &[&'static str], passed: &[&'static str]| ProbeNames {
            failed: failed.into(),
            passed: passed.into(),
        };
        let status = |told: &ProbeNames<'_>| status_of(Outcome::Lost, false, told, Some(&known));
        for (failed, passed, wanted) in [
            (["D3 a", "D4 b"].as_slice(), ["D0 x"].as_slice(), Status::Expected),
            (&["D3 a", "D3 b", "D4 b"], &[], Status::Expected),
            // The cell has not survived.
            (&["D3 a"], &["D4 b"], Status::Unexpected),
            // A probe that did not run has not passed.
            (&["D3 a"], &["D0 x"], Status::Regression),
            (&["D0 x", "D3 a", "D4 b"], &[], Status::Regression),
            // Worse beside better is a regression.
            (&["D0 x", "D3 a"], &["D4 b"], Status::Regression),
            (&[], &[], Status::Regression),
        ] {
            assert_eq!(status(&told(failed, passed)), wanted, "{failed:?} {passed:?}");
        }
        let other = known.probe_mismatch(&["D0 x", "D3 a", "D0 x"]);
        assert_eq!(other, ProbeMismatch { also_failed: vec!["D0 x"], did_not_fail: vec!["D4 *"] });
        assert_eq!(other.to_string(), "also failed: D0 x; did not fail: D4 *");
        // Another outcome is judged by the outcome alone.
        assert_eq!(status_of(Outcome::Survived, false, &told(&[], &[]), Some(&known)), Status::Improvement);
        assert_eq!(status_of(Outcome::Refused, false, &told(&[], &[]), Some(&known)), Status::Regression);
        assert_eq!(status_of(Outcome::Crashed, false, &told(&["D3 a", "D4 b"], &[]), Some(&known)), Status::Regression);
    }

    #[test]
    fn an_unstable_probe_is_as_expected_either_way() {
        let mut known = expectation(Outcome::Lost, false, &["D4 *"]);
        known.unstable = vec!["D2 *".to_owned()];
        let status = |failed: &[&'static str], passed: &[&'static str]| {
            let told = ProbeNames { failed: failed.into(), passed: passed.into() };
            status_of(Outcome::Lost, false, &told, Some(&known))
        };
        assert_eq!(status(&["D2 a", "D4 b"], &[]), Status::Expected);
        assert_eq!(status(&["D4 b"], &["D2 a"]), Status::Expected);
        assert_eq!(status(&["D2 a", "D3 c", "D4 b"], &[]), Status::Regression);
        assert_eq!(status(&["D2 a"], &["D4 b"]), Status::Unexpected);
    }

    #[test]
    fn an_expectation_without_probes_takes_any() {
        let known = expectation(Outcome::Lost, false, &[]);
        assert_eq!(known.probe_mismatch(&["D0 x"]), ProbeMismatch::default());
        for failed in [vec![], vec!["D0 x"]] {
            let told = ProbeNames { failed, passed: Vec::new() };
            assert_eq!(status_of(Outcome::Lost, false, &told, Some(&known)), Status::Expected);
        }
    }

    #[test]
    fn a_refusal_and_a_crash_are_known_by_where_and_how() {
        let refusal = |call: &str, errno: &str| Refusal { call: call.into(), errno: errno.into(), about: "x".into() };
        let is = refusal("ioctl PRESERVE", "EEXIST");
        let end = End { refusal: Some(&is), side: Some(Side::Source), ..End::of(Outcome::Refused, false) };
        let known = Expectation {
            call: Some("ioctl P*".into()),
            errno: Some("EEXIST".into()),
            side: Some(Side::Source),
            phase: Some(Phase::Verify),
            ..Expectation::of(Outcome::Refused)
        };
        assert_eq!(Status::of(&end, Some(&known)), Status::Expected);
        for other in [
            End { refusal: Some(&refusal("open", "EEXIST")), ..end.clone() },
            End { refusal: Some(&refusal("ioctl PRESERVE", "EBUSY")), ..end.clone() },
            End { refusal: None, ..end.clone() },
            End { side: Some(Side::Target), ..end.clone() },
            End { side: None, ..end.clone() },
            End { phase: Phase::Load, ..end.clone() },
        ] {
            assert_eq!(Status::of(&other, Some(&known)), Status::Regression, "{other:?}");
            assert!(known.end_mismatch(&other).is_some(), "{other:?}");
        }
        let crash = Expectation { signature: Some("Oops: int3*, in a".into()), ..Expectation::of(Outcome::Crashed) };
        let crashed = |title| Status::of(&End { title, ..End::of(Outcome::Crashed, false) }, Some(&crash));
        assert_eq!(crashed("Oops: int3: 0000 [#1], in a"), Status::Expected);
        assert_eq!((crashed("Oops: int3: 0000 [#1], in b"), crashed("")), (Status::Regression, Status::Regression));
        let told = crash.end_mismatch(&End { title: "BUG: x", ..End::of(Outcome::Crashed, false) });
        assert_eq!(told.unwrap(), "signature: expected Oops: int3*, in a, was BUG: x");
    }

    #[test]
    fn words_are_what_serde_writes() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
    }
}
