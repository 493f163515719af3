use crate::bounds::JOURNAL_LINE;
use crate::{Event, RunInfo, SCHEMA_VERSION, Stamped};
use serde::Deserialize;
use std::io::{self, BufRead, Read};

/// Reads a journal one line at a time. An incomplete last line is left out: the run was killed while it wrote the
/// line, or it is still writing. Any other line that cannot be read is an error, since somebody changed the file.
pub struct Journal<R> {
    reader: R,
    line: Vec<u8>,
    lines: u64,
    whole: u64,
    /// The longest line in bytes.
    longest: u64,
}

/// Where a line is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The offset of its first byte.
    pub offset: u64,
    /// Its length in bytes, with the line end.
    pub length: u64,
}

impl<R: BufRead> Journal<R> {
    /// Reads the first line, which is the head of the run. An error if the journal does not start with one, or has
    /// another schema version.
    pub fn begin(reader: R) -> io::Result<(RunInfo, Self)> {
        Self::begin_with(reader, JOURNAL_LINE)
    }

    fn begin_with(reader: R, longest: u64) -> io::Result<(RunInfo, Self)> {
        let mut journal = Self { reader, line: Vec::new(), lines: 0, whole: 0, longest };
        let Some((_, stamped)) = journal.line(check_version)? else {
            return Err(invalid("it does not start with a run"));
        };
        match stamped.event {
            Event::RunStarted { run } => Ok((*run, journal)),
            _ => Err(invalid("it does not start with a run")),
        }
    }

    /// How many bytes the lines had that were read.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    fn line(&mut self, check: fn(&[u8]) -> io::Result<()>) -> io::Result<Option<(ByteRange, Stamped)>> {
        self.line.clear();
        let length = (&mut self.reader).take(self.longest + 1).read_until(b'\n', &mut self.line)? as u64;
        if length > self.longest {
            let (line, most) = (self.lines + 1, self.longest >> 20);
            return Err(invalid(&format!("line {line} of the journal is longer than {most} MiB")));
        }
        if !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        self.lines += 1;
        check(&self.line)?;
        let wrong = |why: String| invalid(&format!("line {} of the journal: {why}", self.lines));
        let event: Stamped = serde_json::from_slice(&self.line).map_err(|error| wrong(error.to_string()))?;
        if let Some(path) = outside_run_folder(&event.event) {
            return Err(wrong(format!("{path:?} is not a path inside the run's folder")));
        }
        let place = ByteRange { offset: self.whole, length };
        self.whole += length;
        Ok(Some((place, event)))
    }
}

impl<R: BufRead> Iterator for Journal<R> {
    type Item = io::Result<(ByteRange, Stamped)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line(|_| Ok(())).transpose()
    }
}

/// The first path or name of an event that leads out of the run's folder. A record may come from somebody else. Names
/// of workloads count too, since they become names of files in the guest.
fn outside_run_folder(event: &Event) -> Option<&str> {
    match event {
        Event::RunStarted { run } => run.programs.keys().map(String::as_str).find(|name| !is_below(name, 1)),
        Event::BootStarted { boot, .. } => Some(boot.0.as_str()).filter(|name| !is_below(name, 1)),
        Event::CellFinished { record } => {
            let folders = record.attempts.iter().map(|attempt| &attempt.folder).chain([&record.folder]);
            folders.map(String::as_str).find(|folder| !is_below(folder, usize::MAX))
        }
        _ => None,
    }
}

/// Whether `path` leads into a subfolder, by at most this many plain names.
fn is_below(path: &str, at_most: usize) -> bool {
    path.split('/').count() <= at_most && path.split('/').all(|name| !["", ".", ".."].contains(&name))
}

/// Checks the version before the rest is parsed, since a record of another version may have another shape.
fn check_version(line: &[u8]) -> io::Result<()> {
    #[derive(Deserialize)]
    struct First {
        run: Versioned,
    }
    #[derive(Deserialize)]
    struct Versioned {
        schema_version: u32,
    }
    match serde_json::from_slice(line) {
        Ok(First { run: Versioned { schema_version } }) if schema_version != SCHEMA_VERSION => Err(invalid(&format!(
            "the run has schema version {schema_version}, this luqual reads {SCHEMA_VERSION}: use the luqual that wrote the run"
        ))),
        // Whoever parses the line reports that it is not a run.
        _ => Ok(()),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellId, HostInfo, ProgramFile, ProgramInfo};

    fn lines(events: &[Event]) -> String {
        let line = |event: &Event| serde_json::to_string(&Stamped { at_us: 1, event: event.clone() }).unwrap() + "\n";
        events.iter().map(line).collect()
    }

    fn start() -> Event {
        let run = RunInfo::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        Event::RunStarted { run: Box::new(run) }
    }

    #[test]
    fn complete_lines_are_read_with_their_offsets() {
        let first = lines(&[start()]);
        let text = format!("{first}{}{{\"at_us\":7,\"ev", lines(&[Event::RunResumed { left: 1, again: Vec::new() }]));
        let (run, mut journal) = Journal::begin(text.as_bytes()).unwrap();
        assert_eq!(run.id, "id");
        let (place, stamped) = journal.next().unwrap().unwrap();
        assert_eq!(
            (place.offset, stamped.event),
            (first.len() as u64, Event::RunResumed { left: 1, again: Vec::new() })
        );
        assert!(journal.next().is_none());
        assert_eq!(journal.whole(), place.offset + place.length);
    }

    #[test]
    fn a_line_has_a_bound_whether_it_ends_or_not() {
        let first = lines(&[start()]);
        let most = first.len() as u64;
        let begun =
            |text: &str, most| Journal::begin_with(text.as_bytes(), most).map(drop).map_err(|it| it.to_string());
        assert_eq!(begun(&first, most), Ok(()));
        assert_eq!(begun(&first, most - 1), Err("line 1 of the journal is longer than 0 MiB".to_owned()));
        let text = format!("{first}{}", "x".repeat(2 * first.len()));
        let (_, mut journal) = Journal::begin_with(text.as_bytes(), most).unwrap();
        assert!(journal.next().unwrap().unwrap_err().to_string().contains("line 2 of the journal is longer"));
    }

    #[test]
    fn paths_outside_the_run_folder_are_refused() {
        for (path, one, several) in [
            ("a", true, true),
            ("cells/a b", false, true),
            ("/etc", false, false),
            ("../x", false, false),
            ("a/../../x", false, false),
            ("a//b", false, false),
            ("a/", false, false),
            (".", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_below(path, 1), is_below(path, usize::MAX)), (one, several), "{path}");
        }
        let boot = |name: &str| Event::BootStarted { boot: CellId(name.into()), cells: Vec::new() };
        let read = |event: Event| {
            let text = lines(&[start(), event]);
            let (_, mut journal) = Journal::begin(text.as_bytes()).unwrap();
            journal.next().unwrap().map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(read(boot("7.2.12_7.3.4")), Ok(()));
        assert_eq!(
            read(boot("../../x")).unwrap_err(),
            "line 2 of the journal: \"../../x\" is not a path inside the run's folder"
        );
        let Event::RunStarted { mut run } = start() else { unreachable!() };
        let file = ProgramFile::Missing { why: String::new() };
        let info = ProgramInfo { asserts: String::new(), origin: String::new(), shares_boot: false, file };
        run.programs.insert("external.../../../init".into(), info);
        assert!(Journal::begin(lines(&[Event::RunStarted { run }]).as_bytes()).is_err());
    }

    #[test]
    fn a_file_that_is_no_journal_of_this_version_is_an_error() {
        let told = |text: String| Journal::begin(text.as_bytes()).err().unwrap().to_string();
        assert!(told(String::new()).contains("does not start"));
        assert!(told(lines(&[Event::RunResumed { left: 1, again: Vec::new() }])).contains("does not start"));
        assert!(told("nonsense\n".into()).contains("line 1 of the journal"));
        let other = lines(&[start()]).replace("\"schema_version\":1", "\"schema_version\":2");
        assert!(told(other).contains("schema version 2, this luqual reads 1"));
        let text = format!("{}nonsense\n", lines(&[start()]));
        let error = Journal::begin(text.as_bytes()).unwrap().1.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("line 2 of the journal"), "{error}");
    }
}
