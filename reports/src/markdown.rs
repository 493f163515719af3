//! Markdown, for the summary page of a CI run or a merge request.

use crate::brief::Brief;
use crate::grid::{Square, same};
use crate::record::Record;
use crate::terminal::{Attention, attention, named};
use crate::words::{notes, repro, standing};
use luqual_model::Status;
use luqual_model::plain::is_unsafe;
use std::fmt::Write;
use std::io;

/// The record as Markdown (GitHub's, with tables).
pub fn markdown(record: &Record) -> io::Result<String> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let ended = match (record.run.interrupted, record.run.duration_us) {
        (true, _) => " (interrupted)",
        (false, None) => " (not ended)",
        (false, Some(_)) => "",
    };
    let _ = writeln!(text, "## Live updates: {}{ended}\n", record.totals().in_words());
    if let Some(fault) = &record.run.settings.inject {
        let _ = writeln!(text, "{}\n", injected(fault));
    }
    for same in same(record) {
        let _ = writeln!(text, "**{}**\n", plain(&same.heading()));
        let grid = same.grid;
        let targets: Vec<String> = grid.targets.iter().map(|target| plain(target)).collect();
        let _ =
            writeln!(text, "| source \\ target | {} |\n| --- |{}", targets.join(" | "), " --- |".repeat(targets.len()));
        for row in &grid.rows {
            let squares: Vec<String> = row.squares.iter().map(square).collect();
            let _ = writeln!(text, "| {} | {} |", plain(row.source), squares.join(" | "));
        }
        text.push('\n');
    }
    let Attention { groups, more } = attention(record)?;
    for group in &groups {
        let first = &group.first;
        let (names, others) = named(record, group);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        let (word, title) = (format!("{}{}", Brief::of(first).word(), standing(first)), plain(&first.title));
        let _ = writeln!(text, "* **{word}** {}{others}: {title}", plain(&names.join(", ")));
        for note in notes(first) {
            let _ = writeln!(text, "  * {}", plain(&note));
        }
        if let Some(repro) = repro(record, first) {
            let _ = writeln!(text, "  * again: {}", plain(&repro));
        }
    }
    if more > 0 {
        let _ = writeln!(text, "* and {more} more cells that ended in other ways");
    }
    for line in crate::kernels::lines(record.run.kernels.values()) {
        let _ = writeln!(text, "* {}", plain(&line));
    }
    let host = &record.run.host;
    let made = format!("{}, QEMU {} with {}, run {}", record.run.tool, host.qemu, host.accel, record.run.id);
    let _ = writeln!(text, "\n{}", plain(&made));
    Ok(text)
}

fn square(square: &Square<'_>) -> String {
    match square {
        Square::Ended(_, brief) if brief.status == Status::Expected => brief.word(),
        Square::Ended(_, brief) => format!("**{}**", brief.word()),
        Square::NotRun(_) => "not run".to_owned(),
        Square::Empty => String::new(),
    }
}

/// What is to be read before anything else.
pub(crate) fn injected(fault: &str) -> String {
    format!("**A fault was injected ({}): this says nothing about the kernels.**", plain(fault))
}

/// Text in which nothing is markup.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' => plain.extend(['\\', c]),
            other if is_unsafe(other) => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_outcomes() {
        insta::assert_snapshot!(super::markdown(&crate::samples::record()).unwrap());
    }

    #[test]
    fn a_planted_fault_and_a_run_that_did_not_end_are_told_at_the_top() {
        let mut record = crate::samples::record();
        record.run.settings.inject = Some("flip:64m:3:17".into());
        record.run.interrupted = true;
        let text = super::markdown(&record).unwrap();
        let top: Vec<&str> = text.lines().take(3).collect();
        assert!(top[0].ends_with(", 1 not run (interrupted)"), "{text}");
        assert!(top[2].starts_with("**A fault was injected (flip:64m:3:17)"), "{text}");
        (record.run.interrupted, record.run.duration_us) = (false, None);
        assert!(super::markdown(&record).unwrap().lines().next().unwrap().ends_with(" (not ended)"));
    }

    #[test]
    fn what_a_guest_says_is_no_markup() {
        assert_eq!(super::plain("a|b <script> [x](y)\n"), "a\\|b \\<script\\> \\[x\\](y) ");
    }
}
