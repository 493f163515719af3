//! `luqual report merge`: the parts of a run become one, with their evidence.

use super::execute::{There, create_folder, write_reports};
use super::report::{folder, read, tell};
use super::run::Demand;
use crate::error::{CliError, Exit};
use clap::Args;
use luqual_reports::{Merged, Record};
use luqual_runner::JOURNAL;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What to merge.
#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The parts' folders, or their ids: all of them, in any order
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The folder of the whole; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    demand: Demand,
}

/// Merges them, and exits as a run of the whole would.
pub(crate) fn run(command: &Merge) -> Result<Exit, CliError> {
    let (record, folder) = merge(&command.runs, || create_folder(command.report_dir.as_deref(), There::Refused))?;
    tell(&record, &folder)?;
    Ok(command.demand.exit_of(&record))
}

/// The whole and its folder, which has an id and is made when it is known that there is a whole.
pub(crate) fn merge(
    runs: &[PathBuf],
    make: impl FnOnce() -> Result<(String, PathBuf), CliError>,
) -> Result<(Record, PathBuf), CliError> {
    let folders = runs.iter().map(|run| folder(run)).collect::<Result<Vec<PathBuf>, CliError>>()?;
    let parts = folders.iter().map(|folder| read(folder)).collect::<Result<Vec<Record>, CliError>>()?;
    // Nothing is made of what is not one run.
    let mut merged = Merged::of(&parts, std::env::args().collect()).map_err(|why| {
        CliError::usage(why).hint("give all parts of one run, each once: what --partition 1/N to N/N wrote")
    })?;
    let (id, into) = make()?;
    merged.run.id = id;
    folders.iter().try_for_each(|part| give(&part.join("cells"), &into.join("cells")))?;
    let journal = into.join(JOURNAL);
    let written = File::create_new(&journal).map(BufWriter::new).and_then(|mut to| {
        merged.journal(&mut to)?;
        to.flush()
    });
    written.map_err(CliError::file(journal.display()))?;
    Ok((write_reports(&into)?, into))
}

/// A folder with all that is in it: the same files where both are on one file system, else copies.
fn give(from: &Path, to: &Path) -> Result<(), CliError> {
    let entries = match fs::read_dir(from) {
        // A part of which nothing was run has no evidence.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(CliError::file(from.display()))?,
    };
    fs::create_dir_all(to).map_err(CliError::file(to.display()))?;
    for entry in entries {
        let entry = entry.map_err(CliError::file(from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(CliError::file(from.display()))?;
        if kind.is_dir() {
            give(&from, &to)?;
        } else if kind.is_file() {
            // What a merge that failed has left may be the same file: copied over itself, it would be emptied.
            let _ = fs::remove_file(&to);
            let given = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            given.map_err(CliError::file(to.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_an_earlier_merge_has_given_is_not_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("cell")).unwrap();
        fs::write(from.join("cell/console.log"), "Linux").unwrap();
        for _ in 0..2 {
            give(&from, &to).unwrap();
            assert_eq!(fs::read(from.join("cell/console.log")).unwrap(), b"Linux");
            assert_eq!(fs::read(to.join("cell/console.log")).unwrap(), b"Linux");
        }
    }
}
