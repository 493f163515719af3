//! The verdict on a kernel, by its cell. Pure.

use luqual_model::{CellRecord, Outcome, Phase};

/// The verdict on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each attempt ends as the good end does.
    Good,
    /// At least one attempt ends otherwise.
    Bad,
    /// The cell says nothing about the kernel.
    Skip,
}

/// The end of an attempt: its outcome, and whether it was tainted. The failed probes and the title are not compared.
type End = (Outcome, bool);

fn end(cell: &CellRecord) -> End {
    (cell.outcome, !cell.tainted.is_empty())
}

/// The end of each attempt at a cell, with retries.
fn ends(cell: &CellRecord) -> Vec<End> {
    match cell.attempts.as_slice() {
        [] => vec![end(cell)],
        several => several.iter().map(|attempt| (attempt.outcome, attempt.tainted)).collect(),
    }
}

/// Whether two cells end alike.
pub(super) fn is_alike(one: &CellRecord, other: &CellRecord) -> bool {
    end(one) == end(other)
}

/// If the attempts differ: how many ended as the worst, and how many there were.
pub fn flaky(cell: &CellRecord) -> Option<(usize, usize)> {
    let ends = ends(cell);
    let worst = ends.iter().filter(|it| **it == end(cell)).count();
    (worst < ends.len()).then_some((worst, ends.len()))
}

/// The verdict on a kernel, compared with the two ends. A kernel whose attempts differ is never good.
pub(super) fn verdict(cell: &CellRecord, good: &CellRecord, bad: &CellRecord) -> Verdict {
    let boots_not = cell.outcome == Outcome::Crashed && matches!(cell.phase, Phase::Boot | Phase::Handshake);
    if is_alike(cell, good) {
        // The worst attempt can be as the good end while another is not: if a crash is good, a survival is not.
        let says_otherwise = |it: &End| *it != end(good) && it.0.is_conclusive();
        return match (flaky(cell), ends(cell).iter().any(says_otherwise)) {
            (None, _) => Verdict::Good,
            (Some(_), true) => Verdict::Bad,
            (Some(_), false) => Verdict::Skip,
        };
    }
    if !cell.outcome.is_conclusive() || boots_not && !(is_alike(cell, bad) && bad.phase == cell.phase) {
        Verdict::Skip
    } else {
        Verdict::Bad
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scale::ended;
    use luqual_model::Attempt;

    pub(crate) fn cell(outcome: Outcome, phase: Phase) -> CellRecord {
        CellRecord { phase, ..ended(outcome) }
    }

    /// A cell whose attempts ended so; the first is the worst.
    pub(crate) fn several(outcomes: &[Outcome]) -> CellRecord {
        let attempt = |outcome: &Outcome| Attempt {
            outcome: *outcome,
            title: String::new(),
            tainted: false,
            seed: 1,
            duration_us: 1,
            blackout: None,
            folder: String::new(),
            retry: false,
        };
        CellRecord { attempts: outcomes.iter().map(attempt).collect(), ..cell(outcomes[0], Phase::Verify) }
    }

    #[test]
    fn what_is_not_as_the_good_one_is_bad_unless_it_says_nothing() {
        let good = cell(Outcome::Survived, Phase::Verify);
        let bad = cell(Outcome::Lost, Phase::Verify);
        let of = |outcome, phase| verdict(&cell(outcome, phase), &good, &bad);
        assert_eq!(of(Outcome::Survived, Phase::Verify), Verdict::Good);
        assert_eq!(of(Outcome::Lost, Phase::Retrieve), Verdict::Bad);
        assert_eq!(of(Outcome::Incompatible, Phase::Retrieve), Verdict::Bad);
        assert_eq!(of(Outcome::Crashed, Phase::Kexec), Verdict::Bad);
        for (outcome, phase) in [
            (Outcome::Skipped, Phase::Boot),
            (Outcome::HarnessFailed, Phase::Verify),
            (Outcome::Crashed, Phase::Boot),
            (Outcome::Crashed, Phase::Handshake),
        ] {
            assert_eq!(of(outcome, phase), Verdict::Skip, "{outcome} {phase}");
        }
        // What does not boot is what is looked for.
        let unbootable = cell(Outcome::Crashed, Phase::Boot);
        assert_eq!(verdict(&cell(Outcome::Crashed, Phase::Boot), &good, &unbootable), Verdict::Bad);
        let tainted = CellRecord { tainted: vec!["WARNING".into()], ..good.clone() };
        assert_eq!((verdict(&tainted, &good, &bad), is_alike(&tainted, &good)), (Verdict::Bad, false));
    }

    #[test]
    fn a_kernel_whose_attempts_differ_is_never_good() {
        use Outcome::{Crashed, HarnessFailed, Lost, Survived};
        let (survived, lost, crashed) = (several(&[Survived; 3]), several(&[Lost; 3]), several(&[Crashed; 3]));
        for (outcomes, good, bad, wanted, counted) in [
            (&[Survived, Survived, Survived][..], &survived, &lost, Verdict::Good, None),
            (&[Lost, Survived, Survived], &survived, &lost, Verdict::Bad, Some((1, 3))),
            (&[Crashed, Lost, Survived], &survived, &lost, Verdict::Bad, Some((1, 3))),
            (&[Lost, Lost, Lost], &survived, &lost, Verdict::Bad, None),
            // The other way round: what crashes is as it was.
            (&[Crashed, Crashed, Survived], &crashed, &survived, Verdict::Bad, Some((2, 3))),
            (&[Crashed, HarnessFailed], &crashed, &survived, Verdict::Skip, Some((1, 2))),
        ] {
            let cell = several(outcomes);
            assert_eq!((verdict(&cell, good, bad), flaky(&cell)), (wanted, counted), "{outcomes:?}");
        }
    }
}
