//! Markdown, for the summary page of a CI run or a merge request.

use crate::grid::{Square, grids};
use crate::terminal::{groups, word};
use luqual_model::{CellRecord, RunRecord, Status};
use std::fmt::Write;

/// The record as Markdown (GitHub's, with tables).
pub fn markdown(record: &RunRecord) -> String {
    let mut text = String::new();
    let totals = record.totals();
    let mut parts: Vec<String> =
        totals.by_outcome.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    if totals.not_run > 0 {
        parts.push(format!("{} not run", totals.not_run));
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "## Live updates: {}\n", parts.join(", "));
    for grid in grids(record) {
        let _ = writeln!(text, "**{}** on {}\n", plain(grid.workload), plain(grid.profile));
        let targets: Vec<String> = grid.targets.iter().map(|target| plain(target)).collect();
        let _ =
            writeln!(text, "| source \\ target | {} |\n| --- |{}", targets.join(" | "), " --- |".repeat(targets.len()));
        for row in &grid.rows {
            let squares: Vec<String> = row.squares.iter().map(square).collect();
            let _ = writeln!(text, "| {} | {} |", plain(row.source), squares.join(" | "));
        }
        text.push('\n');
    }
    for group in groups(record) {
        let first = group[0];
        let pairs: Vec<String> = group.iter().map(|cell| pair(cell)).collect();
        let _ = writeln!(text, "* **{}** {}: {}", word(first), pairs.join(", "), plain(&first.title));
        if let (Some(false), Some(prediction)) = (first.as_predicted(), &first.plan.prediction) {
            let _ = writeln!(text, "  * predicted {}: {}", prediction.outcome, plain(&prediction.why));
        }
    }
    let host = &record.host;
    let _ = writeln!(text, "\n{}, QEMU {} with {}, run {}", record.tool, host.qemu, host.accel, record.id);
    text
}

fn pair(cell: &CellRecord) -> String {
    let key = &cell.plan.key;
    plain(&format!("{} → {} {}", key.source, key.target, key.workload))
}

fn square(square: &Square<'_>) -> String {
    match square {
        Square::Ended(cell) if cell.status == Status::Expected => word(cell),
        Square::Ended(cell) => format!("**{}**", word(cell)),
        Square::NotRun => "not run".to_owned(),
        Square::Empty => String::new(),
    }
}

/// Text in which nothing is markup.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' => plain.extend(['\\', c]),
            control if control.is_control() => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_outcomes() {
        insta::assert_snapshot!(super::markdown(&crate::samples::record()));
    }

    #[test]
    fn what_a_guest_says_is_no_markup() {
        assert_eq!(super::plain("a|b <script> [x](y)\n"), "a\\|b \\<script\\> \\[x\\](y) ");
    }
}
