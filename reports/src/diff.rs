//! What changed between two runs.

use crate::standing::{Standing, standing};
use crate::terminal::word;
use luqual_model::{CellId, CellRecord, RunRecord};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The differences between `old` and `new`, in the order in which one wants to read them, and the ratio of their times.
pub fn diff(old: &RunRecord, new: &RunRecord) -> String {
    let before: BTreeMap<&CellId, &CellRecord> = old.cells.iter().map(|cell| (&cell.id, cell)).collect();
    let after: BTreeMap<&CellId, &CellRecord> = new.cells.iter().map(|cell| (&cell.id, cell)).collect();
    let pairs: Vec<(&CellRecord, &CellRecord)> =
        new.cells.iter().filter_map(|cell| Some((*before.get(&cell.id)?, cell))).collect();
    let bad = |cell: &CellRecord| matches!(standing(cell), Standing::Failed | Standing::Broken);
    let change = |(old, new): &(&CellRecord, &CellRecord)| format!("{}: {} → {}", new.id, told(old), told(new));
    let some = |wanted: &dyn Fn(&CellRecord, &CellRecord) -> bool| -> Vec<String> {
        pairs.iter().filter(|(old, new)| wanted(old, new)).map(change).collect()
    };
    let only = |these: &RunRecord, others: &BTreeMap<&CellId, &CellRecord>| -> Vec<String> {
        let missing = these.cells.iter().filter(|cell| !others.contains_key(&cell.id));
        missing.map(|cell| format!("{}: {}", cell.id, told(cell))).collect()
    };
    let differ = |old: &CellRecord, new: &CellRecord| (word(old), &old.title) != (word(new), &new.title);
    let parts = [
        ("new failures", some(&|old, new| !bad(old) && bad(new))),
        ("fixed", some(&|old, new| bad(old) && !bad(new))),
        ("changed", some(&|old, new| bad(old) == bad(new) && differ(old, new))),
        ("only in the new run", only(new, &before)),
        ("only in the old run", only(old, &after)),
    ];
    let mut text = String::new();
    // Writing to a string does not fail.
    for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "{title}:");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    let same = pairs.iter().filter(|(old, new)| !differ(old, new)).count();
    let _ = writeln!(text, "{same} cell{} as before", if same == 1 { "" } else { "s" });
    // Only where the same thing was done.
    let timed = || pairs.iter().filter(|(old, new)| !differ(old, new));
    let ratios = timed().map(|(old, new)| new.duration_us as f64 / old.duration_us.max(1) as f64);
    if let Some(ratio) = median(ratios.collect()) {
        let _ = writeln!(text, "time per cell: {ratio:.2} of what it was (median)");
    }
    let blackouts = timed()
        .filter_map(|(old, new)| Some(new.blackout?.duration_us as f64 / old.blackout?.duration_us.max(1) as f64));
    if let Some(ratio) = median(blackouts.collect()) {
        let _ = writeln!(text, "blackout: {ratio:.2} of what it was (median)");
    }
    text
}

fn told(cell: &CellRecord) -> String {
    if cell.title.is_empty() { word(cell) } else { format!("{} ({})", word(cell), cell.title) }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record};
    use luqual_model::Outcome;

    #[test]
    fn what_changed_is_told_in_its_place() {
        let run = |cells: Vec<CellRecord>| RunRecord { cells, ..record() };
        let old = run(vec![
            cell("a", "b", Outcome::Survived, ""),
            cell("a", "c", Outcome::Lost, "x"),
            cell("a", "d", Outcome::Lost, "x"),
            cell("a", "e", Outcome::Survived, ""),
            cell("a", "f", Outcome::Survived, ""),
        ]);
        let mut slower = cell("a", "e", Outcome::Survived, "");
        slower.duration_us *= 2;
        let new = run(vec![
            cell("a", "b", Outcome::Crashed, "panic"),
            cell("a", "c", Outcome::Survived, ""),
            cell("a", "d", Outcome::Lost, "y"),
            slower,
            cell("a", "g", Outcome::Survived, ""),
        ]);
        insta::assert_snapshot!(diff(&old, &new));
        let same = diff(&old, &old);
        assert!(same.starts_with("5 cells as before\ntime per cell: 1.00"), "{same}");
    }
}
