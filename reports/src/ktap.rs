//! KTAP, version 1 (Documentation/dev-tools/ktap.rst): a subtest for each workload and machine, in it one for each
//! pair.

use crate::brief::{Brief, TestResult};
use crate::grid::{Square, grids};
use crate::record::Record;
use crate::words::{end, notes, standing};
use luqual_model::CellRecord;
use luqual_model::plain::is_unsafe;
use std::fmt::Write;
use std::io;

/// The record as KTAP.
pub fn ktap(record: &Record) -> io::Result<String> {
    let grids = grids(record);
    let mut text = format!("KTAP version 1\n1..{}\n", grids.len());
    for line in crate::kernels::lines(record.run.kernels.values()) {
        let _ = writeln!(text, "# kernel {}", plain(&line));
    }
    for (number, grid) in grids.iter().enumerate() {
        let name = plain(&format!("{} on {}", grid.workload, grid.profile));
        let squares: Vec<(String, Square<'_>)> = grid
            .rows
            .iter()
            .flat_map(|row| {
                row.squares.iter().zip(&grid.targets).map(move |(square, target)| (row.source, target, square))
            })
            .map(|(source, target, square)| (plain(&format!("{source} -> {target}")), *square))
            .filter(|(_, square)| !matches!(square, Square::Empty))
            .collect();
        // Writing to a string does not fail.
        let _ = write!(text, "    KTAP version 1\n    # Subtest: {name}\n    1..{}\n", squares.len());
        let mut all = true;
        for (index, (pair, square)) in squares.iter().enumerate() {
            let (ok, directive) = match square {
                Square::Ended(number, _) => {
                    let cell = record.cell(*number)?;
                    for line in diagnostics(&cell) {
                        // Not the name first: the kernel's parser takes `# Subtest: ` for another thing.
                        let _ = writeln!(text, "    # cell {pair}: {}", plain(&line));
                    }
                    result(&cell)
                }
                Square::NotRun(_) | Square::Empty => (false, " # ERROR not run".to_owned()),
            };
            all &= ok;
            let _ = writeln!(text, "    {} {} {pair}{directive}", if ok { "ok" } else { "not ok" }, index + 1);
        }
        let _ = writeln!(text, "{} {} {name}", if all { "ok" } else { "not ok" }, number + 1);
    }
    Ok(text)
}

fn result(cell: &CellRecord) -> (bool, String) {
    match Brief::of(cell).standing() {
        TestResult::Passed => (true, String::new()),
        TestResult::Failed => (false, String::new()),
        TestResult::Error => (false, format!(" # ERROR {}", plain(&cell.title))),
        TestResult::Skipped => (true, format!(" # SKIP {}", plain(&cell.title))),
    }
}

fn diagnostics(cell: &CellRecord) -> Vec<String> {
    let mut lines = Vec::new();
    let standing = standing(cell);
    if !(cell.title.is_empty() && standing.is_empty()) {
        lines.push(end(cell) + &standing);
    }
    lines.extend(notes(cell));
    lines
}

/// One line in which `#` starts nothing.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '#' || is_unsafe(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_outcomes() {
        insta::assert_snapshot!(super::ktap(&crate::samples::record()).unwrap());
    }

    /// The kernel's parser (tools/testing/kunit/kunit_parser.py) takes any line that begins so for the head of a
    /// subtest.
    #[test]
    fn only_a_subtest_is_one() {
        let cell = crate::samples::cell("Subtest: x", "b", luqual_model::Outcome::Lost, "Subtest: y");
        let text = super::ktap(&crate::samples::record_of(vec![cell])).unwrap();
        let heads = text.lines().filter(|line| line.trim_start().starts_with("# Subtest: ")).count();
        assert_eq!(heads, 1, "{text}");
    }

    #[test]
    fn how_often_a_cell_failed_is_told_though_it_passed() {
        let text = super::ktap(&crate::samples::record_of(vec![crate::samples::repeated(3)])).unwrap();
        assert!(text.contains("    # cell a -> b: survived, 0 of 3 failed, at most 63.2 % (95 %)\n"), "{text}");
        assert!(text.contains("    # cell a -> b: attempts: survived; survived; survived\n"), "{text}");
    }
}
