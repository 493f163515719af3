//! One dispatcher puts the events of a run in order: what is written to the journal is what everyone else sees.

use luqual_model::{Event, RunRecord, Stamped};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Takes events, stamps them, writes them to `events.jsonl`, folds them into the record, and shows them to an observer.
pub struct Dispatcher<'a> {
    started: Instant,
    journal: File,
    record: Option<RunRecord>,
    observer: &'a mut dyn FnMut(&Stamped),
    failed: Option<std::io::Error>,
}

impl<'a> Dispatcher<'a> {
    /// The journal is created in the run's folder; a journal that is there already belongs to another run.
    pub fn create(folder: &Path, started: Instant, observer: &'a mut dyn FnMut(&Stamped)) -> std::io::Result<Self> {
        let journal = File::create_new(folder.join("events.jsonl"))?;
        Ok(Self { started, journal, record: None, observer, failed: None })
    }

    /// Takes one event. A journal that cannot be written is told at the end of the run, by [`Self::finish`].
    pub fn take(&mut self, event: Event) {
        let at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let stamped = Stamped { at_us, event };
        let written = serde_json::to_vec(&stamped).map_err(std::io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            // One write a line: a killed run leaves whole lines, but for the last.
            self.journal.write_all(&line)
        });
        self.failed = self.failed.take().or(written.err());
        match (&mut self.record, &stamped.event) {
            (None, Event::RunStarted { run }) => self.record = Some(run.as_ref().clone()),
            (Some(record), _) => record.fold(&stamped),
            (None, _) => {}
        }
        (self.observer)(&stamped);
    }

    /// The record, unless the journal could not be written.
    pub fn finish(self) -> std::io::Result<Option<RunRecord>> {
        self.failed.map_or(Ok(self.record), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::HostInfo;

    fn start() -> Event {
        let run = RunRecord::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        Event::RunStarted { run: Box::new(run) }
    }

    #[test]
    fn the_journal_the_record_and_the_observer_agree() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let mut observer = |stamped: &Stamped| seen.push(stamped.clone());
        let mut dispatcher = Dispatcher::create(folder.path(), Instant::now(), &mut observer).unwrap();
        dispatcher.take(start());
        dispatcher.take(Event::RunFinished { interrupted: true });
        let record = dispatcher.finish().unwrap().unwrap();
        let text = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
        let journal: Vec<Stamped> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(journal, seen);
        assert_eq!(RunRecord::from_events(&journal).unwrap(), record);
        assert!(record.interrupted);
    }

    #[test]
    fn a_folder_holds_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut observer = |_: &Stamped| {};
        assert!(Dispatcher::create(folder.path(), Instant::now(), &mut observer).is_ok());
        assert!(Dispatcher::create(folder.path(), Instant::now(), &mut observer).is_err());
    }
}
