//! The probes that each workload owes. A guest that leaves one out, or makes one up, is not luqual's agent, and its
//! survival is nobody's word.

use luqual_model::{Observer, Probe};
use std::collections::BTreeMap;

/// The probes of every workload over a whole update, as `luqual` saw them on released kernels; those of
/// `vfio.*.preserved*`, which no released kernel keeps, as the code makes them. A block has the name of
/// a workload in brackets, and a probe in each line; a probe that comes several times has its number in front, as in
/// `3 × memfd late content`. Where kernels differ, a workload has several blocks, and any of them will do. The host's
/// own probes are not in it. CONTRIBUTING.md says how a block is made.
const TABLE: &str = include_str!("owed.txt");

/// How often each probe comes, by name.
pub(crate) type Owed<'a> = BTreeMap<&'a str, usize>;

/// What the workload owes: each alternative; none for a workload that no kernel has ever kept to the end. `None` for a
/// program of somebody else, of which luqual knows nothing.
pub(crate) fn owed(workload: &str) -> Option<Vec<Owed<'static>>> {
    luqual_protocol::find_workload(workload)?;
    Some(blocks(TABLE).filter(|(name, _)| *name == workload).map(|(_, owed)| owed).collect())
}

/// The blocks of a table.
fn blocks(table: &str) -> impl Iterator<Item = (&str, Owed<'_>)> {
    table.split("\n[").skip(1).filter_map(|block| {
        let (name, lines) = block.split_once("]\n")?;
        Some((name, lines.lines().filter(|line| !line.is_empty()).map(counted).collect()))
    })
}

/// A line of a block: a name, and how often it comes.
fn counted(line: &str) -> (&str, usize) {
    let counted = line.split_once(" × ").and_then(|(count, name)| Some((name, count.parse().ok()?)));
    counted.unwrap_or((line, 1))
}

/// What the guest told, as an alternative of the table.
fn told(probes: &[Probe]) -> Owed<'_> {
    let mut told = Owed::new();
    for probe in probes.iter().filter(|probe| probe.observer() == Observer::Guest) {
        *told.entry(probe.name.as_str()).or_default() += 1;
    }
    told
}

/// What is missing of the probes that a workload owes, or what nobody asked for; `None` if it is one of the
/// alternatives.
pub(crate) fn mismatch(alternatives: &[Owed<'_>], probes: &[Probe]) -> Option<String> {
    let told = told(probes);
    let all = alternatives.iter().map(|owed| Difference::of(owed, &told));
    // The alternative that is nearest is the one that was meant.
    let Some(nearest) = all.min_by_key(|it| it.missing.len() + it.unknown.len()) else {
        return Some("no kernel was ever seen to keep this, so that owed.txt has no probes of it".to_owned());
    };
    let parts = [("missing", nearest.missing), ("unknown", nearest.unknown)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<String> = parts.map(|(what, names)| format!("{what}: {}", first_of(names))).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How what a guest told differs from what it owes.
struct Difference<'a> {
    missing: Vec<&'a str>,
    unknown: Vec<&'a str>,
}

impl<'a> Difference<'a> {
    fn of(owed: &Owed<'a>, told: &Owed<'a>) -> Self {
        let missing = owed.iter().filter(|(name, count)| told.get(*name) < Some(*count)).map(|(name, _)| *name);
        let unknown = told.keys().filter(|name| !owed.contains_key(*name)).copied();
        Self { missing: missing.collect(), unknown: unknown.collect() }
    }
}

/// The first names, and how many more there are.
fn first_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// How many names a message has.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The target is told to take nothing over, or cannot be loaded at all.
    const NEVER_KEPT: [&str; 3] = ["kexec.kho-off", "kexec.liveupdate-off", "kexec.scratch-too-small"];

    fn probes(names: &[&str]) -> Vec<Probe> {
        let probe = |name: &&str| Probe {
            name: (*name).to_owned(),
            expected: "a".to_owned(),
            observed: "a".to_owned(),
            passed: true,
        };
        names.iter().map(probe).collect()
    }

    #[test]
    fn every_workload_owes_probes() {
        for workload in luqual_protocol::workloads() {
            let alternatives = owed(workload.name).unwrap();
            let is_kept = !NEVER_KEPT.iter().any(|start| workload.name.starts_with(start));
            assert_eq!(!alternatives.is_empty(), is_kept, "{}", workload.name);
            assert!(alternatives.iter().all(|owed| !owed.is_empty()), "{}", workload.name);
        }
        for (name, _) in blocks(TABLE) {
            assert!(luqual_protocol::find_workload(name).is_some(), "{name} is no workload");
        }
        assert_eq!(owed("external.somebodys"), None);
        assert!(mismatch(&owed("kexec.kho-off").unwrap(), &probes(&["memfd 1 content"])).is_some());
    }

    #[test]
    fn a_probe_that_is_missing_or_made_up_is_noticed() {
        let alternatives: Vec<_> = blocks("head\n\n[a.b]\none\n2 × two\n\n[a.b]\none\nthree\n").collect();
        assert!(alternatives.iter().all(|(name, _)| *name == "a.b"));
        let alternatives: Vec<_> = alternatives.into_iter().map(|(_, owed)| owed).collect();
        for (told, said) in [
            (&["one", "two", "two"][..], None),
            (&["two", "one", "two", "D2 host: x"], None),
            (&["one", "three"], None),
            // More of the same does no harm.
            (&["one", "one", "two", "two", "two"], None),
            (&["one", "two"], Some("missing: two")),
            (&["one", "two", "two", "four"], Some("unknown: four")),
            (&["one", "five"], Some("missing: two; unknown: five")),
            (&["forged"], Some("missing: one, two; unknown: forged")),
            (&[], Some("missing: one, two")),
            // The host's probes do not stand for the guest's.
            (&["D2 host: one", "two", "two"], Some("missing: one")),
        ] {
            assert_eq!(mismatch(&alternatives, &probes(told)).as_deref(), said, "{told:?}");
        }
        let many: Owed<'_> = ["a", "b", "c", "d", "e"].into_iter().map(|name| (name, 1)).collect();
        assert_eq!(mismatch(&[many], &[]).as_deref(), Some("missing: a, b, c and 2 more"));
    }
}
