//! Creates, finds and reads the folders of runs.

use crate::context::Context;
use crate::error::EngineError;
use crate::run_folder::RunFolder;
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of runs for which the user names no folder.
const RUNS: &str = "luqual-runs";

/// What to do if the folder already has a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Fail.
    Fail,
    /// Resume it, if it is the requested run and incomplete.
    Resume,
}

/// A run that has ended, with its folder.
pub struct Finished {
    /// The record.
    pub record: Record,
    /// The folder.
    pub folder: PathBuf,
}

/// The folder for a group of runs, such as those of a bisection; `requested` if that is given.
pub(crate) fn of_runs(requested: Option<&Path>, name: &str) -> PathBuf {
    requested.map_or_else(|| Path::new(RUNS).join(name), Path::to_owned)
}

/// Creates the folder of a run. Returns its id and its path; an error if there is a run and `existing` forbids it.
pub(crate) fn create(requested: Option<&Path>, existing: IfExists) -> Result<(String, PathBuf), EngineError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let id = format!("{now}-{:04x}", std::process::id() & 0xffff);
    let folder = of_runs(requested, &id);
    if existing == IfExists::Fail {
        has_no_run(&folder)?;
    }
    // QEMU replaces a % in the name of a log by its process id, and has no escape for it (util/log.c).
    if folder.to_string_lossy().contains('%') {
        let why = format!("{}: QEMU cannot write its log into a folder with a % in its name", folder.display());
        return Err(EngineError::usage(why).hint("name another folder"));
    }
    fs::create_dir_all(&folder).map_err(EngineError::named(&folder))?;
    Ok((id, folder))
}

pub(crate) fn has_no_run(folder: &Path) -> Result<(), EngineError> {
    // `luqual shell` leaves a console.log.
    if ["run.json", "report.html", JOURNAL, "console.log"].iter().any(|name| folder.join(name).exists()) {
        return Err(EngineError::usage(format!("{} already has a run", folder.display()))
            .hint("name another folder, or remove this one"));
    }
    Ok(())
}

/// Runs `work` before a run begins. If it fails or the user ends it, the empty folder is removed.
pub(crate) async fn before_it_begins<T>(
    context: &Context<'_>,
    folder: &Path,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let done = context.unless_interrupted(work).await;
    if done.is_err() {
        remove_if_empty(folder);
    }
    done
}

/// Removes the folder of a run that never started, unless it has files of the user.
pub(crate) fn remove_if_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
    // Also remove the folder of all runs, if it is empty.
    let _ = folder.parent().filter(|parent| parent.ends_with(RUNS)).map(fs::remove_dir);
}

/// The folder of a run, by its path or its id.
pub fn find_run(run: &Path) -> Result<PathBuf, EngineError> {
    let candidates = [run.to_owned(), Path::new(RUNS).join(run)];
    candidates.into_iter().find(|folder| folder.join(JOURNAL).exists()).ok_or_else(|| {
        EngineError::usage(format!("there is no run `{}`", run.display()))
            .hint("name the folder of a run, which has an events.jsonl, or the id of a run in luqual-runs/; repro also takes a bundle")
    })
}

/// The record of the run in that folder, from its journal.
pub fn read_folder(folder: &Path) -> Result<Record, EngineError> {
    let mut record = RunFolder::open(folder)?.record()?;
    if folder != Path::new(RUNS).join(&record.run.id) {
        record.name = folder.display().to_string();
    }
    Ok(record)
}

/// The record of a run, by its folder or its id.
pub fn read_run(run: &Path) -> Result<Record, EngineError> {
    read_folder(&find_run(run)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_folder_that_cannot_be_made_is_the_users_mistake() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = create(Some(&folder.path().join("file/run")), IfExists::Fail).err().unwrap();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("file/run: "), "{error}");
    }

    #[test]
    fn a_folder_with_a_run_in_it_is_refused_or_resumed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(JOURNAL), "").unwrap();
        assert!(create(Some(folder.path()), IfExists::Fail).is_err());
        assert!(create(Some(folder.path()), IfExists::Resume).is_ok());
    }
}
