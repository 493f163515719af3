//! Whether a folder has the run that is asked for, so that it can go on there.

use super::execute::{Execution, TOOL};
use super::report::read;
use super::selection::Chosen;
use crate::error::CliError;
use luqual_model::{CellKey, Course, Partition, Run};
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// What is asked for, as far as a run's record has it.
pub(crate) struct Asked<'a> {
    cells: &'a [CellKey],
    partition: Option<&'a Partition>,
    /// Where nobody gave one, any will do.
    seed: Option<u64>,
    course: Course<'a>,
}

impl<'a> Asked<'a> {
    /// By this luqual.
    pub(crate) fn of(chosen: &'a Chosen, options: &'a Execution, repeat: u32) -> Self {
        Self {
            cells: &chosen.cells,
            partition: chosen.partition.as_ref(),
            seed: options.seed.or(chosen.seed),
            course: Course {
                retries: options.retries,
                repeat,
                deterministic: options.deterministic,
                plant: options.plant.as_deref(),
            },
        }
    }

    /// The run in that folder, if one has begun there; an error if it is another than this.
    pub(crate) fn find(&self, folder: &Path) -> Result<Option<Record>, CliError> {
        if !has_begun(&folder.join(JOURNAL)).map_err(CliError::file(folder.display()))? {
            return Ok(None);
        }
        let record = read(folder)?;
        match self.differs(&record.run) {
            None => Ok(Some(record)),
            Some(what) => Err(CliError::usage(format!("{} has a run in it with {what}", folder.display()))
                .hint("name another folder, or remove that one")),
        }
    }

    /// What a run has that is another.
    fn differs(&self, run: &Run) -> Option<String> {
        let settings = &run.settings;
        let is_other_seed = self.seed.is_some_and(|seed| seed != settings.seed);
        if run.tool != TOOL {
            Some("another luqual".to_owned())
        } else if run.partition.as_ref().map(|it| (it.number, it.of)) != self.partition.map(|it| (it.number, it.of)) {
            Some("another part".to_owned())
        } else if !run.planned.iter().map(|planned| &planned.key).eq(self.cells)
            || run.partition.as_ref() != self.partition
        {
            Some("another selection".to_owned())
        } else if is_other_seed || settings.course() != self.course {
            Some(format!("other settings: {}", Course::WORDS))
        } else {
            None
        }
    }
}

/// Whether a journal has a whole first line. Without one the run never began, and what is there of it is removed.
fn has_begun(journal: &Path) -> io::Result<bool> {
    let file = match File::open(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        return Ok(true);
    }
    fs::remove_file(journal)?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{HostInfo, Planned};

    fn key(workload: &str) -> CellKey {
        let [source, target, profile, workload] = ["a", "b", "p", workload].map(str::to_owned);
        CellKey { source, target, profile, workload }
    }

    const OTHER: &str = "other settings: seed, retries, repeat, deterministic or a planted fault";

    #[test]
    fn a_run_is_the_one_that_is_asked_for_or_it_is_told_why_not() {
        let cells = [key("x.one"), key("x.two")];
        let partition = Partition { number: 2, of: 3, cells: 6, places: vec![1, 4] };
        let asked = |seed| Asked {
            cells: &cells,
            partition: Some(&partition),
            seed,
            course: Course { retries: 0, repeat: 1, deterministic: false, plant: None },
        };
        let mut run = Run::new("id".into(), TOOL.into(), Vec::new(), String::new(), HostInfo::default());
        run.partition = Some(partition.clone());
        run.planned = cells.clone().map(|key| Planned { key, prediction: None, expectation: None }).to_vec();
        (run.settings.seed, run.settings.repeat) = (7, 1);
        assert_eq!((asked(Some(7)).differs(&run), asked(None).differs(&run)), (None, None));
        assert!(asked(Some(8)).differs(&run).is_some_and(|what| what.starts_with("other settings")));
        type Change = fn(&mut Run);
        let changes: [(Change, &str); 9] = [
            (|run| run.tool.push('x'), "another luqual"),
            (|run| run.partition = None, "another part"),
            (|run| run.partition.as_mut().unwrap().number = 3, "another part"),
            (|run| run.partition.as_mut().unwrap().cells = 7, "another selection"),
            (|run| run.planned[1].key.workload.push('x'), "another selection"),
            (|run| drop(run.planned.pop()), "another selection"),
            (|run| run.settings.retries = 1, OTHER),
            (|run| run.settings.deterministic = true, OTHER),
            (|run| run.settings.plant = Some("x".into()), OTHER),
        ];
        for (change, told) in changes {
            let mut run = run.clone();
            change(&mut run);
            assert_eq!(asked(Some(7)).differs(&run).as_deref(), Some(told));
        }
    }

    #[test]
    fn a_run_has_begun_when_its_journal_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        assert!(!has_begun(&journal).unwrap());
        for cut_off in ["", "{\"at_us\":0,\"ev"] {
            fs::write(&journal, cut_off).unwrap();
            assert!(!has_begun(&journal).unwrap() && !journal.exists(), "`{cut_off}` is no beginning");
        }
        fs::write(&journal, "{}\n{").unwrap();
        assert!(has_begun(&journal).unwrap() && journal.exists());
    }
}
