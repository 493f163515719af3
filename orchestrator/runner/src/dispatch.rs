//! One dispatcher puts the events of a run in order: what is written to the journal is what everyone else sees.

use luqual_model::{CellId, Event, Journal, Run, Stamped};
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

/// The journal's name in the run's folder.
pub const JOURNAL: &str = "events.jsonl";

/// Takes events, stamps them, writes them to the journal, and shows them to an observer. It keeps nothing of them.
pub struct Dispatcher<'a> {
    started: Instant,
    /// Microseconds that the run had before it was cut off.
    before_us: u64,
    journal: File,
    observer: &'a mut dyn FnMut(&Stamped),
    failed: Option<io::Error>,
}

/// A run that goes on.
pub struct Resumed<'a> {
    /// Writes where the journal ended.
    pub dispatcher: Dispatcher<'a>,
    /// The run, as it was begun.
    pub run: Run,
    /// The places in its plan of the cells that are left.
    pub left: Vec<usize>,
    /// Those cells, and the shared boots that they may have been in: what they left behind is no evidence of anything.
    pub stale: Vec<CellId>,
}

impl<'a> Dispatcher<'a> {
    /// A new run: its journal begins with it. A journal that is there already belongs to another run.
    pub fn create(folder: &Path, run: &Run, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Self> {
        let journal = File::create_new(folder.join(JOURNAL))?;
        lock(&journal)?;
        let mut dispatcher = Self { started: Instant::now(), before_us: 0, journal, observer, failed: None };
        dispatcher.take(Event::RunStarted { run: Box::new(run.clone()) });
        Ok(dispatcher)
    }

    /// A run that was cut off: its journal is the truth, but for a last line that was not written to its end.
    pub fn resume(folder: &Path, observer: &'a mut dyn FnMut(&Stamped)) -> io::Result<Resumed<'a>> {
        let mut journal = File::options().read(true).write(true).open(folder.join(JOURNAL))?;
        lock(&journal)?;
        let (run, mut lines) = Journal::begin(BufReader::new(&journal))?;
        let (mut before_us, mut ended, mut boots) = (0, HashSet::<CellId>::new(), Vec::new());
        for line in lines.by_ref() {
            let (_, stamped) = line?;
            before_us = stamped.at_us;
            match stamped.event {
                Event::CellFinished { record } => drop(ended.insert(record.id)),
                Event::BootStarted { boot, cells } => boots.push((boot, cells)),
                _ => {}
            }
        }
        let whole = lines.whole();
        journal.set_len(whole)?;
        journal.seek(SeekFrom::End(0))?;
        let is_left = |place: &usize| !ended.contains(&run.planned[*place].key.id());
        let left: Vec<usize> = (0..run.planned.len()).filter(is_left).collect();
        let shared = boots.into_iter().filter(|(_, cells)| cells.iter().any(|cell| !ended.contains(cell)));
        let own = left.iter().map(|place| run.planned[*place].key.id());
        let stale = own.chain(shared.map(|(boot, _)| boot)).collect();
        let mut dispatcher = Self { started: Instant::now(), before_us, journal, observer, failed: None };
        dispatcher.take(Event::RunResumed { left: left.len() });
        Ok(Resumed { dispatcher, run, left, stale })
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
        (self.observer)(&stamped);
    }

    /// Whether the journal has all of it.
    pub fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// One luqual writes a journal; the lock goes with the process.
fn lock(journal: &File) -> io::Result<()> {
    journal.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another luqual is running this run"),
        TryLockError::Error(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellRecord, HostInfo};
    use std::fs;

    fn run() -> Run {
        Run::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default())
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
        let busy = Dispatcher::resume(folder.path(), &mut second).err().unwrap();
        assert!(busy.to_string().contains("another luqual"), "{busy}");
        drop(running);
        assert!(Dispatcher::resume(folder.path(), &mut second).is_ok());
    }

    #[test]
    fn what_unfinished_cells_left_behind_is_stale() {
        use crate::attempts::tests::record;
        use luqual_model::{Outcome, Planned};
        let folder = tempfile::tempdir().unwrap();
        let mut observer = |_: &Stamped| {};
        let mut run = run();
        let cell = |workload: &str| {
            let mut cell = record(Outcome::Survived, "");
            cell.plan.key.workload = workload.into();
            cell.id = cell.plan.key.id();
            cell
        };
        let all = ["w.a", "w.b", "w.c"].map(cell);
        run.planned = all.iter().map(|cell| cell.plan.clone()).collect::<Vec<Planned>>();
        let boot = |name: &str, cells: &[&CellRecord]| Event::BootStarted {
            boot: CellId(name.into()),
            cells: cells.iter().map(|cell| cell.id.clone()).collect(),
        };
        let mut dispatcher = Dispatcher::create(folder.path(), &run, &mut observer).unwrap();
        dispatcher.take(boot("ended", &[&all[0]]));
        dispatcher.take(boot("cut-off", &[&all[0], &all[1]]));
        dispatcher.take(Event::CellFinished { record: Box::new(all[0].clone()) });
        dispatcher.finish().unwrap();
        let resumed = Dispatcher::resume(folder.path(), &mut observer).unwrap();
        assert_eq!(resumed.left, [1, 2]);
        assert_eq!(resumed.stale, [all[1].id.clone(), all[2].id.clone(), CellId("cut-off".into())]);
    }

    #[test]
    fn a_journal_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        let mut observer = |_: &Stamped| {};
        drop(Dispatcher::create(folder.path(), &run(), &mut observer).unwrap());
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"at_us\":7,\"event\":\"run-fin")).unwrap();
        let mut dispatcher = Dispatcher::resume(folder.path(), &mut observer).unwrap().dispatcher;
        dispatcher.take(Event::RunFinished { interrupted: false });
        dispatcher.finish().unwrap();
        let lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        assert!(lines.len() == 3 && lines[1].contains("run-resumed") && lines[2].contains("run-finished"), "{lines:?}");

        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        let error = Dispatcher::resume(folder.path(), &mut observer).err().unwrap();
        assert!(error.to_string().contains("line 2 of the journal"), "{error}");
    }
}
