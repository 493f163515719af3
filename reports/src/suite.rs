//! One row a workload, one column a pair, as Markdown: what a suite did, and why not all of it survived.

use crate::brief::Brief;
use crate::latest::Latest;
use crate::markdown::plain;
use crate::record::{Record, Totals};
use crate::words::{end, mismatch};
use luqual_model::{CellKey, Outcome, PlannedCell, Status};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

/// The grid, and below it each end that was no survival, with its reason. A cell that ended in several runs counts in
/// the last of them.
pub fn suite(records: &[Record]) -> io::Result<String> {
    let latest = Latest::of(records);
    let counts = |number: usize, plan: &PlannedCell| latest.counts(number, plan);
    let mut columns: Vec<String> = Vec::new();
    let mut rows: BTreeMap<&str, BTreeMap<String, Option<&Brief>>> = BTreeMap::new();
    let mut totals = Totals::default();
    for (number, record) in records.iter().enumerate() {
        for (plan, brief) in record.briefs().filter(|(plan, _)| counts(number, plan)) {
            let column = pair(&plan.key);
            if !columns.contains(&column) {
                columns.push(column.clone());
            }
            totals.count(brief);
            rows.entry(&plan.key.workload).or_default().insert(column, brief);
        }
    }
    let is_wide = columns.len() > WIDE;
    let mut text = String::new();
    // Writing to a string does not fail.
    let names: Vec<String> = columns.iter().map(|column| plain(column)).collect();
    let _ = writeln!(text, "{}\n", totals.in_words());
    if is_wide {
        let _ = writeln!(text, "{}\n", legend(&totals));
    }
    let _ = writeln!(text, "| workload | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    for (workload, squares) in &rows {
        let square = |column: &String| squares.get(column).map_or_else(String::new, |brief| word(*brief, is_wide));
        let _ = writeln!(text, "| {workload} | {} |", columns.iter().map(square).collect::<Vec<_>>().join(" | "));
    }
    let _ = writeln!(text, "\n{}", reasons(records, counts)?);
    Ok(text)
}

/// With more columns than this, words are too long.
const WIDE: usize = 9;

/// What the letters of a wide grid mean.
fn legend(totals: &Totals) -> String {
    let outcomes = totals.by_outcome.keys().filter(|outcome| **outcome != Outcome::Survived);
    let letters: Vec<String> = outcomes.map(|outcome| format!("{} {outcome}", letter(*outcome))).collect();
    format!("· survived, {}; + tainted, bold: not expected", letters.join(", "))
}

fn letter(outcome: Outcome) -> String {
    outcome.word().chars().take(1).flat_map(char::to_uppercase).collect()
}

/// A pair; one kernel where it is updated into itself.
pub(crate) fn pair(key: &CellKey) -> String {
    if key.source == key.target { key.source.clone() } else { format!("{} → {}", key.source, key.target) }
}

/// A survival is what is hoped for: a dot, so that what is none is seen.
fn word(brief: Option<&Brief>, is_wide: bool) -> String {
    let Some(brief) = brief else { return "not run".to_owned() };
    let word = match (brief.outcome, brief.tainted) {
        (Outcome::Survived, false) => "·".to_owned(),
        (outcome, tainted) if is_wide => format!("{}{}", letter(outcome), if tainted { "+" } else { "" }),
        _ => brief.word(),
    };
    if brief.status == Status::Expected { word } else { format!("**{word}**") }
}

/// More workloads than these are counted where they ended alike; the grid has their names.
const NAMED: usize = 4;

/// What is the same for several pairs is said once, and so is what is the same for several workloads.
fn reasons(records: &[Record], counts: impl Fn(usize, &PlannedCell) -> bool) -> io::Result<String> {
    // What was seen, and why it is so; of which workload, and where.
    let mut ends: BTreeMap<(String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        for cell in record.cells() {
            let cell = cell?;
            if cell.survived_clean() || !counts(number, &cell.plan) {
                continue;
            }
            let reason = cell.plan.expectation.as_ref().map(|expected| expected.reason.clone());
            let why = reason.into_iter().chain(mismatch(&cell)).collect::<Vec<_>>().join("; ");
            let pairs = ends.entry((end(&cell), why)).or_default().entry(cell.plan.key.workload.clone()).or_default();
            pairs.push(pair(&cell.plan.key));
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for ((seen, why), workloads) in ends {
        let why = if why.is_empty() { "**not expected**".to_owned() } else { plain(&why) };
        let mut alike: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (workload, pairs) in workloads {
            alike.entry(pairs).or_default().push(workload);
        }
        for (pairs, workloads) in alike {
            let who =
                if workloads.len() > NAMED { format!("{} workloads", workloads.len()) } else { workloads.join(", ") };
            lines.push(format!("* **{who}** on {}: {}; {why}\n", plain(&pairs.join(", ")), plain(&seen)));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_outcomes() {
        insta::assert_snapshot!(super::suite(&[crate::samples::record()]).unwrap());
    }

    #[test]
    fn a_cell_counts_in_the_last_run_that_has_it() {
        let (first, mut then) = (crate::samples::record(), crate::samples::record());
        then.run.planned.iter_mut().for_each(|plan| plan.key.source = "7.1.13".to_owned());
        let text = super::suite(&[first, then, crate::samples::record()]).unwrap();
        assert!(text.starts_with("4 survived, 2 lost"), "{text}");
        // With so many columns there are letters for words.
        assert!(text.contains("· survived, L lost, I incompatible, R refused, C crashed, S skipped, H harness-failed"));
        assert!(text.contains("| **L** |") && text.contains("| **S+** |"), "{text}");
    }
}
