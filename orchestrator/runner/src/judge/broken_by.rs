//! The fault that breaks each probe, as docs/probes.md has it.

use super::owed::owed;
use luqual_model::matches;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

static LINES: LazyLock<Vec<BrokenBy>> = LazyLock::new(|| lines(include_str!("../../../../docs/probes.md")));

/// A line of docs/probes.md.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BrokenBy {
    /// Globs over the names of probes.
    pub probes: Vec<&'static str>,
    /// The fault that breaks them.
    pub fault: &'static str,
    /// Faults of the selftest that were seen to break one of them.
    pub seen: Vec<&'static str>,
}

impl BrokenBy {
    /// All lines of the page.
    pub fn all() -> &'static [Self] {
        &LINES
    }

    /// The line that says what breaks a probe: of those that match it the one with the most letters.
    pub fn find(probe: &str) -> Option<&'static Self> {
        let lengths = Self::all().iter().filter_map(|line| {
            let matching = line.probes.iter().filter(|glob| matches(glob, probe));
            Some((matching.map(|glob| letters(glob)).max()?, line))
        });
        lengths.max_by_key(|(length, _)| *length).map(|(_, line)| line)
    }

    /// What breaks the guest's probes of a workload: the names, by the fault.
    pub fn of_workload(workload: &str) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let mut faults: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for name in owed(workload).into_iter().flatten().flat_map(BTreeMap::into_keys) {
            if let Some(line) = Self::find(name) {
                faults.entry(line.fault).or_default().insert(name);
            }
        }
        faults
    }
}

/// The lines of the page's tables.
fn lines(page: &'static str) -> Vec<BrokenBy> {
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    let read = lines.filter_map(|line| {
        let mut cells = line.split('|').skip(1);
        let probes = in_backticks(cells.next()?);
        let fault = cells.next()?.trim();
        Some(BrokenBy { probes, fault, seen: in_backticks(cells.next()?) })
    });
    read.collect()
}

/// What stands between backticks.
fn in_backticks(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// How much of a name a glob fixes.
fn letters(glob: &str) -> usize {
    glob.chars().filter(|letter| *letter != '*').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_of_each_probe_that_a_workload_owes_what_breaks_it() {
        let mut decisive: BTreeSet<&str> = BTreeSet::new();
        for workload in luqual_protocol::workloads() {
            for name in owed(workload.name).unwrap().into_iter().flat_map(BTreeMap::into_keys) {
                let line = BrokenBy::find(name);
                let line = line.unwrap_or_else(|| panic!("{}: docs/probes.md has no `{name}`", workload.name));
                let globs = line.probes.iter().filter(|glob| matches(glob, name));
                decisive.extend(globs.max_by_key(|glob| letters(glob)).copied());
            }
        }
        let of_the_host = |glob: &str| glob.contains("host: ");
        for glob in BrokenBy::all().iter().flat_map(|line| &line.probes).filter(|glob| !of_the_host(glob)) {
            assert!(decisive.contains(*glob), "no workload owes a probe `{glob}` of docs/probes.md");
        }
    }

    #[test]
    fn each_line_has_a_fault_and_no_glob_stands_twice() {
        let globs: Vec<&str> = BrokenBy::all().iter().flat_map(|line| line.probes.iter().copied()).collect();
        assert!(globs.len() > 200);
        assert_eq!(globs.iter().collect::<BTreeSet<_>>().len(), globs.len());
        assert!(BrokenBy::all().iter().all(|line| line.fault.len() > 20));
        assert_eq!(BrokenBy::find("nothing of the kind"), None);
        assert_eq!(BrokenBy::find("memfd 1 content").unwrap().seen[0], "memory.first-byte");
    }
}
