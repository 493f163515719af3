//! The journal of a run that was not run here: it was put together from other runs.

use luqual_model::{CellRecord, Event, RunInfo, Stamped};
use std::io::{self, Write};

/// Writes the run, each of these cells as it ended, and the end.
pub fn write_journal(
    run: &RunInfo,
    cells: impl Iterator<Item = io::Result<CellRecord>>,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut write = |at_us: u64, event: Event| -> io::Result<()> {
        serde_json::to_writer(&mut *to, &Stamped { at_us, event })?;
        to.write_all(b"\n")
    };
    let begun = RunInfo { duration_us: None, interrupted: false, ..run.clone() };
    write(0, Event::RunStarted { run: Box::new(begun) })?;
    let end = run.duration_us.unwrap_or_default();
    for record in cells {
        write(end, Event::CellFinished { record: Box::new(record?) })?;
    }
    match (run.duration_us, run.interrupted) {
        (None, false) => Ok(()),
        (_, interrupted) => write(end, Event::RunFinished { interrupted }),
    }
}
