//! What is printed at the end of a run.

use crate::brief::Brief;
use crate::grid::{Grid, Row, Square, same};
use crate::record::Record;
use crate::words::{line, name, notes, repro, standing};
use luqual_model::{CellRecord, Outcome, Phase, plain};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::ops::Range;

/// Source × target, for each profile and workload; where several are the same, once. What is wider than `width` is
/// continued below.
pub fn grid(record: &Record, width: Option<usize>) -> String {
    let mut text = String::new();
    for same in same(record) {
        let heading = same.heading();
        let Grid { targets, rows, .. } = same.grid;
        let head: Vec<String> = std::iter::once("source \\ target").chain(targets).map(str::to_owned).collect();
        let body = rows.into_iter().map(|Row { source, squares }| {
            std::iter::once(source.to_owned()).chain(squares.into_iter().map(square)).collect()
        });
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).map(plain).collect();
        let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len))
            .map(|column| lines.iter().map(|line| 2 + line[column].chars().count()).max().unwrap_or(0))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line(&heading));
        for columns in blocks(&widths, width) {
            for line in &lines {
                let padded =
                    std::iter::once(0).chain(columns.clone()).map(|at| format!("{:<1$}", line[at], widths[at]));
                let _ = writeln!(text, "  {}", padded.collect::<String>().trim_end());
            }
        }
    }
    text
}

fn plain(words: Vec<String>) -> Vec<String> {
    words.iter().map(|word| crate::words::line(word)).collect()
}

/// The columns after the first, as many side by side as fit, and one at least.
fn blocks(widths: &[usize], width: Option<usize>) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let (first, mut used) = (2 + widths.first().copied().unwrap_or(0), 0);
    for (column, needed) in widths.iter().enumerate().skip(1) {
        match blocks.last_mut() {
            Some(block) if width.is_none_or(|width| used + needed <= width) => block.end = column + 1,
            _ => {
                used = first;
                blocks.push(column..column + 1);
            }
        }
        used += needed;
    }
    blocks
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

/// Cells that need attention, equal ones together: of those nothing is told but their names.
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
    fn told(cell: &CellRecord) -> (Outcome, &str, Phase, String, Vec<String>) {
        (cell.outcome, &cell.title, cell.phase, standing(cell), notes(cell))
    }
    told(one) == told(other)
}

/// The first of a group's cells by `name`, and how many there are more.
pub(crate) fn named(record: &Record, group: &Group) -> (Vec<String>, usize) {
    let names = group.cells.iter().take(MOST_NAMES).map(|number| name(&record.run.planned[*number].key));
    (names.collect(), group.cells.len().saturating_sub(MOST_NAMES))
}

/// What needs attention: equal ends together, those that nobody predicted first, then the worst; then the totals.
pub fn summary(record: &Record) -> io::Result<String> {
    let mut text = String::new();
    let Attention { groups, more } = attention(record)?;
    // Writing to a string does not fail.
    for group in &groups {
        let first = &group.first;
        let end = format!("{} in {}{}", Brief::of(first).word(), first.phase, standing(first));
        let (names, others) = named(record, group);
        text.extend(names.iter().map(|name| line(&format!("{name}: {end}")) + "\n"));
        if others > 0 {
            let _ = writeln!(text, "and {others} more like these");
        }
        let title = Some(&first.title).filter(|title| !title.is_empty()).cloned();
        for told in title.into_iter().chain(notes(first)) {
            let _ = writeln!(text, "    {}", line(&told));
        }
        if first.outcome != Outcome::Skipped {
            let _ = writeln!(text, "    evidence: {}", first.folder);
        }
        if let Some(repro) = repro(record, first) {
            let _ = writeln!(text, "    again: {}", line(&repro));
        }
    }
    if more > 0 {
        let _ = writeln!(text, "and {more} more cells that ended in other ways; the page and run.json list all");
    }
    text.push_str(&rates(record)?);
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
    Ok(plain::lines(&text))
}

/// How often cells may fail that were run several times and need no attention: those that do have it beside their
/// name.
fn rates(record: &Record) -> io::Result<String> {
    let mut of_rate: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if record.run.settings.repeat > 1 {
        for number in record.ended().filter(|number| record.brief(*number).is_some_and(|it| !it.needs_attention())) {
            let cell = record.cell(number)?;
            if let Some(rate) = cell.rate() {
                of_rate.entry(rate.to_string()).or_default().push(name(&cell.plan.key));
            }
        }
    }
    let lines = of_rate.iter().map(|(rate, names)| match names.as_slice() {
        [one] => format!("{}: {rate}\n", line(one)),
        all => format!("{} cells, each: {rate}\n", all.len()),
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record, record_of, repeated};

    #[test]
    fn a_grid_of_all_outcomes() {
        insta::assert_snapshot!(grid(&record(), None));
    }

    #[test]
    fn rates_are_told_of_cells_that_never_failed() {
        let mut record = record_of(vec![repeated(4)]);
        record.run.settings.repeat = 4;
        let text = summary(&record).unwrap();
        assert!(text.starts_with("a → b memfd.basic on q35-intel: 0 of 4 failed, at most 52.7 % (95 %)\n"), "{text}");
    }

    #[test]
    fn what_is_too_wide_is_continued_below() {
        let cells = (0..10).map(|n| cell("a", &format!("b{n}"), Outcome::Survived, "")).collect();
        let text = grid(&record_of(cells), Some(50));
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert_eq!((text.matches("source \\ target").count(), text.matches("survived").count()), (4, 10), "{text}");
        // One column at least, however narrow.
        assert_eq!(blocks(&[20, 10, 10], Some(5)), [1..2, 2..3]);
        assert_eq!(blocks(&[20, 10, 10], None).len(), 1);
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
        assert!(summary(&record_of(cells)).unwrap().contains("and 20 more cells that ended in other ways"));
    }

    #[test]
    fn no_name_moves_the_cursor() {
        let mut moving = cell("a\u{1b}[2J", "b\u{9b}2J", Outcome::Lost, "t\u{1b}[2J");
        moving.plan.key.profile = "p\r".into();
        moving.plan.key.workload = "w\u{8}".into();
        moving.id = moving.plan.key.id();
        let mut record = record_of(vec![moving]);
        let mut info = record.run.kernels["7.3.4"].clone();
        info.name = "a\u{1b}[2J".into();
        info.patches = vec![luqual_model::Patch { subject: "s\u{1b}[2J".into(), sha256: "ab".into() }];
        record.run.kernels.insert(info.name.clone(), info);
        for text in [grid(&record, None), summary(&record).unwrap()] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[test]
    fn a_summary_of_all_outcomes() {
        insta::assert_snapshot!(summary(&record()).unwrap());
    }
}
