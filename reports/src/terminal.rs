//! What is printed at the end of a run.

use luqual_model::{CellRecord, Outcome, RunRecord, Status};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Source × target, one grid per profile and workload, in plan order.
pub fn grid(record: &RunRecord) -> String {
    let mut text = String::new();
    let mut grids: Vec<(&str, &str)> = Vec::new();
    for key in &record.planned {
        let grid = (key.profile.as_str(), key.workload.as_str());
        if !grids.contains(&grid) {
            grids.push(grid);
        }
    }
    for (profile, workload) in grids {
        let planned = || record.planned.iter().filter(|key| key.profile == profile && key.workload == workload);
        let (sources, targets) = (unique(planned().map(|key| &key.source)), unique(planned().map(|key| &key.target)));
        let square = |source: &str, target: &str| -> String {
            let cell = record.cells.iter().find(|cell| {
                let key = &cell.key;
                (key.source.as_str(), key.target.as_str(), key.profile.as_str(), key.workload.as_str())
                    == (source, target, profile, workload)
            });
            let wanted = planned().any(|key| key.source == source && key.target == target);
            cell.map_or_else(|| if wanted { "not run" } else { "" }.to_owned(), word)
        };
        let labels = sources.iter().map(|source| source.chars().count());
        let first = labels.chain(["source \\ target".len()]).max().unwrap_or(0);
        let widths: Vec<usize> = targets
            .iter()
            .map(|target| {
                let squares = sources.iter().map(|source| square(source, target).chars().count());
                squares.chain([target.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        // Writing to a string does not fail.
        let _ = write!(text, "{workload} on {profile}\n  {:<first$}", "source \\ target");
        for (target, width) in targets.iter().zip(&widths) {
            let _ = write!(text, "  {target:<width$}");
        }
        for source in &sources {
            let _ = write!(text, "\n  {source:<first$}");
            for (target, width) in targets.iter().zip(&widths) {
                let _ = write!(text, "  {:<width$}", square(source, target));
            }
        }
        text.push('\n');
    }
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The outcome, with a mark on a survival that is spoilt.
pub(crate) fn word(cell: &CellRecord) -> String {
    let mark = if cell.tainted.is_empty() || cell.outcome != Outcome::Survived { "" } else { "+tainted" };
    format!("{}{mark}", cell.outcome)
}

/// A line for each cell that is not as expected or was skipped, then the totals.
pub fn summary(record: &RunRecord) -> String {
    let mut text = String::new();
    let wanted = |cell: &&CellRecord| cell.status != Status::Expected || cell.outcome == Outcome::Skipped;
    for cell in record.cells.iter().filter(wanted) {
        let key = &cell.key;
        let planted = cell.planted.as_ref().map_or_else(String::new, |fault| format!(" [planted: {fault}]"));
        let _ = writeln!(
            text,
            "{} → {} {}: {} in {}{planted}",
            key.source,
            key.target,
            key.workload,
            word(cell),
            cell.phase
        );
        let _ = writeln!(text, "    {}", cell.title);
        for tainted in cell.tainted.iter().skip(1) {
            let _ = writeln!(text, "    {tainted}");
        }
        if cell.outcome != Outcome::Skipped {
            let _ = writeln!(text, "    evidence: {}", cell.folder);
        }
    }
    let totals = record.totals();
    let mut parts: Vec<String> =
        totals.by_outcome.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    if totals.not_run > 0 {
        parts.push(format!("{} not run", totals.not_run));
    }
    let ended = if record.interrupted { " (interrupted)" } else { "" };
    let _ = write!(text, "{} cells: {}{ended}", record.planned.len(), parts.join(", "));
    let mut blackouts: Vec<u64> =
        record.cells.iter().filter_map(|cell| Some(cell.blackout?.duration_us / 1000)).collect();
    blackouts.sort_unstable();
    if let (Some(median), Some(longest)) = (blackouts.get(blackouts.len() / 2), blackouts.last()) {
        let _ = write!(text, "; blackout: median {median} ms, longest {longest} ms");
    }
    text.push('\n');
    text
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.map(String::as_str).filter(|name| seen.insert(*name)).collect()
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
