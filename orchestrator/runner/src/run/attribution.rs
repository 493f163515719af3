//! Decides which cells caused the bad end of a shared boot. Pure.

use super::attempts::worst;
use luqual_model::{CellRecord, Outcome, Status};
use std::collections::HashSet;

/// Why a shared boot did not end as expected; `None` if it did.
pub(super) fn unexpected_end(records: &[CellRecord]) -> Option<String> {
    let bad = records.iter().find(|record| !is_as_expected(record))?;
    let outcome = if bad.outcome == Outcome::Survived { "tainted".to_owned() } else { bad.outcome.to_string() };
    let other = bad.end_mismatch().or_else(|| bad.probe_mismatch().map(|other| other.to_string()));
    let why = other.unwrap_or_else(|| bad.title.clone());
    Some(format!("{}: {outcome}: {why}", bad.plan.key.workload))
}

/// Combines the records of a shared boot that did not end as expected with those of its cells alone. If a cell alone
/// ends as a cell did in the boot, with the same title, that cell is the cause, and the boot says nothing about the
/// others. Otherwise the cause is unknown, and the cell's result in the shared boot counts as an attempt. So do its
/// own failed probes there.
pub(super) fn attributed(shared: Vec<CellRecord>, alone: Vec<CellRecord>) -> Vec<CellRecord> {
    let known: HashSet<End> = alone.iter().flat_map(ends).collect();
    let told = |(shared, alone): (CellRecord, CellRecord)| {
        let is_own = shared.probes.iter().any(|probe| !probe.passed);
        let is_same = end(&shared) == end(&alone) && shared.against_expectation() == alone.against_expectation();
        if is_as_expected(&shared) || is_same || (known.contains(&end(&shared)) && !is_own) {
            return Some(alone);
        }
        worst(vec![shared, alone], 2)
    };
    shared.into_iter().zip(alone).filter_map(told).collect()
}

/// A cell that ended as expected in the shared boot.
fn is_as_expected(record: &CellRecord) -> bool {
    record.outcome.is_conclusive() && record.against_expectation() == Status::Expected
}

/// The outcome, whether the cell is tainted, and its title.
type End = (Outcome, bool, String);

fn end(record: &CellRecord) -> End {
    (record.outcome, !record.tainted.is_empty(), record.title.clone())
}

/// The end of a cell, and of each of its attempts.
fn ends(record: &CellRecord) -> Vec<End> {
    let attempts = record.attempts.iter().map(|attempt| (attempt.outcome, attempt.tainted, attempt.title.clone()));
    attempts.chain([end(record)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::attempts::tests::record;
    use luqual_model::{Expectation, Probe};

    #[test]
    fn each_cell_is_held_against_what_is_known_of_itself() {
        let expectation = Expectation::of(Outcome::Lost);
        // Each is held against what is known of itself.
        let mut lost = record(Outcome::Lost, "");
        assert!(unexpected_end(&[lost.clone()]).is_some());
        lost.plan.expectation = Some(expectation.clone());
        assert_eq!(unexpected_end(&[lost.clone()]), None);
        // A loss of other probes than are known is none that is known.
        let probe =
            |name: &str| Probe { name: name.into(), expected: String::new(), observed: String::new(), passed: false };
        lost.plan.expectation.as_mut().unwrap().failed = vec!["D3 *".into()];
        lost.probes = vec![probe("D3 a")];
        assert_eq!(unexpected_end(&[lost.clone()]), None);
        lost.probes.push(probe("D0 x"));
        assert_eq!(unexpected_end(&[lost.clone()]).unwrap(), "w.x: lost: also failed: D0 x");
        // Alone it lost what is known: what it lost besides in the boot is not forgotten.
        let mut alone = lost.clone();
        alone.probes.pop();
        (lost.status, alone.status) = (Status::Regression, Status::Expected);
        let told = attributed(vec![lost.clone()], vec![alone]);
        assert_eq!((told[0].status, told[0].probes.len(), told[0].attempts.len()), (Status::Flaky, 2, 2));
        lost.outcome = Outcome::Survived;
        assert!(unexpected_end(&[lost]).is_some(), "better than expected is not as expected");
    }

    #[test]
    fn one_failure_fakes_no_other_and_none_is_forgotten() {
        let crashed = || vec![record(Outcome::Crashed, "shared"), record(Outcome::Crashed, "shared")];
        let outcomes = |records: &[CellRecord]| -> Vec<(Outcome, Status, usize)> {
            records.iter().map(|it| (it.outcome, it.status, it.attempts.len())).collect()
        };
        let alone = vec![record(Outcome::Crashed, "1"), record(Outcome::Survived, "2")];
        let known = [(Outcome::Crashed, Status::Unexpected, 0), (Outcome::Survived, Status::Expected, 0)];
        assert_eq!(outcomes(&attributed(crashed(), alone)), known);
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Survived, "2")];
        assert_eq!(outcomes(&attributed(crashed(), alone)), [(Outcome::Crashed, Status::Flaky, 2); 2]);
        let lost = || {
            let mut lost = record(Outcome::Lost, "shared");
            let (name, expected, observed) = ("content".into(), "a".into(), "b".into());
            lost.probes.push(Probe { name, expected, observed, passed: false });
            vec![lost, record(Outcome::Survived, "shared")]
        };
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Survived, "2")];
        let one = [(Outcome::Lost, Status::Flaky, 2), (Outcome::Survived, Status::Expected, 0)];
        assert_eq!(outcomes(&attributed(lost(), alone)), one);
        // What the cell's own probes found is not explained by another that is lost alone.
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Lost, "2")];
        let both = [(Outcome::Lost, Status::Flaky, 2), (Outcome::Lost, Status::Unexpected, 0)];
        assert_eq!(outcomes(&attributed(lost(), alone)), both);
        // A failure of the harness, or another end, explains no crash.
        for other in [Outcome::HarnessFailed, Outcome::Lost] {
            let alone = vec![record(other, "1"), record(Outcome::Survived, "2")];
            let told = outcomes(&attributed(crashed(), alone));
            assert_eq!(told[1], (Outcome::Crashed, Status::Flaky, 2), "{told:?}");
        }
        // Nor do a crash or a warning with other words.
        let titled = |outcome, title: &str| {
            let mut titled = record(outcome, "");
            titled.title = title.into();
            titled.tainted = if outcome == Outcome::Survived { vec![title.into()] } else { Vec::new() };
            titled
        };
        for outcome in [Outcome::Crashed, Outcome::Survived] {
            let shared = vec![titled(outcome, "X"), titled(outcome, "X")];
            let told = attributed(shared, vec![record(Outcome::Survived, ""), titled(outcome, "Y")]);
            assert_eq!((told[0].title.as_str(), told[0].status), ("X", Status::Flaky), "{told:?}");
        }
        // One attempt of several does.
        let mut sometimes = record(Outcome::Survived, "1");
        sometimes.attempts = worst(vec![record(Outcome::Crashed, "x"), record(Outcome::Survived, "y")], 2)
            .map(|worst| worst.attempts)
            .unwrap();
        let told = outcomes(&attributed(crashed(), vec![sometimes, record(Outcome::Survived, "2")]));
        assert_eq!(told[1], (Outcome::Survived, Status::Expected, 0));
    }

    #[test]
    fn a_warning_is_not_well() {
        let mut tainted = record(Outcome::Survived, "");
        assert_eq!(unexpected_end(&[tainted.clone()]), None);
        tainted.tainted = vec!["WARNING".into()];
        tainted.title = "WARNING".into();
        assert_eq!(unexpected_end(&[tainted]).unwrap(), "w.x: tainted: WARNING");
    }
}
