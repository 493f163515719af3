//! The parts of a run, as one run.

use crate::journal::write_journal;
use crate::record::Record;
use luqual_model::{KernelInfo, OutcomeSettings, Partition, Profile, ProgramInfo, RunInfo};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Several parts that are one run.
pub struct Merged<'a> {
    parts: Vec<&'a Record>,
    /// The whole. It took as long as its longest part.
    pub run: RunInfo,
    /// Of each cell of the plan: whose it is, and its place there.
    places: Vec<(usize, usize)>,
}

impl<'a> Merged<'a> {
    /// Joins them, in whatever order; or why they are not the parts of one run. The whole has an id only when it is
    /// given one.
    pub fn of(records: &'a [Record], command: Vec<String>) -> Result<Self, String> {
        let mut parts: Vec<(&Partition, &Record)> = Vec::new();
        for record in records {
            let partition = record.run.partition.as_ref();
            parts.push((partition.ok_or_else(|| format!("{} is not a part of a run", record.name))?, record));
        }
        parts.sort_by_key(|(partition, _)| partition.number);
        let Some(&(first, one)) = parts.first() else { return Err("there is nothing to merge".to_owned()) };
        for (number, part) in (1..=first.of).zip(parts.iter().map(Some).chain(std::iter::repeat(None))) {
            if part.is_none_or(|(partition, _)| partition.number > number) {
                return Err(format!("part {number} of {} is missing", first.of));
            }
        }
        for pair in parts.windows(2) {
            if let [(a, x), (b, y)] = pair
                && a.number == b.number
            {
                return Err(format!("{} and {} are both part {} of {}", x.name, y.name, a.number, a.of));
            }
        }
        let mut known = Definitions::default();
        for (partition, record) in &parts {
            are_of_one_run(one, record)?;
            known.take(record)?;
            if (partition.of, partition.cells, &partition.selection) != (first.of, first.cells, &first.selection) {
                return Err(format!("{} and {} are parts of different selections", record.name, one.name));
            }
        }
        if parts.iter().map(|(partition, _)| partition.places.len()).sum::<usize>() != first.cells {
            return Err(NOT_ALL.to_owned());
        }
        let mut places = vec![None; first.cells];
        for (whose, (partition, record)) in parts.iter().enumerate() {
            if partition.places.len() != record.run.planned.len() {
                return Err(format!("{} does not have the cells of its part", record.name));
            }
            for (own, place) in partition.places.iter().enumerate() {
                let taken = places.get_mut(*place).map(|slot: &mut Option<_>| slot.replace((whose, own)));
                if taken != Some(None) {
                    return Err(format!("{} has a cell of another part", record.name));
                }
            }
        }
        let places: Vec<(usize, usize)> = places.into_iter().collect::<Option<_>>().ok_or(NOT_ALL)?;
        let parts: Vec<&Record> = parts.into_iter().map(|(_, record)| record).collect();
        let runs = || parts.iter().map(|part| &part.run);
        let mut run = one.run.clone();
        (run.id, run.command, run.partition) = (String::new(), command, None);
        run.started = runs().map(|run| run.started.clone()).min().unwrap_or_default();
        run.duration_us =
            runs().map(|run| run.duration_us).collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().max());
        run.interrupted = runs().any(|run| run.interrupted);
        run.kernels = runs().flat_map(|run| run.kernels.clone()).collect();
        run.programs = runs().flat_map(|run| run.programs.clone()).collect();
        run.machines = runs().flat_map(|run| run.machines.clone()).collect();
        run.planned = places.iter().map(|(whose, own)| parts[*whose].run.planned[*own].clone()).collect();
        Ok(Self { parts, run, places })
    }

    /// Its journal: the run, each cell that ended, and the end.
    pub fn journal(&self, to: &mut dyn Write) -> io::Result<()> {
        let cells = self.places.iter().filter_map(|(whose, own)| self.parts[*whose].cell_of(*own).transpose());
        write_journal(&self.run, cells, to)
    }
}

/// Checks that two parts have the same luqual and settings. Their hosts may differ.
fn are_of_one_run(one: &Record, other: &Record) -> Result<(), String> {
    let differ = |what: &str| Err(format!("{} and {} differ in {what}", one.name, other.name));
    let (a, b) = (&one.run, &other.run);
    if a.tool != b.tool {
        return differ("the version of luqual");
    }
    if (a.settings.seed, a.settings.outcome_settings()) != (b.settings.seed, b.settings.outcome_settings()) {
        return differ(&format!("settings: {}", OutcomeSettings::WORDS));
    }
    Ok(())
}

const NOT_ALL: &str = "the parts do not cover all cells";

/// The kernels, programs and machines that the parts name, each as in the first part that names it.
#[derive(Default)]
struct Definitions<'a> {
    kernels: BTreeMap<&'a str, (&'a KernelInfo, &'a Record)>,
    programs: BTreeMap<&'a str, (&'a ProgramInfo, &'a Record)>,
    machines: BTreeMap<&'a str, (&'a Profile, &'a Record)>,
}

impl<'a> Definitions<'a> {
    /// Adds those of a part. An error if the part has another kernel, program or machine by a known name.
    fn take(&mut self, record: &'a Record) -> Result<(), String> {
        let run = &record.run;
        take_each(&mut self.kernels, &run.kernels, record, "kernel", KernelInfo::boots_as)?;
        take_each(&mut self.programs, &run.programs, record, "program", ProgramInfo::runs_as)?;
        take_each(&mut self.machines, &run.machines, record, "machine", Profile::eq)
    }
}

/// Adds what a part has of one kind.
fn take_each<'a, T>(
    known: &mut BTreeMap<&'a str, (&'a T, &'a Record)>,
    own: &'a BTreeMap<String, T>,
    record: &'a Record,
    kind: &str,
    is_same: fn(&T, &T) -> bool,
) -> Result<(), String> {
    for (name, own) in own {
        let (first, whose) = *known.entry(name).or_insert((own, record));
        if !is_same(first, own) {
            return Err(format!("{} and {} differ in {kind} {name}", whose.name, record.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, machine, record_of};
    use luqual_model::Outcome;

    fn part(number: u32, of: u32, places: &[usize]) -> Record {
        let names = ["a", "b", "c", "d", "e"];
        let cells = places.iter().map(|place| cell(names[*place], "z", Outcome::Survived, "")).collect();
        let mut record = record_of(cells);
        record.run.partition =
            Some(Partition { number, of, cells: 5, places: places.to_vec(), selection: "all".into() });
        record.name = format!("part-{number}");
        record.run.machines.insert("q35-intel".into(), machine("q35-intel"));
        record
    }

    fn refused(records: &[Record]) -> String {
        Merged::of(records, Vec::new()).err().unwrap_or_default()
    }

    #[test]
    fn parts_are_the_run_that_they_are_parts_of() {
        let records = [part(3, 3, &[2]), part(1, 3, &[0, 3]), part(2, 3, &[1, 4])];
        let mut merged = Merged::of(&records, Vec::new()).unwrap();
        merged.run.id = "whole".into();
        let sources: Vec<&str> = merged.run.planned.iter().map(|planned| planned.key.source.as_str()).collect();
        assert_eq!(sources, ["a", "b", "c", "d", "e"]);
        let mut file = tempfile::tempfile().unwrap();
        merged.journal(&mut file).unwrap();
        use std::io::Seek;
        file.rewind().unwrap();
        let read = Record::read(file).unwrap();
        assert_eq!((read.run.id.as_str(), read.run.partition.is_none()), ("whole", true));
        let ended: Vec<String> = read.cells().map(|cell| cell.unwrap().plan.key.source).collect();
        assert_eq!(ended, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn what_is_not_all_of_one_run_is_refused() {
        let all = || [part(1, 3, &[0, 3]), part(2, 3, &[1, 4]), part(3, 3, &[2])];
        let [one, two, three] = all();
        assert_eq!(refused(&[]), "there is nothing to merge");
        assert_eq!(refused(&[one, three]), "part 2 of 3 is missing");
        assert_eq!(refused(&[two]), "part 1 of 3 is missing");
        let [one, two, _] = all();
        assert_eq!(refused(&[one, two]), "part 3 of 3 is missing");
        let ([one, two, three], [again, ..]) = (all(), all());
        assert_eq!(refused(&[one, again, two, three]), "part-1 and part-1 are both part 1 of 3");
        assert_eq!(
            refused(&[record_of(vec![])]),
            "run is not a part of a run".replace("run is", &format!("{} is", record_of(vec![]).name))
        );
        let change = |change: fn(&mut RunInfo)| {
            let mut records = all();
            change(&mut records[1].run);
            refused(&records)
        };
        assert!(change(|run| run.tool.push('x')).ends_with("differ in the version of luqual"));
        assert!(change(|run| run.settings.seed += 1).contains("settings: seed"));
        assert!(
            change(|run| run.machines.get_mut("q35-intel").unwrap().memory_mib = 8192).ends_with("machine q35-intel")
        );
        assert_eq!(
            change(|run| run.partition.as_mut().unwrap().cells = 6),
            "part-2 and part-1 are parts of different selections"
        );
        assert_eq!(
            change(|run| run.partition.as_mut().unwrap().selection.push('x')),
            "part-2 and part-1 are parts of different selections"
        );
        assert_eq!(
            change(|run| run.partition.as_mut().unwrap().places = vec![0, 4]),
            "part-2 has a cell of another part"
        );
        assert_eq!(change(|run| run.partition.as_mut().unwrap().places = vec![1]), "the parts do not cover all cells");
        assert_eq!(change(|run| drop(run.planned.pop())), "part-2 does not have the cells of its part");
        let mut huge = all();
        huge.iter_mut().for_each(|part| part.run.partition.as_mut().unwrap().cells = usize::MAX);
        assert_eq!(refused(&huge), "the parts do not cover all cells");
    }

    #[test]
    fn a_name_means_the_same_in_all_parts_though_the_first_has_it_not() {
        let kernel = |digest: &str| KernelInfo { image_sha256: digest.into(), ..KernelInfo::default() };
        let with = |second: &str, third: &str| {
            let mut all = [part(1, 3, &[0, 3]), part(2, 3, &[1, 4]), part(3, 3, &[2])];
            all[1].run.kernels.insert("k".into(), kernel(second));
            all[2].run.kernels.insert("k".into(), kernel(third));
            refused(&all)
        };
        assert_eq!((with("1", "1"), with("1", "2")), (String::new(), "part-2 and part-3 differ in kernel k".into()));
        let program = |digest: &str| {
            let file = luqual_model::ProgramFile::Here { path: "/p".into(), sha256: digest.into() };
            ProgramInfo { asserts: String::new(), origin: String::new(), shares_boot: false, file }
        };
        let mut all = [part(1, 3, &[0, 3]), part(2, 3, &[1, 4]), part(3, 3, &[2])];
        for (place, digest) in [(0, "1"), (1, "1"), (2, "2")] {
            all[place].run.programs.insert("external.x".into(), program(digest));
        }
        assert_eq!(refused(&all), "part-1 and part-3 differ in program external.x");
    }
}
