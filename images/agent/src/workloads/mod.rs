//! The workloads: a module for each family, a [`Case`] for each workload. The tables of `luqual_protocol` say what each asserts.

mod case;
mod context;
mod error;
mod manifest;
mod memory;

mod broker;
mod external;
mod kexec;
mod lifecycle;
mod luo;
mod memfd;
mod pci;
mod scale;
mod vfio;
mod vmm;

pub(crate) use context::{Context, before_retrieve};
pub(crate) use error::StepError;

use case::Case;
use luqual_protocol::Item;

const FAMILIES: [&[Case]; 15] = [
    broker::CASES,
    kexec::CASES,
    lifecycle::CASES,
    luo::preserve::CASES,
    luo::race::CASES,
    luo::request::CASES,
    luo::retrieve::CASES,
    luo::session::CASES,
    memfd::cgroup::CASES,
    memfd::content::CASES,
    memfd::memory::CASES,
    memfd::property::CASES,
    pci::CASES,
    scale::CASES,
    vmm::CASES,
];

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Case> {
    let known = FAMILIES.into_iter().flatten().find(|case| case.name == name);
    known.or_else(|| vfio::case(name)).or_else(|| external::case(name))
}

/// Corrupts a part of a virtual machine's saved state, for a fault that is injected on purpose.
pub(crate) fn corrupt(context: &mut Context, item: Item) -> Result<(), StepError> {
    vmm::corrupt(context, item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_workload_of_the_table_has_a_case() {
        let table: BTreeSet<&str> = luqual_protocol::workloads().map(|workload| workload.name).collect();
        let of_devices = table.iter().filter_map(|name| vfio::case(name));
        let cases: Vec<&str> = FAMILIES.into_iter().flatten().chain(of_devices).map(|case| case.name).collect();
        assert_eq!(
            table.iter().copied().collect::<Vec<_>>(),
            cases.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(table.len(), cases.len(), "one is there twice");
    }

    #[test]
    fn kept_memfds_have_names_and_tokens_of_their_own() {
        for case in FAMILIES.into_iter().flatten() {
            let places: BTreeSet<_> = case.kept.iter().map(|kept| (kept.session, kept.token)).collect();
            let names: BTreeSet<_> = case.kept.iter().map(|kept| kept.memfd.name).collect();
            assert_eq!((places.len(), names.len()), (case.kept.len(), case.kept.len()), "{}", case.name);
            assert!(!case.kept.is_empty(), "{} keeps nothing: a kernel that loses all would pass", case.name);
            for kept in case.kept {
                assert!(case.name.len() + 1 + kept.session.len() < 64, "{}", case.name);
            }
        }
    }
}
