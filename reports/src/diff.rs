//! What changed between two runs.

use crate::brief::{Brief, Standing};
use crate::record::Record;
use luqual_model::{CellId, CellRecord};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io;

/// The differences between `old` and `new`, in the order in which one wants to read them, and the ratio of their times.
pub fn diff(old: &Record, new: &Record) -> io::Result<String> {
    let id = |record: &Record, number: usize| record.run.planned[number].key.id();
    let before: HashMap<CellId, usize> = old.ended().map(|number| (id(old, number), number)).collect();
    let after: HashSet<CellId> = new.ended().map(|number| id(new, number)).collect();
    let bad = |cell: &CellRecord| matches!(Brief::of(cell).standing(), Standing::Failed | Standing::Broken);
    let differ =
        |old: &CellRecord, new: &CellRecord| (Brief::of(old).word(), &old.title) != (Brief::of(new).word(), &new.title);
    let [mut broken, mut fixed, mut changed, mut only_new, mut only_old] = [const { Vec::<String>::new() }; 5];
    // Times are compared only where the same thing was done.
    let (mut same, mut ratios, mut blackouts) = (0, Vec::new(), Vec::new());
    for number in new.ended() {
        let now = new.cell(number)?;
        let Some(then) = before.get(&now.id) else {
            only_new.push(format!("{}: {}", now.id, told(&now)));
            continue;
        };
        let then = old.cell(*then)?;
        if !differ(&then, &now) {
            same += 1;
            ratios.push(now.duration_us as f64 / then.duration_us.max(1) as f64);
            let blackout = then.blackout.zip(now.blackout);
            blackouts.extend(blackout.map(|(old, new)| new.duration_us as f64 / old.duration_us.max(1) as f64));
        }
        let change = || format!("{}: {} → {}", now.id, told(&then), told(&now));
        match (bad(&then), bad(&now)) {
            (false, true) => broken.push(change()),
            (true, false) => fixed.push(change()),
            _ if differ(&then, &now) => changed.push(change()),
            _ => {}
        }
    }
    for number in old.ended().filter(|number| !after.contains(&id(old, *number))) {
        let cell = old.cell(number)?;
        only_old.push(format!("{}: {}", cell.id, told(&cell)));
    }
    let parts = [
        ("new failures", broken),
        ("fixed", fixed),
        ("changed", changed),
        ("only in the new run", only_new),
        ("only in the old run", only_old),
    ];
    let mut text = String::new();
    // Writing to a string does not fail.
    for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "{title}:");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "{same} cell{} as before", if same == 1 { "" } else { "s" });
    if let Some(ratio) = median(ratios) {
        let _ = writeln!(text, "time per cell: {ratio:.2} of what it was (median)");
    }
    if let Some(ratio) = median(blackouts) {
        let _ = writeln!(text, "blackout: {ratio:.2} of what it was (median)");
    }
    Ok(text)
}

fn told(cell: &CellRecord) -> String {
    let word = Brief::of(cell).word();
    if cell.title.is_empty() { word } else { format!("{word} ({})", cell.title) }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record_of};
    use luqual_model::Outcome;

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
}
