//! A cell as often as it was asked for, and what several attempts come to.

use crate::cell::{Cell, Host, run_once};
use luqual_model::{Attempt, CellRecord, Event, Status};
use tokio::sync::mpsc;

/// How often a cell is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// How often anyway, from 1.
    pub repeat: u32,
    /// How often more while it is not as expected.
    pub retries: u32,
}

impl Attempts {
    fn one_more(self, done: &[CellRecord]) -> bool {
        let number = u32::try_from(done.len()).unwrap_or(u32::MAX);
        let failed = done.last().is_none_or(|last| last.status != Status::Expected);
        number < self.repeat || (failed && number < self.repeat.saturating_add(self.retries))
    }
}

/// Runs a cell; `None` when the user ended the run before it was done.
pub async fn run_cell(cell: Cell<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> Option<CellRecord> {
    let id = cell.plan.key.id();
    // A closed channel means that nobody listens any more; the cell is still ended in order.
    let _ = events.send(Event::CellStarted { cell: id.clone(), key: cell.plan.key.clone() });
    let mut done = Vec::new();
    while host.attempts.one_more(&done) {
        let folder = match done.len() {
            0 => format!("cells/{id}"),
            earlier => format!("cells/{id}/attempt-{}", earlier + 1),
        };
        done.push(run_once(cell, host, folder, events).await?);
    }
    worst(done)
}

/// The worst attempt, with all of them in it. One that was good never hides one that was not: where they differ the cell
/// is flaky, whatever the last one was.
fn worst(done: Vec<CellRecord>) -> Option<CellRecord> {
    let attempts: Vec<Attempt> = done.iter().map(attempt).collect();
    let differ = attempts.iter().any(|one| (one.outcome, one.tainted) != (attempts[0].outcome, attempts[0].tainted));
    let badness = |record: &CellRecord| (record.status != Status::Expected, record.outcome.harm());
    // The first of the worst.
    let mut worst = done.into_iter().rev().max_by_key(badness)?;
    if differ {
        worst.status = Status::Flaky;
    }
    if attempts.len() > 1 {
        worst.attempts = attempts;
    }
    Some(worst)
}

fn attempt(record: &CellRecord) -> Attempt {
    Attempt {
        outcome: record.outcome,
        title: record.title.clone(),
        tainted: !record.tainted.is_empty(),
        seed: record.seed,
        duration_us: record.duration_us,
        blackout: record.blackout,
        folder: record.folder.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellKey, Outcome, Phase, Planned};

    fn record(outcome: Outcome, folder: &str) -> CellRecord {
        let key = CellKey { source: "a".into(), target: "b".into(), profile: "p".into(), workload: "w.x".into() };
        CellRecord {
            id: key.id(),
            plan: Planned { key, prediction: None, expectation: None },
            outcome,
            status: Status::of(outcome, false, None),
            title: String::new(),
            tainted: Vec::new(),
            phase: Phase::Finish,
            seed: 1,
            planted: None,
            phases: Vec::new(),
            probes: Vec::new(),
            blackout: None,
            findings: Vec::new(),
            duration_us: 1,
            folder: folder.into(),
            attempts: Vec::new(),
        }
    }

    #[test]
    fn a_retry_that_is_good_turns_nothing_green() {
        let tried = |outcomes: &[Outcome]| {
            worst(outcomes.iter().enumerate().map(|(n, outcome)| record(*outcome, &n.to_string())).collect()).unwrap()
        };
        let flaky = tried(&[Outcome::Lost, Outcome::Survived]);
        assert_eq!((flaky.outcome, flaky.status, flaky.attempts.len()), (Outcome::Lost, Status::Flaky, 2));
        let both = tried(&[Outcome::Lost, Outcome::Crashed, Outcome::Crashed]);
        assert_eq!((both.outcome, both.folder.as_str(), both.status), (Outcome::Crashed, "1", Status::Flaky));
        let same = tried(&[Outcome::Lost, Outcome::Lost]);
        assert_eq!((same.status, same.rate().unwrap().failed), (Status::Unexpected, 2));
        let once = tried(&[Outcome::Survived]);
        assert_eq!((once.status, once.attempts.len(), once.rate()), (Status::Expected, 0, None));
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
