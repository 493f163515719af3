//! The folder of a run, which somebody else may have made: everything in it is opened beneath it, and no link in it is
//! followed.

use crate::error::EngineError;
use luqual_files::{Folder, Kind};
use luqual_model::bounds::{BUNDLE, EVIDENCE, FOLDER_DEPTH};
use luqual_model::{CellId, CellRecord};
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of a run.
pub(crate) struct RunFolder(Folder);

/// The folder of the evidence in it.
const CELLS: &str = "cells";

impl RunFolder {
    /// Opens the folder at `path`, which the user named.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        Folder::open(path).map(Self).map_err(EngineError::named(path))
    }

    /// The record of the run, from its journal.
    pub(crate) fn record(&self) -> Result<Record, EngineError> {
        let journal = self.0.file(Path::new(JOURNAL)).and_then(Record::read);
        journal.map_err(EngineError::named(self.0.path().join(JOURNAL)))
    }

    /// A file of a cell's evidence, as text. A file that is too large says so; what is not a file of the run is none.
    pub(crate) fn evidence(&self, cell: &CellRecord, name: &str) -> Option<String> {
        match self.0.read(&Path::new(&cell.folder).join(name), EVIDENCE) {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Some(format!("not shown: {error}\n")),
            Err(_) => None,
        }
    }

    /// The files of a cell's evidence, by name, without those that `leave_out` names.
    pub(crate) fn files(&self, cell: &CellRecord, leave_out: &[&str]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let folder = match self.0.folder(Path::new(&cell.folder)) {
            // A skipped cell has no evidence.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder.map_err(in_file(&self.0.path().join(&cell.folder)))?,
        };
        let mut files = Vec::new();
        for (name, _) in folder.entries()?.into_iter().filter(|(_, kind)| *kind == Kind::File) {
            let text = name.to_string_lossy().into_owned();
            if !leave_out.contains(&text.as_str()) {
                files.push((text, folder.read(Path::new(&name), BUNDLE).map_err(in_file(&folder.path().join(&name)))?));
            }
        }
        Ok(files)
    }

    /// Checks that luqual can write into the folder: an error if something in its evidence is not a file or a folder, since
    /// luqual makes nothing else, and would write where a link leads.
    pub(crate) fn is_only_files(&self) -> Result<(), EngineError> {
        let other = match self.0.folder(Path::new(CELLS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(PathBuf::new()),
            cells => {
                cells.and_then(|cells| cells.first_other(FOLDER_DEPTH)).map_err(EngineError::named(self.0.path()))?
            }
        };
        match other {
            None => Ok(()),
            Some(other) => Err(EngineError::usage(format!(
                "{} is not a file or a folder of a run",
                self.0.path().join(CELLS).join(other).display()
            ))
            .hint("luqual writes no links and no special files; do not resume a run that somebody else has changed")),
        }
    }

    /// Removes the evidence of cells that start again.
    pub(crate) fn remove_evidence<'a>(&self, cells: impl Iterator<Item = &'a CellId>) -> Result<(), EngineError> {
        let folder = match self.0.folder(Path::new(CELLS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder.map_err(EngineError::named(self.0.path().join(CELLS)))?,
        };
        for cell in cells {
            folder
                .remove(OsStr::new(&cell.0), FOLDER_DEPTH)
                .map_err(EngineError::named(folder.path().join(&cell.0)))?;
        }
        Ok(())
    }

    /// Removes the run: what luqual has written, and the folder if nothing else is in it.
    pub(crate) fn remove_run(self) -> Result<(), EngineError> {
        for name in [CELLS, "run.json", "report.html", JOURNAL] {
            self.0.remove(OsStr::new(name), FOLDER_DEPTH).map_err(EngineError::named(self.0.path().join(name)))?;
        }
        // A folder with files of the user stays.
        let _ = std::fs::remove_dir(self.0.path());
        Ok(())
    }

    /// Adds the evidence of this run to another's folder: as hard links, or else as copies.
    pub(crate) fn give_evidence(&self, to: &Self) -> Result<(), EngineError> {
        let from = match self.0.folder(Path::new(CELLS)) {
            // A part that ran nothing has no evidence.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder.map_err(EngineError::named(self.0.path().join(CELLS)))?,
        };
        let to = to.0.create_folder(OsStr::new(CELLS)).map_err(EngineError::named(to.0.path().join(CELLS)))?;
        give(&from, &to, FOLDER_DEPTH)
    }
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn give(from: &Folder, to: &Folder, depth: usize) -> Result<(), EngineError> {
    for (name, kind) in from.entries().map_err(EngineError::named(from.path()))? {
        match kind {
            Kind::Folder if depth > 0 => {
                let from = from.folder(Path::new(&name)).map_err(EngineError::named(from.path().join(&name)))?;
                let to = to.create_folder(&name).map_err(EngineError::named(to.path().join(&name)))?;
                give(&from, &to, depth - 1)?;
            }
            Kind::File => from.give(&name, to).map_err(EngineError::named(to.path().join(&name)))?,
            // Not luqual's.
            Kind::Folder | Kind::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellKey, Outcome, PlannedCell, Status};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A run's folder with a cell, beside a folder of somebody else's.
    fn made() -> (tempfile::TempDir, CellRecord) {
        let outer = tempfile::tempdir().unwrap();
        for folder in ["run/cells/a", "other/a"] {
            fs::create_dir_all(outer.path().join(folder)).unwrap();
        }
        fs::write(outer.path().join("run/cells/a/console.log"), "Linux").unwrap();
        fs::write(outer.path().join("other/a/console.log"), "secret").unwrap();
        let [source, target, profile, workload] = ["a", "b", "p", "w.x"].map(str::to_owned);
        let key = CellKey { source, target, profile, workload };
        let plan = PlannedCell { key, prediction: None, expectation: None };
        let cell = CellRecord::new(plan, Outcome::Lost, Status::Unexpected);
        (outer, CellRecord { folder: "cells/a".into(), ..cell })
    }

    fn open(outer: &tempfile::TempDir) -> RunFolder {
        RunFolder::open(&outer.path().join("run")).unwrap()
    }

    #[test]
    fn evidence_is_read_beneath_the_folder_alone() {
        let (outer, cell) = made();
        assert_eq!(open(&outer).evidence(&cell, "console.log").as_deref(), Some("Linux"));
        assert_eq!(open(&outer).files(&cell, &[]).unwrap(), [("console.log".to_owned(), b"Linux".to_vec())]);
        assert!(open(&outer).files(&cell, &["console.log"]).unwrap().is_empty());
        // A link in each place: the file, the cell's folder, the folder of all.
        let at = |name: &str| outer.path().join("run").join(name);
        fs::remove_file(at("cells/a/console.log")).unwrap();
        symlink("../../../other/a/console.log", at("cells/a/console.log")).unwrap();
        assert_eq!(open(&outer).evidence(&cell, "console.log"), None);
        assert!(open(&outer).files(&cell, &[]).unwrap().is_empty());
        fs::remove_dir_all(at("cells/a")).unwrap();
        symlink("../../other/a", at("cells/a")).unwrap();
        assert_eq!(open(&outer).evidence(&cell, "console.log"), None);
        assert!(open(&outer).files(&cell, &[]).is_err());
        fs::remove_dir_all(at("cells")).unwrap();
        symlink("../other", at("cells")).unwrap();
        assert_eq!(open(&outer).evidence(&cell, "console.log"), None);
        assert!(open(&outer).files(&cell, &[]).is_err());
        for folder in ["../other/a", "/etc", "cells/../../other/a"] {
            let cell = CellRecord { folder: folder.into(), ..cell.clone() };
            assert_eq!(open(&outer).evidence(&cell, "console.log"), None, "{folder}");
        }
    }

    #[test]
    fn a_large_file_is_said_not_to_be_shown() {
        let (outer, cell) = made();
        let path = outer.path().join("run/cells/a/console.log");
        fs::File::create(&path).unwrap().set_len(EVIDENCE + 1).unwrap();
        assert_eq!(
            open(&outer).evidence(&cell, "console.log").as_deref(),
            Some("not shown: it is larger than 32 MiB\n")
        );
    }

    #[test]
    fn a_folder_with_a_link_is_not_written_into_and_nothing_outside_is_removed() {
        let stale = [CellId("a".into()), CellId("..".into())];
        for (link, to) in [("cells", "../other"), ("cells/a", "../../other/a"), ("cells/a/x", "../../../other/a")] {
            let (outer, _) = made();
            assert!(open(&outer).is_only_files().is_ok());
            let path = outer.path().join("run").join(link);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            symlink(to, &path).unwrap();
            let error = open(&outer).is_only_files().unwrap_err();
            assert!(error.to_string().contains("is not a file or a folder of a run"), "{error}");
            let _ = open(&outer).remove_evidence(stale.iter());
            assert!(outer.path().join("other/a/console.log").exists(), "{link}");
        }
        let (outer, _) = made();
        open(&outer).remove_evidence(stale[..1].iter()).unwrap();
        assert!(!outer.path().join("run/cells/a").exists());
        assert!(open(&outer).remove_evidence(stale[1..].iter()).is_err());
        assert!(outer.path().join("run/cells").exists());
    }

    #[test]
    fn a_run_is_removed_without_the_files_of_others() {
        let (outer, _) = made();
        fs::write(outer.path().join("run").join(JOURNAL), "").unwrap();
        fs::write(outer.path().join("run/notes.txt"), "mine").unwrap();
        open(&outer).remove_run().unwrap();
        let left: Vec<_> = fs::read_dir(outer.path().join("run")).unwrap().flatten().collect();
        assert!(left.len() == 1 && left[0].file_name() == "notes.txt");
        fs::remove_file(outer.path().join("run/notes.txt")).unwrap();
        open(&outer).remove_run().unwrap();
        assert!(!outer.path().join("run").exists());
    }

    #[test]
    fn evidence_is_given_without_links_and_replaces_nothing() {
        let (outer, _) = made();
        symlink("../../other/a", outer.path().join("run/cells/b")).unwrap();
        let to = outer.path().join("merged");
        fs::create_dir(&to).unwrap();
        // A merge that failed may have given it before.
        for _ in 0..2 {
            open(&outer).give_evidence(&RunFolder::open(&to).unwrap()).unwrap();
            assert_eq!(fs::read(to.join("cells/a/console.log")).unwrap(), b"Linux");
            assert_eq!(fs::read(outer.path().join("run/cells/a/console.log")).unwrap(), b"Linux");
        }
        assert_eq!(fs::read_dir(to.join("cells")).unwrap().count(), 1, "what the link leads to is not of the run");
        fs::remove_file(to.join("cells/a/console.log")).unwrap();
        fs::write(to.join("cells/a/console.log"), "mine").unwrap();
        assert!(open(&outer).give_evidence(&RunFolder::open(&to).unwrap()).is_err());
        assert_eq!(fs::read(to.join("cells/a/console.log")).unwrap(), b"mine");
    }
}
