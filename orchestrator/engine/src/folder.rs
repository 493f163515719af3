//! A run's folder: made, found again, read.

use crate::context::Context;
use crate::error::EngineError;
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where runs are whose folders nobody named.
const RUNS: &str = "luqual-runs";

/// What becomes of a run that is in the folder already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// It is an error.
    Fail,
    /// It is resumed, if it is the one that is asked for and was cut off.
    Resume,
}

/// A run that has ended, in whatever way.
pub struct Finished {
    /// What became of it.
    pub record: Record,
    /// Where it is.
    pub folder: PathBuf,
}

/// The folder of runs that belong together, such as those of a bisection, unless another is named.
pub(crate) fn of_runs(requested: Option<&Path>, name: &str) -> PathBuf {
    requested.map_or_else(|| Path::new(RUNS).join(name), Path::to_owned)
}

/// A run's id and folder.
pub(crate) fn create(requested: Option<&Path>, existing: IfExists) -> Result<(String, PathBuf), EngineError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let id = format!("{now}-{:04x}", std::process::id() & 0xffff);
    let folder = of_runs(requested, &id);
    if existing == IfExists::Fail {
        has_no_run(&folder)?;
    }
    // QEMU takes it for the place of its process id in the name of a log, and has no way to write it out (util/log.c).
    if folder.to_string_lossy().contains('%') {
        let why = format!("{}: QEMU writes no log into a folder with a % in its name", folder.display());
        return Err(EngineError::usage(why).hint("name another folder"));
    }
    fs::create_dir_all(&folder).map_err(EngineError::named(&folder))?;
    Ok((id, folder))
}

pub(crate) fn has_no_run(folder: &Path) -> Result<(), EngineError> {
    // The last is what a shell leaves.
    if ["run.json", JOURNAL, "console.log"].iter().any(|name| folder.join(name).exists()) {
        return Err(EngineError::usage(format!("{} has a run in it", folder.display()))
            .hint("name another folder, or remove that one"));
    }
    Ok(())
}

/// What is done before a run begins, in whose folder nothing is yet: where it fails, or the user ends it, no folder is left.
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

/// A run that never started leaves no folder behind, unless it has something of the user's in it.
pub(crate) fn remove_if_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
    // The folder of all runs, if this would have been the first.
    let _ = folder.parent().filter(|parent| parent.ends_with(RUNS)).map(fs::remove_dir);
}

/// The folder of a run, by its path or its id.
pub fn find_run(run: &Path) -> Result<PathBuf, EngineError> {
    let candidates = [run.to_owned(), Path::new(RUNS).join(run)];
    candidates.into_iter().find(|folder| folder.join(JOURNAL).exists()).ok_or_else(|| {
        EngineError::usage(format!("there is no run `{}`", run.display()))
            .hint("name a run's folder, which has an events.jsonl, or the id of one in luqual-runs/; of repro the file of a bundle, too")
    })
}

/// The record of the run in that folder, as its journal has it.
pub fn read_folder(folder: &Path) -> Result<Record, EngineError> {
    let path = folder.join(JOURNAL);
    let mut record = File::open(&path).and_then(Record::read).map_err(EngineError::named(&path))?;
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
