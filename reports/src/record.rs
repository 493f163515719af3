//! A run as its journal has it: all of the plan, a few bytes of each cell, and the rest of a cell when it is asked
//! for.

use crate::brief::Brief;
use luqual_model::{ByteRange, CellId, CellRecord, Event, Journal, Outcome, PlannedCell, RunInfo, RunRecord, Stamped};
use serde::ser::{Error, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt;

/// A run that ended, goes on, or was killed. Cells have the numbers of their places in the plan.
pub struct Record {
    /// All but what became of the cells.
    pub run: RunInfo,
    /// How a user names it: its id, unless its folder is another than that of all runs.
    pub name: String,
    ended: Vec<Option<(ByteRange, Brief)>>,
    journal: File,
}

/// How many cells ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outcomes that no cell had are absent.
    pub by_outcome: BTreeMap<Outcome, usize>,
    /// How many planned cells have no result.
    pub not_run: usize,
}

impl Record {
    /// Reads a journal from its beginning.
    pub fn read(journal: File) -> io::Result<Self> {
        let (mut run, mut lines) = Journal::begin(BufReader::new(&journal))?;
        let planned: HashMap<CellId, usize> =
            run.planned.iter().enumerate().map(|(number, planned)| (planned.key.id(), number)).collect();
        if planned.len() < run.planned.len() {
            return Err(invalid("two planned cells have one id".to_owned()));
        }
        let mut ended = vec![None; run.planned.len()];
        for line in lines.by_ref() {
            let (place, mut stamped) = line?;
            if let Event::CellFinished { record } = &mut stamped.event {
                let number =
                    *planned.get(&record.id).ok_or_else(|| invalid(format!("{} is not planned", record.id)))?;
                check(record, &run.planned[number])?;
                record.status = record.derived_status();
                if ended[number].replace((place, Brief::of(record))).is_some() {
                    return Err(invalid(format!("{} ended twice", record.id)));
                }
            }
            if let Event::RunResumed { again, .. } = &stamped.event {
                for cell in again {
                    // Nothing else may be taken back.
                    let taken = planned.get(cell).and_then(|number| ended[*number].take());
                    if taken.is_none_or(|(_, brief)| brief.outcome != Outcome::HarnessFailed) {
                        return Err(invalid(format!("{cell} runs again, and had not ended as harness-failed")));
                    }
                }
            }
            run.fold(&stamped);
        }
        Ok(Self { name: run.id.clone(), run, ended, journal })
    }

    /// What is planned, and what became of it.
    pub fn briefs(&self) -> impl Iterator<Item = (&PlannedCell, Option<&Brief>)> {
        self.run.planned.iter().zip(self.ended.iter().map(|ended| ended.as_ref().map(|(_, brief)| brief)))
    }

    /// What became of one cell.
    pub(crate) fn brief(&self, number: usize) -> Option<&Brief> {
        self.ended.get(number)?.as_ref().map(|(_, brief)| brief)
    }

    /// The numbers of the cells that ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = usize> {
        self.ended.iter().enumerate().filter(|(_, ended)| ended.is_some()).map(|(number, _)| number)
    }

    /// The cells that did not.
    pub(crate) fn left(&self) -> impl Iterator<Item = &PlannedCell> {
        self.briefs().filter(|(_, brief)| brief.is_none()).map(|(planned, _)| planned)
    }

    /// All of one cell.
    pub(crate) fn cell(&self, number: usize) -> io::Result<CellRecord> {
        let ended = self.ended.get(number).and_then(Option::as_ref);
        let (place, _) = ended.ok_or_else(|| invalid(format!("cell {number} has not ended")))?;
        let mut line = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
        self.journal.read_exact_at(&mut line, place.offset)?;
        match serde_json::from_slice::<Stamped>(&line)?.event {
            Event::CellFinished { mut record } => {
                record.status = record.derived_status();
                Ok(*record)
            }
            _ => Err(invalid("the journal was changed while it was read".to_owned())),
        }
    }

    /// All of the cell at that place of the plan, if it ended.
    pub fn cell_of(&self, number: usize) -> io::Result<Option<CellRecord>> {
        self.brief(number).map(|_| self.cell(number)).transpose()
    }

    /// All cells that ended, in plan order, one at a time.
    pub fn cells(&self) -> impl Iterator<Item = io::Result<CellRecord>> {
        self.ended().map(|number| self.cell(number))
    }

    /// How many cells ended how.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.briefs().for_each(|(_, brief)| totals.count(brief));
        totals
    }
}

impl Totals {
    /// Counts one cell.
    pub(crate) fn count(&mut self, brief: Option<&Brief>) {
        match brief {
            Some(brief) => *self.by_outcome.entry(brief.outcome).or_insert(0) += 1,
            None => self.not_run += 1,
        }
    }

    /// In one line.
    pub(crate) fn in_words(&self) -> String {
        let ended = self.by_outcome.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        let left = (self.not_run > 0).then(|| format!("{} not run", self.not_run));
        ended.chain(left).collect::<Vec<_>>().join(", ")
    }
}

/// `run.json`, for people too; see docs/run.schema.json.
pub fn json(record: &Record, to: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, &RunRecord { run: &record.run, cells: Cells(record) })?;
    to.write_all(b"\n")
}

/// The cells as a sequence of which there is one at a time.
struct Cells<'a>(&'a Record);

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(None)?;
        for cell in self.0.cells() {
            sequence.serialize_element(&cell.map_err(S::Error::custom)?)?;
        }
        sequence.end()
    }
}

/// An error if the record contradicts itself or the plan: a journal may come from anybody.
fn check(record: &CellRecord, planned: &PlannedCell) -> io::Result<()> {
    let other = (record.plan.key != planned.key || record.plan.expectation != planned.expectation)
        .then(|| "it is not as the run planned it".to_owned());
    match other.or_else(|| record.contradiction()) {
        Some(why) => Err(invalid(format!("the journal contradicts itself: {}: {why}", record.id))),
        None => Ok(()),
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{attempt, cells, record, record_of, try_again, try_written};
    use luqual_model::{Expectation, Finding, FindingKind, Status};

    #[test]
    fn run_json_has_the_run_and_its_cells_in_plan_order() {
        let mut shuffled = cells();
        shuffled.reverse();
        let written = |cells: Vec<CellRecord>| {
            let mut text = Vec::new();
            let record = Record { run: record().run, ..record_of(cells) };
            json(&record, &mut text).unwrap();
            serde_json::from_slice::<RunRecord>(&text).unwrap()
        };
        assert_eq!(written(cells()).cells, cells());
        assert_eq!(written(cells()).run, record().run);
        // The plan of `record_of` is the order in which the cells ended.
        assert_eq!(written(shuffled).cells.first(), cells().last());
    }

    /// The first sample, which survived, changed.
    fn changed(change: impl Fn(&mut CellRecord)) -> CellRecord {
        let mut cell = cells().remove(0);
        change(&mut cell);
        cell
    }

    /// Why a journal with that cell is refused.
    fn refused(cell: CellRecord) -> String {
        let read = try_written(vec![cells().remove(0).plan], vec![cell]);
        read.err().unwrap_or_else(|| panic!("it was read")).to_string()
    }

    #[test]
    fn a_journal_that_contradicts_itself_is_refused() {
        let said = |kind, text: &str| Finding { kind, text: text.into(), ..cells()[0].findings[0].clone() };
        for (cell, why) in [
            (changed(|cell| cell.probes[0].passed = false), "it survived, and the probe `memfd 64m content` failed"),
            (changed(|cell| cell.probes.clear()), "it survived, and has no probes"),
            (
                changed(|cell| cell.findings.push(said(FindingKind::Oops, "Oops: x"))),
                "it survived, and a kernel said: Oops: x",
            ),
            (
                changed(|cell| cell.findings.push(said(FindingKind::Warning, "WARNING: x"))),
                "it survived untainted, and a kernel said: WARNING: x",
            ),
            (
                changed(|cell| cell.attempts = vec![attempt(Outcome::Survived, false), attempt(Outcome::Lost, false)]),
                "it survived, and an attempt ended worse or none so",
            ),
            (changed(|cell| cell.plan.key.workload = "memfd.other".into()), "it is not as the run planned it"),
            (
                changed(|cell| {
                    cell.outcome = Outcome::Crashed;
                    cell.plan.expectation = Some(Expectation::of(Outcome::Crashed));
                }),
                "it is not as the run planned it",
            ),
        ] {
            let told = refused(cell);
            assert!(told.contains(why), "{told}; not {why}");
        }
    }

    #[test]
    fn only_a_failure_of_the_harness_can_be_taken_back() {
        let survived = changed(|_| {});
        let harness = changed(|cell| {
            cell.outcome = Outcome::HarnessFailed;
            cell.status = Status::Unexpected;
        });
        let record = try_again(harness, survived.clone()).unwrap();
        assert_eq!(record.totals().by_outcome, [(Outcome::Survived, 1)].into());
        for outcome in [Outcome::Lost, Outcome::Crashed, Outcome::Survived] {
            let first = changed(|cell| cell.outcome = outcome);
            let why = try_again(first, survived.clone()).err().unwrap().to_string();
            assert!(why.contains("runs again, and had not ended as harness-failed"), "{outcome}: {why}");
        }
    }

    #[test]
    fn a_status_is_derived_whatever_the_journal_says() {
        let read = |cell: CellRecord| try_written(vec![cell.plan.clone()], vec![cell]).unwrap();
        let status = |cell: CellRecord| {
            let record = read(cell);
            assert_eq!(record.cell(0).unwrap().status, record.brief(0).unwrap().status);
            record.brief(0).unwrap().status
        };
        for said in [Status::Expected, Status::Improvement, Status::Regression, Status::Unexpected, Status::Flaky] {
            assert_eq!(status(changed(|cell| cell.status = said)), Status::Expected);
            let crashed = changed(|cell| (cell.outcome, cell.status) = (Outcome::Crashed, said));
            assert_eq!(status(crashed.clone()), Status::Unexpected);
            let attempts = vec![attempt(Outcome::Crashed, false), attempt(Outcome::Survived, false)];
            assert_eq!(status(CellRecord { attempts, ..crashed }), Status::Flaky);
        }
        // Attempts that lost other things.
        let attempts = vec![attempt(Outcome::Lost, false), attempt(Outcome::Lost, false)];
        let lost = changed(|cell| (cell.outcome, cell.status) = (Outcome::Lost, Status::Flaky));
        assert_eq!(status(CellRecord { attempts, ..lost }), Status::Flaky);
    }

    #[test]
    fn counts_are_those_of_the_journal() {
        let totals = record().totals();
        assert_eq!((totals.by_outcome[&Outcome::Survived], totals.not_run), (2, 1));
        assert_eq!(record().left().count(), 1);
    }

    const SCHEMA: &str = include_str!("../../docs/run.schema.json");

    /// To make it anew: `LUQUAL_UPDATE_SCHEMA=1 cargo test -p luqual-reports schema`.
    #[test]
    fn the_schema_in_docs_is_that_of_the_record() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(RunRecord)).unwrap() + "\n";
        if std::env::var_os("LUQUAL_UPDATE_SCHEMA").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/run.schema.json"), &schema).unwrap();
        }
        assert!(schema == SCHEMA, "docs/run.schema.json is not that of the record; see above how to make it anew");
    }

    #[test]
    fn a_record_is_valid_by_its_schema_and_a_broken_one_is_not() {
        let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let mut text = Vec::new();
        json(&record(), &mut text).unwrap();
        let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        for name in ["id", "source", "target", "profile", "workload", "outcome", "status"] {
            assert!(value["cells"][0][name].is_string(), "{name}");
        }
        value["cells"][0]["outcome"] = "fine".into();
        assert!(!validator.is_valid(&value));
    }
}
