//! One row a workload, one column a pair, as Markdown: what a suite did, and why not all of it survived.

use crate::brief::Brief;
use crate::markdown::plain;
use crate::record::Record;
use crate::words::end;
use luqual_model::{CellKey, Outcome, Status};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

/// The grid, and below it each end that was no survival, with its reason.
pub fn suite(record: &Record) -> io::Result<String> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for (plan, brief) in record.briefs() {
        let column = pair(&plan.key);
        if !columns.contains(&column) {
            columns.push(column.clone());
        }
        let word = brief.map_or_else(|| "not run".to_owned(), word);
        rows.entry(&plan.key.workload).or_default().insert(column, word);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let names: Vec<String> = columns.iter().map(|column| plain(column)).collect();
    let _ = writeln!(text, "{}\n", record.totals().in_words());
    let _ = writeln!(text, "| workload | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    for (workload, squares) in &rows {
        let squares: Vec<&str> = columns.iter().map(|column| squares.get(column).map_or("", String::as_str)).collect();
        let _ = writeln!(text, "| {workload} | {} |", squares.join(" | "));
    }
    let _ = writeln!(text, "\n{}", reasons(record)?);
    Ok(text)
}

/// A pair; one kernel where it is updated into itself.
pub(crate) fn pair(key: &CellKey) -> String {
    if key.source == key.target { key.source.clone() } else { format!("{} → {}", key.source, key.target) }
}

/// A survival is what is hoped for: a dot, so that what is none is seen.
fn word(brief: &Brief) -> String {
    match (brief.outcome, brief.status, brief.tainted) {
        (Outcome::Survived, Status::Expected, false) => "·".to_owned(),
        (_, Status::Expected, _) => brief.word(),
        _ => format!("**{}**", brief.word()),
    }
}

/// What is the same for several pairs is said once.
fn reasons(record: &Record) -> io::Result<String> {
    // In the order of the workloads: what was seen, why it is so, and where.
    let mut ends: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for cell in record.cells() {
        let cell = cell?;
        if cell.outcome == Outcome::Survived && cell.tainted.is_empty() {
            continue;
        }
        let why = cell.plan.expectation.as_ref().map_or_else(String::new, |expected| expected.reason.clone());
        ends.entry((cell.plan.key.workload.clone(), end(&cell), why)).or_default().push(pair(&cell.plan.key));
    }
    let mut text = String::new();
    for ((workload, seen, why), pairs) in ends {
        let why = if why.is_empty() { "**not expected**".to_owned() } else { plain(&why) };
        let _ = writeln!(text, "* **{workload}** on {}: {}; {why}", plain(&pairs.join(", ")), plain(&seen));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_outcomes() {
        insta::assert_snapshot!(super::suite(&crate::samples::record()).unwrap());
    }
}
