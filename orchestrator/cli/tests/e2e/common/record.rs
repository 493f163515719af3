//! A run as its files have it, read as the types that wrote them.

use luqual_model::{Event, RunRecord, Stamped};
use std::fs;
use std::path::Path;

/// The `run/run.json` below `folder`.
pub(crate) fn run_in(folder: &Path) -> RunRecord {
    finished(&folder.join("run"))
}

/// The `run.json` of a run's folder.
pub(crate) fn finished(run: &Path) -> RunRecord {
    let file = run.join("run.json");
    let text = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap()
}

/// The whole lines of a run's journal. One that is being written ends in part of a line; one that is not there has none.
/// A whole line that is no event fails the test.
pub(crate) fn events(run: &Path) -> Vec<Event> {
    let text = fs::read(run.join("events.jsonl")).unwrap_or_default();
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.map(|line| serde_json::from_slice::<Stamped>(line).unwrap().event).collect()
}

/// How many of a journal's events are wanted.
pub(crate) fn count(run: &Path, wanted: impl Fn(&Event) -> bool) -> usize {
    events(run).iter().filter(|event| wanted(event)).count()
}
