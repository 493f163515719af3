//! Merges the parts of a run, with their evidence.

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{self, Finished, IfExists, find_run, read_folder};
use crate::report_files::write_reports;
use luqual_reports::{Merged, Record};
use luqual_runner::JOURNAL;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Merges all parts of a run, in any order, into a folder without a run.
pub fn merge(context: &Context<'_>, runs: &[PathBuf], report_dir: Option<&Path>) -> Result<Finished, EngineError> {
    merge_into(context, runs, || folder::create(report_dir, IfExists::Fail))
}

/// Merges the parts. `folder` creates the id and the folder, after the parts were checked.
pub(crate) fn merge_into(
    context: &Context<'_>,
    runs: &[PathBuf],
    make: impl FnOnce() -> Result<(String, PathBuf), EngineError>,
) -> Result<Finished, EngineError> {
    let folders = runs.iter().map(|run| find_run(run)).collect::<Result<Vec<PathBuf>, EngineError>>()?;
    let parts = folders.iter().map(|folder| read_folder(folder)).collect::<Result<Vec<Record>, EngineError>>()?;
    // Check first: no folder is created if the parts do not belong to one run.
    let mut merged = Merged::of(&parts, context.command.clone()).map_err(|why| {
        EngineError::usage(why)
            .hint("give the folder of each part of one run once: those that --partition 1/N to N/N wrote")
    })?;
    let (id, folder) = make()?;
    merged.run.id = id;
    folders.iter().try_for_each(|part| give(&part.join("cells"), &folder.join("cells")))?;
    let journal = folder.join(JOURNAL);
    let written = File::create_new(&journal).map(BufWriter::new).and_then(|mut to| {
        merged.journal(&mut to)?;
        to.flush()
    });
    written.map_err(EngineError::named(&journal))?;
    Ok(Finished { record: write_reports(&folder)?, folder })
}

/// Adds all files of a folder to another: as hard links on one file system, otherwise as copies.
fn give(from: &Path, to: &Path) -> Result<(), EngineError> {
    let entries = match fs::read_dir(from) {
        // A part that ran nothing has no evidence.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(EngineError::named(from))?,
    };
    fs::create_dir_all(to).map_err(EngineError::named(to))?;
    for entry in entries {
        let entry = entry.map_err(EngineError::named(from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(EngineError::named(&from))?;
        if kind.is_dir() {
            give(&from, &to)?;
        } else if kind.is_file() {
            // A failed merge may have left a link to the same file, which a copy onto itself would empty.
            let _ = fs::remove_file(&to);
            let given = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            given.map_err(EngineError::named(&to))?;
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
