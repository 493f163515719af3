//! What is printed at the end of a run.

use crate::grid::{Grid, Row, Square, grids};
use luqual_model::{CellRecord, Outcome, RunRecord, Status};
use std::fmt::Write;

/// Source × target, one grid per profile and workload, in plan order.
pub fn grid(record: &RunRecord) -> String {
    let mut text = String::new();
    for Grid { profile, workload, targets, rows } in grids(record) {
        let head: Vec<String> = std::iter::once("source \\ target").chain(targets).map(str::to_owned).collect();
        let body = rows.into_iter().map(|Row { source, squares }| {
            std::iter::once(source.to_owned()).chain(squares.into_iter().map(square)).collect()
        });
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{workload} on {profile}");
        for line in &lines {
            let padded = line.iter().enumerate().map(|(column, word)| format!("  {word:<0$}", width(column)));
            let _ = writeln!(text, "{}", padded.collect::<String>().trim_end());
        }
    }
    text
}

/// Cells that need attention, equal ones together: same outcome, same title.
pub(crate) fn groups(record: &RunRecord) -> Vec<Vec<&CellRecord>> {
    let wanted = |cell: &&CellRecord| {
        cell.status != Status::Expected || cell.outcome == Outcome::Skipped || cell.as_predicted() == Some(false)
    };
    let mut groups: Vec<Vec<&CellRecord>> = Vec::new();
    for cell in record.cells.iter().filter(wanted) {
        let wrong = |cell: &CellRecord| cell.plan.prediction.clone().filter(|_| cell.as_predicted() == Some(false));
        let alike = |group: &&mut Vec<&CellRecord>| {
            let first = group[0];
            (first.outcome, &first.title, first.status, wrong(first))
                == (cell.outcome, &cell.title, cell.status, wrong(cell))
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups.sort_by_key(|group| (group[0].as_predicted() != Some(false), std::cmp::Reverse(group[0].outcome.harm())));
    groups
}

/// What a cell is beside its outcome.
fn standing(cell: &CellRecord) -> String {
    let status = match cell.status {
        Status::Regression | Status::Improvement | Status::Flaky => format!(", {}", cell.status),
        Status::Expected | Status::Unexpected => String::new(),
    };
    let rate = cell.rate().map_or_else(String::new, |rate| format!(", {rate}"));
    let prediction = if cell.as_predicted() == Some(false) { ", not as predicted" } else { "" };
    format!("{status}{rate}{prediction}")
}

fn square(square: Square<'_>) -> String {
    match square {
        Square::Ended(cell) => word(cell),
        Square::NotRun => "not run".to_owned(),
        Square::Empty => String::new(),
    }
}

/// The outcome, with a mark on a survival that is spoilt.
pub(crate) fn word(cell: &CellRecord) -> String {
    let mark = if cell.tainted.is_empty() || cell.outcome != Outcome::Survived { "" } else { "+tainted" };
    format!("{}{mark}", cell.outcome)
}

/// What needs attention: equal ends together, those that nobody predicted first, then the worst; then the totals.
pub fn summary(record: &RunRecord) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for group in groups(record) {
        let first = group[0];
        let planted = first.planted.as_ref().map_or_else(String::new, |fault| format!(" [planted: {fault}]"));
        for cell in &group {
            let key = &cell.plan.key;
            let pair = format!("{} → {} {}", key.source, key.target, key.workload);
            let _ = writeln!(text, "{pair}: {} in {}{}{planted}", word(cell), cell.phase, standing(cell));
        }
        let _ = writeln!(text, "    {}", first.title);
        for tainted in first.tainted.iter().skip(1) {
            let _ = writeln!(text, "    {tainted}");
        }
        if let (Some(false), Some(prediction)) = (first.as_predicted(), &first.plan.prediction) {
            let _ = writeln!(text, "    predicted: {}: {}", prediction.outcome, prediction.why);
        }
        if let (Status::Regression | Status::Improvement, Some(expected)) = (first.status, &first.plan.expectation) {
            let _ = writeln!(text, "    expected: {}: {}", expected.outcome, expected.reason);
        }
        if first.outcome != Outcome::Skipped {
            let _ = writeln!(text, "    evidence: {}", first.folder);
        }
    }
    let totals = record.totals();
    let mut parts: Vec<String> =
        totals.by_outcome.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    if totals.not_run > 0 {
        parts.push(format!("{} not run", totals.not_run));
    }
    let ended = if record.interrupted { " (interrupted)" } else { "" };
    let (count, plural) = (record.planned.len(), if record.planned.len() == 1 { "" } else { "s" });
    let _ = write!(text, "{count} cell{plural}: {}{ended}", parts.join(", "));
    let mut blackouts: Vec<u64> =
        record.cells.iter().filter_map(|cell| Some(cell.blackout?.duration_us / 1000)).collect();
    blackouts.sort_unstable();
    if let (Some(median), Some(longest)) = (blackouts.get(blackouts.len() / 2), blackouts.last()) {
        let _ = write!(text, "; blackout: median {median} ms, longest {longest} ms");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::record;

    #[test]
    fn a_grid_of_all_outcomes() {
        insta::assert_snapshot!(grid(&record()));
    }

    #[test]
    fn a_summary_of_all_outcomes() {
        insta::assert_snapshot!(summary(&record()));
    }
}
