//! Puts the events of a run in order: every observer sees exactly what is written to the journal.

use luqual_files::Folder;
use luqual_model::bounds::JOURNAL_LINE;
use luqual_model::{CellId, Event, Journal, Outcome, RunInfo, Stamped};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// The journal's name in the run's folder.
pub const JOURNAL: &str = "events.jsonl";

/// Stamps events, writes them to the journal, and shows them to an observer. It does not store them.
pub struct Dispatcher<'a> {
    started: Instant,
    /// The duration of the run before it was resumed, in microseconds.
    before_us: u64,
    journal: File,
    /// The length of the journal up to the end of its last complete line, in bytes.
    whole: u64,
    observer: &'a mut dyn FnMut(&Stamped),
    failed: Option<io::Error>,
}

/// An incomplete run, as read from its journal. Nothing is written before it is resumed.
pub struct CutOff {
    journal: File,
    whole: u64,
    before_us: u64,
    /// The run as it was started, and its end if it has one.
    pub run: RunInfo,
    /// The indices of the cells that have not ended, in the plan, and of those of `again`.
    pub left: Vec<usize>,
    /// The cells that ended as harness-failed, which says nothing about a kernel: they run again, each in a boot of its own.
    pub again: Vec<CellId>,
    /// The cells of `left`, and the shared boots that they may have been in; their folders are removed before the run is
    /// resumed.
    pub stale: Vec<CellId>,
}

impl<'a> Dispatcher<'a> {
    /// Starts the journal of a new run. It is an error if the folder has a journal already.
    pub fn create(folder: &Path, run: &RunInfo, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Self> {
        let path = folder.join(JOURNAL);
        let journal = File::create_new(&path)?;
        lock(&journal)?;
        // Another luqual may have removed the file before it was locked.
        if path.metadata()?.ino() != journal.metadata()?.ino() {
            return Err(busy());
        }
        let mut dispatcher = Self { started: Instant::now(), before_us: 0, journal, whole: 0, observer, failed: None };
        dispatcher.take(Event::RunStarted { run: Box::new(run.clone()) });
        Ok(dispatcher)
    }

    /// Writes one event, unless an earlier write failed. Returns whether it was written; [`Self::finish`] returns the
    /// error.
    pub fn take(&mut self, event: Event) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let at_us = self.before_us + u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let stamped = Stamped { at_us, event };
        let written = serde_json::to_vec(&stamped).map_err(io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            // Each line is one write, so that a killed run leaves complete lines, except perhaps the last.
            self.journal.write_all(&line).map(|()| self.whole += line.len() as u64)
        });
        match written {
            Ok(()) => (self.observer)(&stamped),
            Err(error) => {
                // Remove an incomplete line, which would join the next one. If this fails too, it is the last line,
                // and readers skip it.
                let _ = self.journal.set_len(self.whole);
                self.failed = Some(error);
            }
        }
        self.failed.is_none()
    }

    /// Returns the first error of a write, if there was one.
    pub fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl CutOff {
    /// Reads the journal in `folder`, without an incomplete last line.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let journal = Folder::open(folder)?.writable(Path::new(JOURNAL))?;
        lock(&journal)?;
        let (mut run, mut lines) = Journal::begin(BufReader::new(&journal))?;
        let (mut before_us, mut boots) = (0, Vec::new());
        let (mut ended, mut kept) = (HashSet::<CellId>::new(), HashSet::<String>::new());
        let mut failed = HashSet::<CellId>::new();
        for line in lines.by_ref() {
            let (_, stamped) = line?;
            before_us = stamped.at_us;
            run.fold(&stamped);
            match stamped.event {
                Event::CellFinished { record } if record.outcome == Outcome::HarnessFailed => {
                    failed.insert(record.id);
                }
                Event::CellFinished { record } => {
                    kept.extend(record.attempts.iter().map(|attempt| boot_folder(&attempt.folder)));
                    kept.insert(boot_folder(&record.folder));
                    ended.insert(record.id);
                }
                // The journal has taken these back already.
                Event::RunResumed { again, .. } => {
                    for cell in &again {
                        failed.remove(cell);
                    }
                }
                Event::BootStarted { boot, cells } => boots.push((boot, cells)),
                _ => {}
            }
        }
        let whole = lines.whole();
        let ids = run.planned.iter().map(|planned| planned.key.id());
        let again = ids.filter(|id| failed.contains(id)).collect();
        let is_left = |place: &usize| !ended.contains(&run.planned[*place].key.id());
        let left: Vec<usize> = (0..run.planned.len()).filter(is_left).collect();
        let shared = boots.into_iter().filter(|(_, cells)| cells.iter().any(|cell| !ended.contains(cell)));
        let own = left.iter().map(|place| run.planned[*place].key.id());
        let all = own.chain(shared.map(|(boot, _)| boot));
        let stale = all.filter(|id| !kept.contains(&folder_of(id))).collect();
        Ok(Self { journal, whole, before_us, run, left, again, stale })
    }

    /// Continues the journal at its end.
    pub fn resume<'a>(self, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Dispatcher<'a>> {
        let Self { mut journal, whole, before_us, left, again, .. } = self;
        journal.set_len(whole)?;
        journal.seek(SeekFrom::End(0))?;
        let mut dispatcher = Dispatcher { started: Instant::now(), before_us, journal, whole, observer, failed: None };
        dispatcher.take(Event::RunResumed { left: left.len(), again });
        Ok(dispatcher)
    }
}

/// Whether the journal in `folder` has a complete first line. If it has only the beginning of one, it is removed; an
/// error if that is not what luqual writes.
pub fn has_begun(folder: &Path) -> io::Result<bool> {
    let opened = Folder::open(folder).and_then(|folder| Ok((folder.file(Path::new(JOURNAL))?, folder)));
    let (journal, folder) = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let mut line = Vec::new();
    BufReader::new((&journal).take(JOURNAL_LINE)).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        return Ok(true);
    }
    lock(&journal)?;
    if !is_beginning(&line) || journal.metadata()?.len() != line.len() as u64 {
        let why = format!("{JOURNAL} is not the journal of a run; it was left as it is");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    folder.remove(OsStr::new(JOURNAL), 0)?;
    Ok(false)
}

/// Whether a text can be the beginning of the first line that luqual writes into a journal.
fn is_beginning(text: &[u8]) -> bool {
    const HEAD: &[u8] = b"{\"at_us\":";
    const TAIL: &[u8] = b",\"event\":\"run-started\",";
    let agrees = |text: &[u8], known: &[u8]| text.iter().zip(known).all(|(byte, known)| byte == known);
    let Some(rest) = text.strip_prefix(HEAD) else { return text.len() < HEAD.len() && agrees(text, HEAD) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0 || rest.is_empty()) && agrees(&rest[digits..], TAIL)
}

/// The folder of a boot's evidence, relative to the run's folder.
pub(crate) fn folder_of(boot: &CellId) -> String {
    format!("cells/{boot}")
}

/// The folder of the boot of an attempt, which may contain the attempt's own folder.
fn boot_folder(attempt: &str) -> String {
    attempt.split('/').take(2).collect::<Vec<_>>().join("/")
}

/// Locks the journal, so that only one luqual writes it. The lock ends with the process. An error if it is locked.
fn lock(journal: &File) -> io::Result<()> {
    journal.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => busy(),
        TryLockError::Error(error) => error,
    })
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another luqual runs this run; wait until it ends")
}

#[cfg(test)]
impl<'a> Dispatcher<'a> {
    /// One whose disk is full, as one can have it anywhere.
    pub(crate) fn on_a_full_disk(observer: &'a mut dyn FnMut(&Stamped)) -> Self {
        let journal = File::options().write(true).open("/dev/full").unwrap();
        Self { started: Instant::now(), before_us: 0, journal, whole: 0, observer, failed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellRecord, HostInfo};
    use std::fs;

    fn run() -> RunInfo {
        RunInfo::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default())
    }

    #[test]
    fn the_journal_and_the_observer_agree() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let mut observer = |stamped: &Stamped| seen.push(stamped.clone());
        let mut dispatcher = Dispatcher::create(folder.path(), &run(), &mut observer).unwrap();
        dispatcher.take(Event::RunFinished { interrupted: true });
        dispatcher.finish().unwrap();
        let text = fs::read_to_string(folder.path().join(JOURNAL)).unwrap();
        let journal: Vec<Stamped> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(journal, seen);
        assert_eq!(journal.len(), 2);
    }

    #[test]
    fn a_folder_holds_one_run_and_one_luqual_runs_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (|_: &Stamped| {}, |_: &Stamped| {});
        let running = Dispatcher::create(folder.path(), &run(), &mut first).unwrap();
        assert!(Dispatcher::create(folder.path(), &run(), &mut second).is_err());
        let busy = CutOff::read(folder.path()).err().unwrap();
        assert!(busy.to_string().contains("another luqual"), "{busy}");
        drop(running);
        assert!(CutOff::read(folder.path()).is_ok());
    }

    #[test]
    fn a_run_has_begun_when_its_journal_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        let begun = || has_begun(folder.path());
        assert!(!begun().unwrap());
        for foreign in
            ["x", "{\"a\":1}", "{\"at_us\":,", "{\"at_us\":0,\"event\":\"x", "2026-01-01 08:00 a log of mine"]
        {
            fs::write(&journal, foreign).unwrap();
            let error = begun().unwrap_err();
            assert!(error.to_string().contains("is not the journal of a run"), "{error}");
            assert_eq!(fs::read_to_string(&journal).unwrap(), foreign, "it is somebody's");
        }
        fs::remove_file(&journal).unwrap();
        std::os::unix::fs::symlink("/dev/null", &journal).unwrap();
        assert!(begun().is_err());
        fs::remove_file(&journal).unwrap();
        let whole = "{\"at_us\":12,\"event\":\"run-started\",\"run\":{\"schema";
        for cut_off in (0..=whole.len()).map(|at| &whole[..at]) {
            fs::write(&journal, cut_off).unwrap();
            assert!(!begun().unwrap() && !journal.exists(), "`{cut_off}` is no beginning");
        }
        let beginning = File::create_new(&journal).unwrap();
        lock(&beginning).unwrap();
        assert!(begun().unwrap_err().to_string().contains("another luqual") && journal.exists());
        drop(beginning);
        fs::write(&journal, "{}\n{").unwrap();
        assert!(begun().unwrap() && journal.exists());
    }

    #[test]
    fn a_journal_that_names_folders_elsewhere_is_not_gone_on_with() {
        for (boot, is_one) in [("7.2.12_7.3.4", true), ("../x", false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut observer = |_: &Stamped| {};
            let mut dispatcher = Dispatcher::create(folder.path(), &run(), &mut observer).unwrap();
            dispatcher.take(Event::BootStarted { boot: CellId(boot.into()), cells: vec![CellId("x".into())] });
            dispatcher.finish().unwrap();
            assert_eq!(CutOff::read(folder.path()).is_ok(), is_one, "{boot}");
        }
    }

    #[test]
    fn what_unfinished_cells_left_behind_is_stale_and_what_an_ended_one_names_is_not() {
        use crate::run::tests::record;
        use luqual_model::PlannedCell;
        let folder = tempfile::tempdir().unwrap();
        let mut observer = |_: &Stamped| {};
        let mut run = run();
        let cell = |workload: &str, folder: &str| {
            let mut cell = record(Outcome::Survived, folder);
            cell.plan.key.workload = workload.into();
            cell.id = cell.plan.key.id();
            cell
        };
        let all = [cell("w.a", "cells/kept/attempt-2"), cell("w.b", ""), cell("w.c", "")];
        run.planned = all.iter().map(|cell| cell.plan.clone()).collect::<Vec<PlannedCell>>();
        let boot = |name: &str, cells: &[&CellRecord]| Event::BootStarted {
            boot: CellId(name.into()),
            cells: cells.iter().map(|cell| cell.id.clone()).collect(),
        };
        let mut dispatcher = Dispatcher::create(folder.path(), &run, &mut observer).unwrap();
        dispatcher.take(boot("ended", &[&all[0]]));
        dispatcher.take(boot("cut-off", &[&all[0], &all[1]]));
        dispatcher.take(boot("kept", &[&all[0], &all[1]]));
        dispatcher.take(Event::CellFinished { record: Box::new(all[0].clone()) });
        dispatcher.finish().unwrap();
        let cut_off = CutOff::read(folder.path()).unwrap();
        assert_eq!((cut_off.left, cut_off.run.duration_us), (vec![1, 2], None));
        assert_eq!(cut_off.stale, [all[1].id.clone(), all[2].id.clone(), CellId("cut-off".into())]);
    }

    #[test]
    fn a_cell_of_which_the_harness_failed_is_left_and_what_it_left_behind_is_stale() {
        use crate::run::tests::record;
        let folder = tempfile::tempdir().unwrap();
        let mut observer = |_: &Stamped| {};
        let mut run = run();
        let cell = |workload: &str, outcome| {
            let mut cell = record(outcome, "");
            cell.plan.key.workload = workload.into();
            cell.id = cell.plan.key.id();
            cell.folder = format!("cells/{}", cell.id);
            cell
        };
        let failed = [cell("w.a", Outcome::HarnessFailed), cell("w.b", Outcome::HarnessFailed)];
        let good = cell("w.b", Outcome::Survived);
        let lost = cell("w.c", Outcome::Lost);
        run.planned = failed.iter().chain([&lost]).map(|cell| cell.plan.clone()).collect();
        let mut dispatcher = Dispatcher::create(folder.path(), &run, &mut observer).unwrap();
        for cell in failed.iter().chain([&lost]) {
            dispatcher.take(Event::CellFinished { record: Box::new(cell.clone()) });
        }
        dispatcher.finish().unwrap();
        let cut_off = CutOff::read(folder.path()).unwrap();
        let ids = failed.map(|cell| cell.id);
        assert_eq!((&cut_off.left, &cut_off.again, &cut_off.stale), (&vec![0, 1], &ids.to_vec(), &ids.to_vec()));
        // The second one ends well now.
        let mut observer = |_: &Stamped| {};
        let mut dispatcher = cut_off.resume(&mut observer).unwrap();
        dispatcher.take(Event::CellFinished { record: Box::new(good) });
        dispatcher.finish().unwrap();
        let cut_off = CutOff::read(folder.path()).unwrap();
        assert_eq!((cut_off.left, cut_off.again), (vec![0], Vec::new()));
    }

    #[test]
    fn a_journal_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        let mut observer = |_: &Stamped| {};
        drop(Dispatcher::create(folder.path(), &run(), &mut observer).unwrap());
        let whole = fs::read_to_string(&path).unwrap();
        let cut = format!("{whole}{{\"at_us\":7,\"event\":\"run-fin");
        fs::write(&path, &cut).unwrap();
        let cut_off = CutOff::read(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), cut, "it was only looked at");
        let mut dispatcher = cut_off.resume(&mut observer).unwrap();
        dispatcher.take(Event::RunFinished { interrupted: false });
        dispatcher.finish().unwrap();
        let lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        assert!(lines.len() == 3 && lines[1].contains("run-resumed") && lines[2].contains("run-finished"), "{lines:?}");

        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        let error = CutOff::read(folder.path()).err().unwrap();
        assert!(error.to_string().contains("line 2 of the journal"), "{error}");
    }

    #[test]
    fn what_the_journal_does_not_have_is_not_shown() {
        let mut seen = 0;
        let mut observer = |_: &Stamped| seen += 1;
        let mut dispatcher = Dispatcher::on_a_full_disk(&mut observer);
        assert!(!dispatcher.take(Event::RunResumed { left: 1, again: Vec::new() }));
        assert!(!dispatcher.take(Event::RunResumed { left: 1, again: Vec::new() }));
        assert_eq!(dispatcher.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(seen, 0);
    }
}
