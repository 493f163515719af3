//! What changed between two runs.

use crate::brief::{Brief, TestResult};
use crate::record::Record;
use luqual_model::{CellId, CellRecord};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io;

/// The differences between `old` and `new`, in the order in which one wants to read them, and the ratio of their
/// times.
pub fn diff(old: &Record, new: &Record) -> io::Result<String> {
    let id = |record: &Record, number: usize| record.run.planned[number].key.id();
    let before: HashMap<CellId, usize> = old.ended().map(|number| (id(old, number), number)).collect();
    let mut parts = [const { Vec::<String>::new() }; 6];
    // Times are compared only where the same thing was done.
    let (mut same, mut ratios, mut blackouts) = (0, Vec::new(), Vec::new());
    for number in new.ended() {
        let now = new.cell(number)?;
        let Some(then) = before.get(&now.id) else {
            let part = if is_bad(&now) { Section::Broken } else { Section::OnlyNew };
            parts[part as usize].push(format!("{}: {}", now.id, told(&now)));
            continue;
        };
        let then = old.cell(*then)?;
        if end(&then) == end(&now) && now.outcome.is_conclusive() {
            let (old, new) = (Brief::of(&then), Brief::of(&now));
            ratios.push(new.duration_us as f64 / old.duration_us.max(1) as f64);
            let blackout = old.blackout_us.zip(new.blackout_us);
            blackouts.extend(blackout.map(|(old, new)| new as f64 / old.max(1) as f64));
        }
        match change(&then, &now) {
            Some((part, how)) => parts[part as usize].push(format!("{}: {how}", now.id)),
            None => same += 1,
        }
    }
    let left: HashSet<CellId> = new.left().map(|planned| planned.key.id()).collect();
    let after: HashSet<CellId> = new.ended().map(|number| id(new, number)).collect();
    for number in old.ended().filter(|number| !after.contains(&id(old, *number))) {
        let cell = old.cell(number)?;
        let part = if left.contains(&cell.id) { Section::NotRun } else { Section::OnlyOld };
        parts[part as usize].push(format!("{}: {}", cell.id, told(&cell)));
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    for (title, lines) in TITLES.iter().zip(&parts).filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "{title}:");
        for line in lines {
            let _ = writeln!(text, "  {}", crate::words::line(line));
        }
    }
    let _ = writeln!(text, "{same} cell{} as before", if same == 1 { "" } else { "s" });
    if let Some(ratio) = median(ratios) {
        let _ = writeln!(text, "time per cell: {ratio:.2} of the old value (median)");
    }
    if let Some(ratio) = median(blackouts) {
        let _ = writeln!(text, "blackout: {ratio:.2} of the old value (median)");
    }
    Ok(text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Broken,
    Fixed,
    Changed,
    OnlyNew,
    NotRun,
    OnlyOld,
}

/// Of each [`Section`].
const TITLES: [&str; 6] =
    ["new failures", "fixed", "changed", "only in the new run", "not run in the new run", "only in the old run"];

/// What became of a cell that ended in both runs; `None` if it is as before.
fn change(then: &CellRecord, now: &CellRecord) -> Option<(Section, String)> {
    let is_good = |cell: &CellRecord| Brief::of(cell).standing() == TestResult::Passed;
    let others = other_probes(then, now);
    let is_alike = end(then) == end(now) && others.is_none() && is_as_often(then, now);
    let how = match others.filter(|_| end(then) == end(now)) {
        Some(others) => format!("{}; {others}", told(now)),
        None if is_alike => told(now),
        None => format!("{} → {}", told(then), told(now)),
    };
    // Of two equal outcomes only what is thought of them differs, and that is to be told.
    let is_same_outcome = end(then).0 == end(now).0;
    let how = match then.status == now.status {
        true if is_alike => return None,
        false if is_same_outcome => format!("{how}: {} → {}", then.status, now.status),
        _ => how,
    };
    let part = match (is_bad(then), is_bad(now)) {
        _ if end(then) == end(now) => Section::Changed,
        (false, true) => Section::Broken,
        (true, false) if is_good(now) && !is_same_outcome => Section::Fixed,
        _ => Section::Changed,
    };
    Some((part, how))
}

/// Which probes fail now and did not then, and the other way round; `None` if they are the same.
fn other_probes(then: &CellRecord, now: &CellRecord) -> Option<String> {
    let (was, is) = (then.failed_probes(), now.failed_probes());
    let parts = [("now failed", &is - &was), ("no longer failed", &was - &is)];
    let told = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<String> =
        told.map(|(what, names)| format!("{what}: {}", names.into_iter().collect::<Vec<_>>().join(", "))).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Whether the same part of its attempts failed, of however many: more repetitions are no change.
fn is_as_often(then: &CellRecord, now: &CellRecord) -> bool {
    let rate = |cell: &CellRecord| {
        let once = (u128::from(!cell.survived_clean()), 1);
        cell.rate().map_or(once, |rate| (u128::from(rate.failed), u128::from(rate.of)))
    };
    let ((was, of_then), (is, of_now)) = (rate(then), rate(now));
    was * of_now == is * of_then
}

fn is_bad(cell: &CellRecord) -> bool {
    matches!(Brief::of(cell).standing(), TestResult::Failed | TestResult::Error)
}

fn end(cell: &CellRecord) -> (String, &str) {
    (Brief::of(cell).word(), &cell.title)
}

fn told(cell: &CellRecord) -> String {
    let (word, title) = end(cell);
    let rate = cell.rate().map_or_else(String::new, |rate| format!(", {rate}"));
    if title.is_empty() { format!("{word}{rate}") } else { format!("{word} ({title}){rate}") }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record_of, repeated, written};
    use luqual_model::{Outcome, Status};

    #[test]
    fn what_changed_is_told_in_its_place() {
        let old = record_of(vec![
            cell("a", "b", Outcome::Survived, ""),
            cell("a", "c", Outcome::Lost, "x"),
            cell("a", "d", Outcome::Lost, "x"),
            cell("a", "e", Outcome::Survived, ""),
            cell("a", "f", Outcome::Survived, ""),
        ]);
        let mut slower = cell("a", "e", Outcome::Survived, "");
        slower.duration_us *= 2;
        let new = record_of(vec![
            cell("a", "b", Outcome::Crashed, "panic"),
            cell("a", "c", Outcome::Survived, ""),
            cell("a", "d", Outcome::Lost, "y"),
            slower,
            cell("a", "g", Outcome::Survived, ""),
        ]);
        insta::assert_snapshot!(diff(&old, &new).unwrap());
        let same = diff(&old, &old).unwrap();
        assert!(same.starts_with("5 cells as before\ntime per cell: 1.00"), "{same}");
    }

    #[test]
    fn what_only_seems_to_have_changed_is_not_fixed() {
        let lost = || cell("a", "b", Outcome::Lost, "x");
        let told = |then: CellRecord, now: CellRecord| change(&then, &now);
        assert_eq!(told(lost(), lost()), None);
        let skipped = cell("a", "b", Outcome::Skipped, "no LUO");
        assert_eq!(told(lost(), skipped).unwrap().0, Section::Changed);
        let mut known = lost();
        known.status = Status::Expected;
        assert_eq!(told(lost(), known), Some((Section::Changed, "lost (x): unexpected → expected".to_owned())));
        let often = |failed: usize| {
            let mut cell = lost();
            cell.attempts = repeated(100).attempts;
            cell.attempts[..failed].iter_mut().for_each(|attempt| attempt.outcome = Outcome::Lost);
            cell
        };
        let (part, how) = told(often(1), often(90)).unwrap();
        assert!(
            part == Section::Changed && how.contains("1 of 100 failed") && how.contains("90 of 100 failed"),
            "{how}"
        );
        assert_eq!(told(often(100), lost()), None, "more or fewer repetitions are no change");
        let mut flaky = often(90);
        flaky.status = Status::Flaky;
        let (_, how) = told(often(1), flaky).unwrap();
        assert!(how.contains("1 of 100 failed") && how.ends_with(": unexpected → flaky"), "{how}");
    }

    #[test]
    fn another_probe_that_fails_is_a_change_though_the_first_is_the_same() {
        let then = cell("a", "b", Outcome::Lost, "x");
        let mut now = then.clone();
        now.probes.push(luqual_model::Probe { name: "memfd 4k size".into(), ..then.probes[0].clone() });
        let how = "lost (x); now failed: memfd 4k size".to_owned();
        assert_eq!(change(&then, &now), Some((Section::Changed, how)));
        let how = "lost (x); no longer failed: memfd 4k size".to_owned();
        assert_eq!(change(&now, &then), Some((Section::Changed, how)));
    }

    #[test]
    fn a_loss_that_is_expected_now_is_not_fixed_whatever_its_title() {
        let mut known = cell("a", "b", Outcome::Lost, "y");
        known.status = Status::Expected;
        let told = |then: &CellRecord, now: &CellRecord| change(then, now);
        let new = cell("a", "b", Outcome::Lost, "x");
        let how = "lost (x) → lost (y): unexpected → expected".to_owned();
        assert_eq!(told(&new, &known), Some((Section::Changed, how)));
        let how = "lost (y) → lost (x): expected → unexpected".to_owned();
        assert_eq!(told(&known, &new), Some((Section::Broken, how)));
    }

    #[test]
    fn a_run_that_was_cut_off_and_one_with_more_cells_are_told_apart() {
        let (one, two) = (cell("a", "b", Outcome::Survived, ""), cell("a", "c", Outcome::Survived, ""));
        let old = record_of(vec![one.clone(), two.clone()]);
        let mut shared = one.clone();
        (shared.shared_with, shared.duration_us) = (vec!["x".into(), "y".into()], one.duration_us * 3);
        let new = cell("a", "d", Outcome::Lost, "x");
        let cut_off = written(vec![one.plan, two.plan, new.plan.clone()], vec![shared, new]);
        let told = diff(&old, &cut_off).unwrap();
        assert!(told.starts_with("new failures:\n  a_d_q35-intel_memfd.basic: lost (x)\n"), "{told}");
        assert!(told.contains("not run in the new run:\n  a_c_q35-intel_memfd.basic: survived\n1 cell as"), "{told}");
        assert!(told.contains("time per cell: 1.00 of the old value"), "{told}");
    }
}
