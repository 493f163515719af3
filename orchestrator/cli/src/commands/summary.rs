//! What is printed of a run that has ended.

use crate::error::CliError;
use crate::output;
use luqual_engine::EngineError;
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::io::{self, IsTerminal};
use std::path::Path;

/// Prints the summary of a run that has ended in that folder.
pub(super) fn print(record: &Record, folder: &Path) -> Result<(), CliError> {
    output::print(shown(record).map_err(EngineError::named(folder.join(JOURNAL)))?)?;
    output::line(format_args!("report: {}", folder.join("report.html").display()))
}

/// The grid and what needs attention.
pub(super) fn shown(record: &Record) -> io::Result<String> {
    let width = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    let grid = luqual_reports::grid(record, width.map(|(width, _)| usize::from(width.0)));
    Ok(format!("{grid}\n{}", luqual_reports::summary(record)?))
}
