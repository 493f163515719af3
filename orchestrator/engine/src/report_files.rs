//! Writes reports to files. A file is replaced completely, or stays as it was.

use crate::error::EngineError;
use crate::folder::read_folder;
use crate::run_folder::RunFolder;
use luqual_model::CellRecord;
use luqual_reports::{Evidence, Record};
use luqual_runner::JOURNAL;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file that the user named. It is replaced completely, or stays as it was.
pub fn write_report(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), EngineError> {
    if file.file_name().is_some_and(|name| name == JOURNAL) {
        let why = format!("{} is the name of a run's journal", file.display());
        return Err(EngineError::usage(why).hint("name another file"));
    }
    // A special file, such as /dev/stdout, is written to directly.
    let written = if file.exists() && !file.is_file() {
        File::create(file).map(BufWriter::new).and_then(|mut to| write(&mut to).and_then(|()| to.flush()))
    } else {
        write_whole(file, write)
    };
    written.map_err(EngineError::named(file))
}

/// Replaces a file. If it is a link, the link is replaced, not the file that it leads to.
fn write_whole(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)?;
    let mut to = BufWriter::new(beside.as_file());
    write(&mut to).and_then(|()| to.flush())?;
    drop(to);
    beside.persist(file).map(drop).map_err(|error| error.error)
}

/// Writes the reports of a run from its journal, and returns its record.
pub(crate) fn write_reports(folder: &Path) -> Result<Record, EngineError> {
    let record = read_folder(folder)?;
    write_json(folder, &record)?;
    write_html(folder, &record)?;
    Ok(record)
}

pub(crate) fn write_json(folder: &Path, record: &Record) -> Result<(), EngineError> {
    let file = folder.join("run.json");
    write_whole(&file, |to| luqual_reports::json(record, to)).map_err(EngineError::own(file.display()))
}

pub(crate) fn write_html(folder: &Path, record: &Record) -> Result<(), EngineError> {
    let file = folder.join("report.html");
    let write =
        |to: &mut dyn Write| luqual_reports::html(record, Evidence { read: &evidence(folder), linked: true }, to);
    write_whole(&file, write).map_err(EngineError::own(file.display()))
}

/// Reads a file of a cell's folder for the HTML page.
pub fn evidence(folder: &Path) -> impl Fn(&CellRecord, &str) -> Option<String> + use<> {
    let folder = RunFolder::open(folder).ok();
    move |cell, name| folder.as_ref()?.evidence(cell, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::fs;

    #[test]
    fn a_file_is_written_whole_or_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.html");
        write_report(&file, |to| to.write_all(b"one")).unwrap();
        let full = |to: &mut dyn Write| to.write_all(b"two").and(Err(io::Error::from_raw_os_error(28)));
        assert_eq!(write_report(&file, full).unwrap_err().kind(), ErrorKind::Harness, "the disk is full");
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_the_users_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_report(&folder.path().join("nowhere/x"), |_| Ok(())).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("nowhere/x: No such"), "{error}");
        assert_eq!(write_report(Path::new(JOURNAL), |_| Ok(())).unwrap_err().kind(), ErrorKind::Usage);
    }
}
