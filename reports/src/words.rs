//! What every report says of a cell, beside its outcome and its title.

use crate::brief::Brief;
use crate::record::Record;
use luqual_model::bounds::TAINTS_SHOWN;
use luqual_model::{CellKey, CellRecord, FindingKind, Outcome, Side, Status, plain};

/// Which cell it is.
pub(crate) fn name(key: &CellKey) -> String {
    format!("{} → {} {} on {}", key.source, key.target, key.workload, key.profile)
}

/// What it is against what was thought of it, where that is to be told.
pub(crate) fn standing(cell: &CellRecord) -> String {
    let status = match cell.status {
        Status::Regression | Status::Improvement | Status::Flaky => format!(", {}", cell.status),
        // Without an expectation, the outcome says it.
        Status::Unexpected if cell.plan.expectation.is_some() => format!(", {}", cell.status),
        Status::Expected | Status::Unexpected => String::new(),
    };
    let rate = cell.rate().map_or_else(String::new, |rate| format!(", {rate}"));
    let prediction = if cell.as_predicted() == Some(false) { ", not as predicted" } else { "" };
    format!("{status}{rate}{prediction}")
}

/// The rest, a line each: the fault, the digest, what taints it, what was predicted and expected, each
/// attempt.
pub(crate) fn notes(cell: &CellRecord) -> Vec<String> {
    let mut notes: Vec<String> = cell.injected.iter().map(|fault| format!("injected fault: {fault}")).collect();
    notes.extend(cell.digest.iter().map(|digest| format!("deterministic: digest {digest}")));
    if let Some((blackout, by_guest_us)) = cell.blackout.and_then(|it| Some((it, it.by_guest_us?))) {
        let [host, guest] = [blackout.duration_us, by_guest_us].map(|us| us / 1000);
        notes.push(format!("the target's clock is wrong: by it the blackout took {guest} ms, by the host's {host} ms"));
    }
    // The title of a survival is the first line that taints it.
    let mut tainted = cell.tainted.iter().skip(usize::from(cell.outcome == Outcome::Survived)).cloned();
    notes.extend(tainted.by_ref().take(TAINTS_SHOWN));
    let more = tainted.count();
    notes.extend((more > 0).then(|| format!("and {more} more lines that taint it")));
    if let (Some(false), Some(prediction)) = (cell.as_predicted(), &cell.plan.prediction) {
        notes.push(format!("predicted: {}: {}", prediction.outcome, prediction.why));
        // A title is the kernel's own words; who did better than was predicted has none.
        let words = cell.findings.iter().find(|finding| finding.side == Side::Target && is_handover(finding.kind));
        notes.extend(words.filter(|_| cell.title.is_empty()).map(|finding| format!("its console: {}", finding.text)));
    }
    if let Some(expected) = &cell.plan.expectation {
        let link = expected.link.as_ref().map_or_else(String::new, |link| format!(" ({link})"));
        let tainted = if expected.tainted.is_empty() { "" } else { "+tainted" };
        notes.push(format!("expected: {}{tainted}: {}{link}", expected.outcome, expected.reason));
    }
    notes.extend(mismatch(cell));
    let attempts = cell.attempts.iter().map(|attempt| {
        let (tainted, retry) =
            (if attempt.tainted { "+tainted" } else { "" }, if attempt.retry { ", a retry" } else { "" });
        format!("{}{tainted}{retry}", attempt.outcome)
    });
    let attempts: Vec<String> = attempts.collect();
    if !attempts.is_empty() {
        notes.push(format!("attempts: {}", attempts.join("; ")));
    }
    notes
}

/// What repeats exactly that, where it was run and is not as expected.
pub(crate) fn repro(record: &Record, cell: &CellRecord) -> Option<String> {
    let is_told = cell.status != Status::Expected && cell.outcome != Outcome::Skipped;
    // What came from a bundle has its kernels there.
    let bundle = record.run.settings.reproduces.as_ref().and_then(|it| it.bundle.as_ref());
    let words = ["luqual", "repro", bundle.unwrap_or(&record.name), &cell.id.0];
    is_told.then(|| command(&words))
}

/// A command as it is typed.
pub fn command(words: &[&str]) -> String {
    // Only a NUL cannot be quoted, and no argument has one.
    shlex::try_join(words.iter().copied()).unwrap_or_default()
}

/// Why an end with the expected outcome is not the one that is known.
pub(crate) fn mismatch(cell: &CellRecord) -> Option<String> {
    if let Some(other) = cell.end_mismatch() {
        return Some(other);
    }
    let other = cell.probe_mismatch()?;
    let known = cell.plan.expectation.as_ref().map_or_else(String::new, |known| known.failed.join(", "));
    Some(format!("expected to fail: {known}; {other}"))
}

fn is_handover(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::HandoverRefused | FindingKind::Kho | FindingKind::Luo)
}

/// The outcome with its title.
pub fn end(cell: &CellRecord) -> String {
    let word = Brief::of(cell).word();
    if cell.title.is_empty() { word } else { format!("{word}: {}", cell.title) }
}

/// One line of anybody's text, in which nothing moves a terminal's cursor.
pub(crate) fn line(text: &str) -> String {
    plain::one_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{attempt, cell};
    use luqual_model::{Expectation, Outcome, Prediction, Probe, Refusal};

    #[test]
    fn all_that_is_known_is_told() {
        let mut told = cell("a", "b", Outcome::Survived, "");
        told.injected = Some("flip:4k:0:0".into());
        told.tainted = vec!["first".into(), "second".into()];
        told.plan.prediction = Some(Prediction { outcome: Outcome::Crashed, why: "strings".into() });
        let link = Some("https://example.org".into());
        told.plan.expectation = Some(Expectation { reason: "known".into(), link, ..Expectation::of(Outcome::Lost) });
        told.attempts = vec![attempt(Outcome::Lost, false), attempt(Outcome::Survived, true)];
        assert_eq!(
            notes(&told),
            [
                "injected fault: flip:4k:0:0",
                "second",
                "predicted: crashed: strings",
                "its console: KHO: <script>alert(1)</script>",
                "expected: lost: known (https://example.org)",
                "attempts: lost; survived, a retry",
            ]
        );
    }

    #[test]
    fn what_is_not_as_expected_is_told_how_to_make_it_again() {
        let mut record = crate::samples::record_of(vec![cell("a", "b", Outcome::Lost, "")]);
        record.name = "my run".to_owned();
        let mut told = record.cell_of(0).unwrap().unwrap();
        let command = repro(&record, &told).unwrap();
        assert_eq!(command, format!("luqual repro 'my run' {}", told.id));
        told.status = Status::Expected;
        assert_eq!(repro(&record, &told), None);
    }

    #[test]
    fn ends_are_the_same_by_outcome_and_probes() {
        let then = cell("a", "b", Outcome::Lost, "x: expected 1, observed 2");
        let mut now = cell("a", "b", Outcome::Lost, "x: expected 1, observed 3");
        assert!(now.ended_as(&then));
        now.probes[0].passed = !now.probes[0].passed;
        assert!(!now.ended_as(&then));
        let crash = |title| cell("a", "b", Outcome::Crashed, title);
        assert!(crash("BUG: x").ended_as(&crash("BUG: x")) && !crash("BUG: x").ended_as(&crash("BUG: y")));
        let mut tainted = cell("a", "b", Outcome::Survived, "");
        tainted.tainted = vec!["target: WARNING".into()];
        assert!(!tainted.ended_as(&cell("a", "b", Outcome::Survived, "")));
        let written =
            |digest: &str| CellRecord { digest: Some(digest.into()), ..cell("a", "b", Outcome::Survived, "") };
        assert!(written("1").ended_as(&written("2")));
        let identical = |now: &str, then| written(now).is_identical_to(&then);
        assert_eq!([identical("1", written("1")), identical("1", written("2"))], [Some(true), Some(false)]);
        assert_eq!(identical("1", cell("a", "b", Outcome::Survived, "")), None, "one was not deterministic");
        let skipped = |why| cell("a", "b", Outcome::Skipped, why);
        let refused = |errno: &str| CellRecord {
            refusal: Some(Refusal { call: "ioctl".into(), errno: errno.into(), about: "x".into() }),
            ..cell("a", "b", Outcome::Refused, "x")
        };
        assert!(refused("EBUSY").ended_as(&refused("EBUSY")) && !refused("EBUSY").ended_as(&refused("EEXIST")));
        assert!(skipped("a").ended_as(&skipped("a")) && !skipped("a").ended_as(&skipped("b")));
    }

    #[test]
    fn a_loss_names_the_probes_by_which_it_is_another() {
        let mut told = cell("a", "b", Outcome::Lost, "");
        let (failed, reason) = (vec!["D3 *".into(), "D4 *".into()], "known".to_owned());
        told.plan.expectation = Some(Expectation { failed, reason, ..Expectation::of(Outcome::Lost) });
        told.probes[0].name = "D3 state".into();
        told.probes.push(Probe { name: "D0 BARs".into(), ..told.probes[0].clone() });
        assert_eq!(
            notes(&told),
            ["expected: lost: known", "expected to fail: D3 *, D4 *; also failed: D0 BARs; did not fail: D4 *"]
        );
        told.probes[1].name = "D4 descriptor retrieve".into();
        assert_eq!(notes(&told), ["expected: lost: known"]);
    }
}
