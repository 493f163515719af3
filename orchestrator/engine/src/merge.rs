//! Merges the parts of a run, with their evidence.

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{self, Finished, IfExists, find_run, read_folder};
use crate::report_files::write_reports;
use crate::run_folder::RunFolder;
use luqual_reports::{Merged, Record};
use luqual_runner::JOURNAL;
use std::fs::File;
use std::io::{BufWriter, Write};
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
    let to = RunFolder::open(&folder)?;
    folders.iter().try_for_each(|part| RunFolder::open(part)?.give_evidence(&to))?;
    let journal = folder.join(JOURNAL);
    let written = File::create_new(&journal).map(BufWriter::new).and_then(|mut to| {
        merged.journal(&mut to)?;
        to.flush()
    });
    written.map_err(EngineError::named(&journal))?;
    Ok(Finished { record: write_reports(&folder)?, folder })
}
