use crate::{End, Expectation, Outcome, matches};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
        let (outcome, tainted) = (end.outcome, !end.tainted.is_empty());
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
            (_, Some(expected)) if expected.outcome == outcome && tainted != expected.tainted.is_empty() => {
                match expected.end_mismatch(end) {
                    Some(_) => Self::Regression,
                    None => Self::of_known_end(end, expected),
                }
            }
            (_, Some(_)) if clean => Self::Improvement,
            // A loss may go unnoticed, which is worse than any other end.
            (Outcome::Lost, Some(expected)) if expected.outcome != Outcome::Lost => Self::Regression,
            // If named probes fail, all others pass: an outcome without any result of a probe is worse.
            (_, Some(expected)) if !expected.failed.is_empty() && outcome != expected.outcome => Self::Regression,
            (_, Some(expected))
                if outcome.severity() <= expected.outcome.severity() && (!tainted || !expected.tainted.is_empty()) =>
            {
                Self::Unexpected
            }
            (_, Some(_)) => Self::Regression,
        }
    }

    /// The status of a cell that ended as expected, as far as its probes and taints do not say otherwise.
    fn of_known_end(end: &End<'_>, expected: &Expectation) -> Self {
        let other = expected.probe_mismatch(&end.probes.failed);
        // A probe that passes is better than expected; a probe that did not run is not.
        let passes = |glob: &&str| end.probes.passed.iter().any(|name| matches(glob, name));
        if !other.also_failed.is_empty() || !other.did_not_fail.iter().all(passes) {
            Self::Regression
        } else if !other.did_not_fail.is_empty() || expected.absent_taint(end.tainted).is_some() {
            Self::Unexpected
        } else {
            Self::Expected
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
    use crate::{Phase, ProbeMismatch, ProbeNames, Refusal, Side};

    fn taints(tainted: bool) -> Vec<String> {
        tainted.then(|| "target: taint 512 (W)".to_owned()).into_iter().collect()
    }

    fn expectation(outcome: Outcome, tainted: bool, failed: &[&str]) -> Expectation {
        let failed = failed.iter().map(|glob| (*glob).to_owned()).collect();
        Expectation { tainted: taints(tainted), failed, ..Expectation::of(outcome) }
    }

    fn status_of(outcome: Outcome, tainted: bool, told: &ProbeNames<'_>, expectation: Option<&Expectation>) -> Status {
        Status::of(&End { probes: told.clone(), ..End::of(outcome, &taints(tainted)) }, expectation)
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
        let end = End { refusal: Some(&is), side: Some(Side::Source), ..End::of(Outcome::Refused, &[]) };
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
        let crashed = |title| Status::of(&End { title, ..End::of(Outcome::Crashed, &[]) }, Some(&crash));
        assert_eq!(crashed("Oops: int3: 0000 [#1], in a"), Status::Expected);
        assert_eq!((crashed("Oops: int3: 0000 [#1], in b"), crashed("")), (Status::Regression, Status::Regression));
        let told = crash.end_mismatch(&End { title: "BUG: x", ..End::of(Outcome::Crashed, &[]) });
        assert_eq!(told.unwrap(), "signature: expected Oops: int3*, in a, was BUG: x");
    }

    #[test]
    fn a_taint_is_known_by_its_line() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        for outcome in [Outcome::Survived, Outcome::Lost, Outcome::Crashed] {
            let tainted = lines(&["target: WARNING: at kho_*", "target: taint 512 (W)"]);
            let known = Expectation { tainted, ..Expectation::of(outcome) };
            let status = |seen: &[&str]| Status::of(&End::of(outcome, &lines(seen)), Some(&known));
            let (warning, flag) = ("target: WARNING: at kho_restore_page+0x1/0x2", "target: taint 512 (W)");
            assert_eq!(status(&[warning, flag, warning]), Status::Expected);
            for other in ["target: WARNING: at kfree+0x1/0x2", "source: taint 512 (W)", "target: taint 640 (DW)"] {
                assert_eq!(status(&[warning, flag, other]), Status::Regression, "{other}");
            }
            assert_eq!(status(&[flag]), Status::Unexpected);
        }
        // Journals of earlier versions have `true`, which takes any line, or `false`.
        for (text, globs) in [("true", vec!["*".to_owned()]), ("false", vec![]), ("[\"a*\"]", vec!["a*".to_owned()])] {
            let json = format!("{{\"outcome\":\"lost\",\"tainted\":{text},\"reason\":\"x\"}}");
            assert_eq!(serde_json::from_str::<Expectation>(&json).unwrap().tainted, globs);
        }
    }

    #[test]
    fn what_an_expectation_has_to_name() {
        let named = |outcome, call: bool, signature: bool, failed: bool| {
            let text = |is: bool| is.then(|| "x".to_owned());
            let failed = text(failed).into_iter().collect();
            let (call, signature) = (text(call), text(signature));
            Expectation { call, signature, failed, ..Expectation::of(outcome) }.unnamed()
        };
        for outcome in Outcome::ALL {
            let (nothing, by_call) = (named(outcome, false, false, false), named(outcome, true, false, false));
            let (by_line, by_probe) = (named(outcome, false, true, false), named(outcome, false, false, true));
            let told = match outcome {
                Outcome::Lost => [vec!["failed"], vec!["errno"], vec![], vec![]],
                Outcome::Incompatible => [vec!["signature"], vec!["errno"], vec![], vec!["signature"]],
                Outcome::Refused => {
                    [vec!["call", "errno"], vec!["errno"], vec!["call", "errno"], vec!["call", "errno"]]
                }
                Outcome::Crashed => {
                    let all = vec!["signature", "side", "phase"];
                    [all.clone(), all.clone(), vec!["side", "phase"], all]
                }
                _ => [vec![], vec![], vec![], vec![]],
            };
            assert_eq!([nothing, by_call, by_line, by_probe], told, "{outcome}");
        }
    }
}
