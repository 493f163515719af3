//! Combines several attempts at a cell. Pure.

use crate::boot::Attempts;
use luqual_model::{Attempt, CellRecord, Outcome, Status};

impl Attempts {
    pub(super) fn one_more(self, done: &[CellRecord]) -> bool {
        let number = u32::try_from(done.len()).unwrap_or(u32::MAX);
        // A requirement that is missing is missing in the next attempt, too.
        let is_red = |last: &CellRecord| last.status != Status::Expected && last.outcome != Outcome::Skipped;
        let failed = done.last().is_none_or(is_red);
        number < self.repeat || (failed && number < self.repeat.saturating_add(self.retries))
    }
}

/// The record of the worst attempt, with all attempts in it; those after the first `repeat` are retries. If attempts
/// differ, the cell is flaky, whatever the last one was.
pub(super) fn worst(done: Vec<CellRecord>, repeat: usize) -> Option<CellRecord> {
    let attempts: Vec<Attempt> =
        done.iter().enumerate().flat_map(|(number, record)| attempts_of(record, number >= repeat)).collect();
    // Attempts with the same outcome can have other failed probes, of which an expectation may know some.
    let differ = attempts.iter().any(|one| (one.outcome, one.tainted) != (attempts[0].outcome, attempts[0].tainted))
        || done.iter().any(|one| one.status != done[0].status);
    // The severity comes before the status: an expected crash is worse than a survival.
    let badness = |record: &CellRecord| {
        let (known, worse) = (record.status == Status::Expected, record.status == Status::Regression);
        (record.outcome.severity(), !record.tainted.is_empty(), !known, worse)
    };
    // The first of the worst attempts.
    let mut worst = done.into_iter().rev().max_by_key(badness)?;
    if differ {
        worst.status = Status::Flaky;
    }
    if attempts.len() > 1 {
        worst.attempts = attempts;
    }
    Some(worst)
}

/// A record of several attempts has all of them already.
fn attempts_of(record: &CellRecord, retry: bool) -> Vec<Attempt> {
    if record.attempts.is_empty() { vec![attempt(record, retry)] } else { record.attempts.clone() }
}

fn attempt(record: &CellRecord, retry: bool) -> Attempt {
    Attempt {
        outcome: record.outcome,
        title: record.title.clone(),
        tainted: !record.tainted.is_empty(),
        seed: record.seed,
        duration_us: record.duration_us,
        blackout: record.blackout,
        folder: record.folder.clone(),
        retry,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use luqual_model::End;
    use luqual_model::{CellKey, Outcome, PlannedCell};

    pub(crate) fn record(outcome: Outcome, folder: &str) -> CellRecord {
        let key = CellKey { source: "a".into(), target: "b".into(), profile: "p".into(), workload: "w.x".into() };
        let plan = PlannedCell { key, prediction: None, expectation: None };
        let status = Status::of(&End::of(outcome, &[]), None);
        CellRecord { seed: 1, duration_us: 1, folder: folder.into(), ..CellRecord::new(plan, outcome, status) }
    }

    #[test]
    fn a_retry_that_is_good_turns_nothing_green() {
        let tried = |outcomes: &[Outcome]| {
            let done = outcomes.iter().enumerate().map(|(n, outcome)| record(*outcome, &n.to_string()));
            worst(done.collect(), 1).unwrap()
        };
        let flaky = tried(&[Outcome::Lost, Outcome::Survived]);
        assert_eq!((flaky.outcome, flaky.status, flaky.attempts.len()), (Outcome::Lost, Status::Flaky, 2));
        let both = tried(&[Outcome::Lost, Outcome::Crashed, Outcome::Crashed]);
        assert_eq!((both.outcome, both.folder.as_str(), both.status), (Outcome::Crashed, "1", Status::Flaky));
        let same = tried(&[Outcome::Lost, Outcome::Lost]);
        assert_eq!((same.status, same.rate()), (Status::Unexpected, None), "a retry is no sample");
        let mut crashed = record(Outcome::Crashed, "0");
        crashed.status = Status::Expected;
        let mut better = record(Outcome::Survived, "1");
        better.status = Status::Improvement;
        let known = worst(vec![crashed, better], 2).unwrap();
        assert_eq!((known.outcome, known.status), (Outcome::Crashed, Status::Flaky));
        let once = tried(&[Outcome::Survived]);
        assert_eq!((once.status, once.attempts.len(), once.rate()), (Status::Expected, 0, None));
    }

    #[test]
    fn a_loss_of_other_probes_is_another_end() {
        let lost = |status, folder| CellRecord { status, ..record(Outcome::Lost, folder) };
        let done = vec![lost(Status::Expected, "0"), lost(Status::Improvement, "1"), lost(Status::Regression, "2")];
        let told = worst(done, 3).unwrap();
        assert_eq!((told.status, told.folder.as_str()), (Status::Flaky, "2"));
        let same = worst(vec![lost(Status::Regression, "0"), lost(Status::Regression, "1")], 1).unwrap();
        assert_eq!(same.status, Status::Regression);
    }

    #[test]
    fn a_rate_is_that_of_the_repetitions() {
        let mut tainted = record(Outcome::Survived, "");
        tainted.tainted = vec!["WARNING".into()];
        let done = [Outcome::Survived, Outcome::Lost, Outcome::HarnessFailed, Outcome::Skipped, Outcome::Survived];
        let mut done: Vec<CellRecord> = done.into_iter().map(|outcome| record(outcome, "")).collect();
        done.insert(0, tainted);
        let rate = worst(done, 5).unwrap().rate().unwrap();
        assert_eq!((rate.failed, rate.of), (2, 3), "the last is a retry, two say nothing");
    }

    #[test]
    fn retries_end_with_a_good_one_and_repeats_do_not() {
        let count = |repeat, retries, outcomes: &[Outcome]| {
            let mut done = Vec::new();
            while (Attempts { repeat, retries }).one_more(&done) {
                done.push(record(outcomes[done.len() % outcomes.len()], ""));
            }
            done.len()
        };
        assert_eq!(count(1, 0, &[Outcome::Lost]), 1);
        assert_eq!(count(1, 3, &[Outcome::Lost]), 4);
        assert_eq!(count(1, 3, &[Outcome::Lost, Outcome::Survived]), 2);
        assert_eq!(count(5, 0, &[Outcome::Survived]), 5);
        assert_eq!(count(3, 2, &[Outcome::Survived]), 3);
    }
}
