//! The faults, each with what has to come of it. A new fault is one entry in one of the lists.

mod devices;
mod kernels;
mod memory;

use super::fault::SelftestFault;

/// All faults, those that take longest first.
pub(super) fn all() -> impl Iterator<Item = &'static SelftestFault> {
    [devices::FAULTS, kernels::FAULTS, memory::FAULTS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::fault::Injection;
    use super::*;
    use luqual_runner::{BrokenBy, Fault};
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn each_fault_can_be_injected_and_none_that_harms_survives() {
        let names: BTreeSet<&str> = all().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all().count(), "names are unique");
        for fault in all() {
            assert!(luqual_protocol::find_workload(fault.workload).is_some(), "{}", fault.workload);
            assert_eq!(fault.is_control(), fault.kind() == "control", "{}", fault.name);
            if let Injection::Boot(inject) = fault.injection {
                assert_eq!(inject.parse::<Fault>().map(|it| it.to_string()), Ok(inject.to_owned()));
            }
        }
    }

    #[test]
    fn docs_probes_names_faults_that_break_the_probes_of_its_lines() {
        let mut broken: BTreeMap<&BrokenBy, BTreeSet<&str>> = BTreeMap::new();
        for (fault, probe) in all().flat_map(|fault| fault.expected.probes.iter().map(move |probe| (fault, probe))) {
            let line = BrokenBy::find(probe).unwrap_or_else(|| panic!("docs/probes.md has no `{probe}`"));
            broken.entry(line).or_default().insert(fault.name);
        }
        for line in BrokenBy::all() {
            let by = broken.remove(line).unwrap_or_default();
            assert!(line.seen.iter().all(|name| by.contains(name)), "{line:?} is broken by {by:?}");
            assert_eq!(line.seen.is_empty(), by.is_empty(), "{line:?} is broken by {by:?}");
        }
    }

    #[test]
    fn there_are_forty_real_boots_and_more_and_each_kind_is_there() {
        let boots = all().filter(|fault| !fault.is_control() && matches!(fault.injection, Injection::Boot(_)));
        assert!(boots.count() >= 40);
        let kinds: BTreeSet<&str> = all().map(SelftestFault::kind).collect();
        let wanted = [
            "agent",
            "clock",
            "control",
            "device",
            "intermediate",
            "kernel",
            "log",
            "machine",
            "memory",
            "names",
            "offset",
            "qemu",
            "run",
            "seals",
            "sessions",
            "size",
            "taint",
            "tokens",
            "witness",
        ];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), wanted);
    }
}
