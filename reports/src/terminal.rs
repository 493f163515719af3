//! What is printed at the end of a run.

use crate::brief::Brief;
use crate::grid::{Grid, Row, Square, grids};
use crate::record::Record;
use luqual_model::{CellRecord, Outcome, Prediction, Status};
use std::fmt::Write;
use std::io;

/// Source × target, one grid per profile and workload, in plan order.
pub fn grid(record: &Record) -> String {
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

fn square(square: Square<'_>) -> String {
    match square {
        Square::Ended(_, brief) => brief.word(),
        Square::NotRun(_) => "not run".to_owned(),
        Square::Empty => String::new(),
    }
}

/// Cells that need attention and ended alike.
pub(crate) struct Group {
    /// All of the first one.
    pub(crate) first: CellRecord,
    /// The places of all in the plan.
    pub(crate) cells: Vec<usize>,
}

/// What needs attention, in the order in which it is to be read.
pub(crate) struct Attention {
    pub(crate) groups: Vec<Group>,
    /// How many cells are in no group, because there would be too many.
    pub(crate) more: usize,
}

/// More ends than that nobody reads one after the other.
const MOST_GROUPS: usize = 100;

/// More names than that nobody reads in one group.
const MOST_NAMES: usize = 12;

/// Cells that need attention, equal ones together: same outcome, same title, same wrong prediction.
pub(crate) fn attention(record: &Record) -> io::Result<Attention> {
    let urgent = |number: &usize| record.brief(*number).filter(|brief| brief.needs_attention());
    let mut wanted: Vec<usize> = record.ended().filter(|number| urgent(number).is_some()).collect();
    // Stable: of what is equally urgent, the first comes first.
    wanted.sort_by_key(|number| urgent(number).map(|brief| brief.urgency()));
    let mut attention = Attention { groups: Vec::<Group>::new(), more: 0 };
    for number in wanted {
        let cell = record.cell(number)?;
        match attention.groups.iter().position(|group| alike(&group.first, &cell)) {
            Some(place) => attention.groups[place].cells.push(number),
            None if attention.groups.len() < MOST_GROUPS => {
                attention.groups.push(Group { first: cell, cells: vec![number] });
            }
            None => attention.more += 1,
        }
    }
    Ok(attention)
}

fn alike(one: &CellRecord, other: &CellRecord) -> bool {
    fn end(cell: &CellRecord) -> (Outcome, &str, Status, Option<&Prediction>) {
        let wrong = cell.plan.prediction.as_ref().filter(|_| cell.as_predicted() == Some(false));
        (cell.outcome, &cell.title, cell.status, wrong)
    }
    end(one) == end(other)
}

/// The first of a group's cells by `name`, and how many there are more.
pub(crate) fn named(record: &Record, group: &Group, name: impl Fn(&str, &str, &str) -> String) -> (Vec<String>, usize) {
    let names = group.cells.iter().take(MOST_NAMES).map(|number| {
        let key = &record.run.planned[*number].key;
        name(&key.source, &key.target, &key.workload)
    });
    (names.collect(), group.cells.len().saturating_sub(MOST_NAMES))
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

/// What needs attention: equal ends together, those that nobody predicted first, then the worst; then the totals.
pub fn summary(record: &Record) -> io::Result<String> {
    let mut text = String::new();
    let Attention { groups, more } = attention(record)?;
    // Writing to a string does not fail.
    for group in &groups {
        let first = &group.first;
        let planted = first.planted.as_ref().map_or_else(String::new, |fault| format!(" [planted: {fault}]"));
        let end = format!("{} in {}{}{planted}", Brief::of(first).word(), first.phase, standing(first));
        let (names, others) =
            named(record, group, |source, target, workload| format!("{source} → {target} {workload}: {end}"));
        text.extend(names.iter().map(|name| format!("{name}\n")));
        if others > 0 {
            let _ = writeln!(text, "and {others} more like these");
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
    if more > 0 {
        let _ = writeln!(text, "and {more} cells more that ended in other ways; the page and run.json have all");
    }
    for line in crate::kernels::lines(record.run.kernels.values()) {
        let _ = writeln!(text, "{line}");
    }
    let ended = if record.run.interrupted { " (interrupted)" } else { "" };
    let (count, plural) = (record.run.planned.len(), if record.run.planned.len() == 1 { "" } else { "s" });
    let _ = write!(text, "{count} cell{plural}: {}{ended}", record.totals().in_words());
    let mut blackouts: Vec<u64> = record.briefs().filter_map(|(_, brief)| Some(brief?.blackout_us? / 1000)).collect();
    blackouts.sort_unstable();
    if let (Some(median), Some(longest)) = (blackouts.get(blackouts.len() / 2), blackouts.last()) {
        let _ = write!(text, "; blackout: median {median} ms, longest {longest} ms");
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record, record_of};

    #[test]
    fn a_grid_of_all_outcomes() {
        insta::assert_snapshot!(grid(&record()));
    }

    #[test]
    fn a_group_names_a_dozen() {
        let cells = (0..20).map(|n| cell("a", &format!("b{n}"), Outcome::Lost, "alike")).collect();
        let text = summary(&record_of(cells)).unwrap();
        assert!(
            text.contains("a → b11") && !text.contains("a → b12") && text.contains("and 8 more like these"),
            "{text}"
        );
        let cells = (0..120).map(|n| cell("a", &format!("b{n}"), Outcome::Lost, &n.to_string())).collect();
        assert!(summary(&record_of(cells)).unwrap().contains("and 20 cells more that ended in other ways"));
    }

    #[test]
    fn a_summary_of_all_outcomes() {
        insta::assert_snapshot!(summary(&record()).unwrap());
    }
}
