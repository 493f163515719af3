//! One dispatcher puts the events of a run in order: what is written to the journal is what everyone else sees.

use luqual_model::{Event, RunRecord, Stamped};
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

/// The journal's name in the run's folder.
pub const JOURNAL: &str = "events.jsonl";

/// Takes events, stamps them, writes them to the journal, folds them into the record, and shows them to an observer.
pub struct Dispatcher<'a> {
    started: Instant,
    /// Microseconds that the run had before it was cut off.
    before_us: u64,
    journal: File,
    record: RunRecord,
    observer: &'a mut dyn FnMut(&Stamped),
    failed: Option<io::Error>,
}

impl<'a> Dispatcher<'a> {
    /// A new run: its journal begins with `record`, which has no cells yet. A journal that is there already belongs to
    /// another run.
    pub fn create(folder: &Path, record: RunRecord, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Self> {
        let journal = File::create_new(folder.join(JOURNAL))?;
        lock(&journal)?;
        let start = Event::RunStarted { run: Box::new(record.clone()) };
        let mut dispatcher = Self { started: Instant::now(), before_us: 0, journal, record, observer, failed: None };
        dispatcher.take(start);
        Ok(dispatcher)
    }

    /// A run that was cut off: its journal is the truth, but for a last line that was not written to its end.
    pub fn resume(folder: &Path, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Self> {
        let mut journal = File::options().read(true).write(true).open(folder.join(JOURNAL))?;
        lock(&journal)?;
        let (events, whole) = whole_lines(&journal)?;
        let nothing = || io::Error::new(io::ErrorKind::InvalidData, "the journal does not begin with a run");
        let record = RunRecord::from_events(&events).ok_or_else(nothing)?;
        journal.set_len(whole)?;
        journal.seek(SeekFrom::End(0))?;
        let before_us = events.last().map_or(0, |last| last.at_us);
        let left = record.left().len();
        let mut dispatcher = Self { started: Instant::now(), before_us, journal, record, observer, failed: None };
        dispatcher.take(Event::RunResumed { left });
        Ok(dispatcher)
    }

    /// The record so far.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Takes one event. A journal that cannot be written is told at the end of the run, by [`Self::finish`].
    pub fn take(&mut self, event: Event) {
        let at_us = self.before_us + u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let stamped = Stamped { at_us, event };
        let written = serde_json::to_vec(&stamped).map_err(io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            // One write a line: a killed run leaves whole lines, but for the last.
            self.journal.write_all(&line)
        });
        self.failed = self.failed.take().or(written.err());
        self.record.fold(&stamped);
        (self.observer)(&stamped);
    }

    /// The record, unless the journal could not be written.
    pub fn finish(self) -> io::Result<RunRecord> {
        self.failed.map_or(Ok(self.record), Err)
    }
}

/// One luqual writes a journal; the lock goes with the process.
fn lock(journal: &File) -> io::Result<()> {
    journal.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another luqual is running this run"),
        TryLockError::Error(error) => error,
    })
}

/// The events of a journal, and how many bytes their lines have. A line in the middle that cannot be read is an error:
/// it was not cut off, it was changed.
fn whole_lines(journal: &File) -> io::Result<(Vec<Stamped>, u64)> {
    let mut reader = BufReader::new(journal);
    let (mut events, mut whole, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok((events, whole));
        }
        let event = serde_json::from_slice(&line).map_err(|error| {
            let message = format!("line {} of the journal: {error}", events.len() + 1);
            io::Error::new(io::ErrorKind::InvalidData, message)
        });
        events.push(event?);
        whole += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::HostInfo;
    use std::fs;

    fn record() -> RunRecord {
        RunRecord::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default())
    }

    #[test]
    fn the_journal_the_record_and_the_observer_agree() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let mut observer = |stamped: &Stamped| seen.push(stamped.clone());
        let mut dispatcher = Dispatcher::create(folder.path(), record(), &mut observer).unwrap();
        dispatcher.take(Event::RunFinished { interrupted: true });
        let record = dispatcher.finish().unwrap();
        let text = fs::read_to_string(folder.path().join(JOURNAL)).unwrap();
        let journal: Vec<Stamped> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(journal, seen);
        assert_eq!(RunRecord::from_events(&journal).unwrap(), record);
        assert!(record.interrupted);
    }

    #[test]
    fn a_folder_holds_one_run_and_one_luqual_runs_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (|_: &Stamped| {}, |_: &Stamped| {});
        let running = Dispatcher::create(folder.path(), record(), &mut first).unwrap();
        assert!(Dispatcher::create(folder.path(), record(), &mut second).is_err());
        let busy = Dispatcher::resume(folder.path(), &mut second).err().unwrap();
        assert!(busy.to_string().contains("another luqual"), "{busy}");
        drop(running);
        assert!(Dispatcher::resume(folder.path(), &mut second).is_ok());
    }

    #[test]
    fn a_journal_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        let mut observer = |_: &Stamped| {};
        drop(Dispatcher::create(folder.path(), record(), &mut observer).unwrap());
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"at_us\":7,\"event\":\"run-fin")).unwrap();
        let mut dispatcher = Dispatcher::resume(folder.path(), &mut observer).unwrap();
        dispatcher.take(Event::RunFinished { interrupted: false });
        dispatcher.finish().unwrap();
        let lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        assert!(lines.len() == 3 && lines[1].contains("run-resumed") && lines[2].contains("run-finished"), "{lines:?}");

        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        let error = Dispatcher::resume(folder.path(), &mut observer).err().unwrap();
        assert!(error.to_string().contains("line 2 of the journal"), "{error}");
    }
}
