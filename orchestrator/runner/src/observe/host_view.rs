//! The host view of a device: probes from QEMU's trace, the guest's memory and `query-pci`, and their comparison with
//! the guest's probes. Pure.

use luqual_model::{Level, Probe};
use luqual_vm::{Happened, PciFunction, Traced};

/// The host's observations of one device over an update. Times are in microseconds since the boot's start.
pub(crate) struct DeviceFacts<'a> {
    /// QEMU's name of the device type.
    pub(crate) qemu_type: &'a str,
    /// The PCI function in the source.
    pub(crate) before: &'a PciFunction,
    /// The PCI function in the target, if it exists.
    pub(crate) after: Option<&'a PciFunction>,
    /// When it was preserved.
    pub(crate) left_us: u64,
    /// When the target's agent was told to open it again.
    pub(crate) taken_us: u64,
    /// When the agent had opened it.
    pub(crate) held_us: u64,
    /// Whether it was unplugged in the source.
    pub(crate) is_unplugged: bool,
    /// Whether an IOMMU translates, and so reports, its accesses.
    pub(crate) is_translated: bool,
    /// Whether it had DMA under way at the update.
    pub(crate) is_busy: bool,
    /// Whether it is a control: the host has to see its DMA in the blackout.
    pub(crate) is_control: bool,
    /// The page that it writes repeatedly, if there is one.
    pub(crate) busy: Option<Busy>,
    /// The pages that must not be written and have changed; `None` if they were not compared.
    pub(crate) changed_pages: Option<Vec<u64>>,
}

/// The host's observations of the page that a busy device writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// When its last change was seen.
    pub(crate) last_change_us: u64,
    /// When the source's last tick was seen.
    pub(crate) last_tick_us: u64,
}

/// A change this much later than the last tick was written after it: both are polled each millisecond.
const LATER_US: u64 = 5000;

/// The host's probes. If the guest's probes of the same level say the opposite, the observed value mentions it.
pub(crate) fn probes(facts: &DeviceFacts<'_>, traced: &[Traced], guest: &[Probe]) -> Vec<Probe> {
    let address = facts.before.address;
    let within = |from: u64, to: u64| traced.iter().filter(move |event| (from..to).contains(&event.at_us));
    let resets = |from, to| {
        within(from, to)
            .filter(|event| matches!(&event.what, Happened::Reset { qemu_type } if qemu_type == facts.qemu_type))
            .map(|event| event.at_us)
            .collect::<Vec<u64>>()
    };
    let faults: Vec<u64> = within(facts.left_us, facts.taken_us)
        .filter_map(|event| match event.what {
            Happened::Fault { address: by, iova } if by.is_none_or(|by| by == address) => Some(iova),
            _ => None,
        })
        .collect();

    let expected = Some(facts.before).filter(|_| !facts.is_unplugged);
    let mut probes = vec![compare("D0 host: place", place(expected), place(facts.after))];
    if facts.is_translated {
        probes.push(none("D2 host: IOMMU faults", &faults, |iova| format!("first at {iova:#x}")));
    }
    if facts.is_translated && !facts.is_busy {
        let reached: Vec<u64> = within(facts.left_us, facts.taken_us)
            .filter_map(|event| match event.what {
                Happened::Translated { address: by, physical, .. } if by == address => Some(physical),
                _ => None,
            })
            .collect();
        probes.push(none("D2 host: DMA of an idle device", &reached, |at| format!("first at {at:#x}")));
    }
    if let Some(changed) = &facts.changed_pages {
        let pages: Vec<String> = changed.iter().map(u64::to_string).collect();
        let observed = if pages.is_empty() { UNCHANGED.to_owned() } else { format!("changed: {}", pages.join(", ")) };
        probes.push(compare("D2 host: preserved pages", UNCHANGED, observed));
    }
    let since = |at: u64| format!("first {} ms after the handover", at.saturating_sub(facts.left_us) / 1000);
    probes.push(none("D3 host: resets before the open", &resets(facts.left_us, facts.taken_us), since));
    probes.push(none("D3 host: resets by the open", &resets(facts.taken_us, facts.held_us), since));
    if let Some(Busy { last_change_us, last_tick_us }) = facts.busy {
        let is_later = last_change_us > last_tick_us + LATER_US;
        let observed = if is_later { "went on" } else { "ended with the source" };
        let name = if facts.is_control { "control host: DMA in the blackout" } else { "D5 host: DMA in the blackout" };
        probes.push(compare(name, "went on", observed));
    }
    probes.into_iter().map(|probe| beside(probe, guest)).collect()
}

/// Compares the digest of what the guest wrote through a device with the host's file behind it.
pub(crate) fn file(written: &str, found: &str) -> Probe {
    let observed = if written == found { ARRIVED } else { "another content" };
    compare("D1 host: file behind the device", ARRIVED, observed)
}

/// Fails the guest's probe of DMA under way unless the host saw the DMA too: a fast device may finish all writes
/// before the source records them.
pub(crate) fn overrule(guest: &mut [Probe], host: &[Probe]) {
    let is_of = |probe: &Probe| probe.level() == Some(Level::D5);
    if host.iter().any(|probe| is_of(probe) && !probe.passed) {
        for probe in guest.iter_mut().filter(|probe| is_of(probe) && probe.passed) {
            probe.passed = false;
            probe.observed.push_str("; the host observed nothing of it");
        }
    }
}

const ARRIVED: &str = "what was written";
const UNCHANGED: &str = "unchanged";

fn compare(name: &str, expected: impl ToString, observed: impl ToString) -> Probe {
    let (expected, observed) = (expected.to_string(), observed.to_string());
    let passed = expected == observed;
    Probe { name: name.to_owned(), expected, observed, passed }
}

fn none<T: Copy>(name: &str, found: &[T], first: impl Fn(T) -> String) -> Probe {
    const NONE: &str = "none";
    compare(name, NONE, found.first().map_or(NONE.to_owned(), |one| format!("{}, {}", found.len(), first(*one))))
}

fn place(function: Option<&PciFunction>) -> String {
    let Some(PciFunction { address, bars, .. }) = function else { return "not there".to_owned() };
    let bars = bars.iter().map(|(number, at)| format!(" BAR {number} {at:#x}"));
    format!("{address}{}", bars.collect::<String>())
}

/// Adds to `probe` that the guest's probes of that level say the opposite, if they do.
fn beside(mut probe: Probe, guest: &[Probe]) -> Probe {
    let level = |name: &str| name.split(' ').next().map(str::to_owned);
    let of_guest: Vec<&Probe> = guest.iter().filter(|it| level(&it.name) == level(&probe.name)).collect();
    let differs = match probe.passed {
        true => of_guest.iter().all(|it| !it.passed).then_some("; the guest's probes of this level failed"),
        false => of_guest.iter().all(|it| it.passed).then_some("; the guest's probes of this level passed"),
    };
    if let Some(differs) = differs.filter(|_| !of_guest.is_empty()) {
        probe.observed.push_str(differs);
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_vm::PciAddress;

    const NVME: PciAddress = PciAddress { bus: 0, slot: 7, function: 0 };

    fn function(at: u64) -> PciFunction {
        PciFunction { id: "nvme".into(), address: NVME, behind: None, bars: vec![(0, at)] }
    }

    fn at(at_us: u64, what: Happened) -> Traced {
        Traced { at_us, what }
    }

    fn reset(qemu_type: &str) -> Happened {
        Happened::Reset { qemu_type: qemu_type.into() }
    }

    fn probe(name: &str, passed: bool) -> Probe {
        Probe { name: name.into(), expected: "x".into(), observed: if passed { "x" } else { "y" }.into(), passed }
    }

    /// The names of the probes that do not hold, with what was observed.
    fn failed(facts: &DeviceFacts<'_>, traced: &[Traced], guest: &[Probe]) -> Vec<String> {
        let probes = probes(facts, traced, guest);
        probes.into_iter().filter(|it| !it.passed).map(|it| format!("{}: {}", it.name, it.observed)).collect()
    }

    fn quiet<'a>(before: &'a PciFunction, after: Option<&'a PciFunction>) -> DeviceFacts<'a> {
        DeviceFacts {
            qemu_type: "nvme",
            before,
            after,
            left_us: 1000,
            taken_us: 2000,
            held_us: 3000,
            is_unplugged: false,
            is_translated: true,
            is_busy: false,
            is_control: false,
            busy: None,
            changed_pages: Some(Vec::new()),
        }
    }

    #[test]
    fn what_happened_outside_of_the_update_or_to_others_is_nothing() {
        let there = function(0xfe00_0000);
        let other = PciAddress { slot: 8, ..NVME };
        let traced = [
            at(999, reset("nvme")),
            at(1500, reset("edu")),
            at(1500, Happened::Fault { address: Some(other), iova: 1 }),
            at(1500, Happened::Translated { address: other, iova: 1, physical: 1 }),
            at(2500, Happened::Translated { address: NVME, iova: 1, physical: 1 }),
            at(2500, Happened::Fault { address: Some(NVME), iova: 1 }),
            at(3000, reset("nvme")),
        ];
        assert_eq!(failed(&quiet(&there, Some(&there)), &traced, &[]), [""; 0]);
    }

    #[test]
    fn each_thing_that_happens_to_it_is_found_at_its_level() {
        let (there, elsewhere) = (function(0xfe00_0000), function(0xfa00_0000));
        let traced = [
            at(1500, Happened::Fault { address: None, iova: 0x1000 }),
            at(1600, Happened::Translated { address: NVME, iova: 1, physical: 0x2000 }),
            at(1700, reset("nvme")),
            at(2500, reset("nvme")),
        ];
        let facts = DeviceFacts { changed_pages: Some(vec![3, 9]), ..quiet(&there, Some(&elsewhere)) };
        assert_eq!(
            failed(&facts, &traced, &[probe("D2 canaries", true), probe("D3 registers", false)]),
            [
                "D0 host: place: 0000:00:07.0 BAR 0 0xfa000000",
                "D2 host: IOMMU faults: 1, first at 0x1000; the guest's probes of this level passed",
                "D2 host: DMA of an idle device: 1, first at 0x2000; the guest's probes of this level passed",
                "D2 host: preserved pages: changed: 3, 9; the guest's probes of this level passed",
                "D3 host: resets before the open: 1, first 0 ms after the handover",
                "D3 host: resets by the open: 1, first 1 ms after the handover",
            ]
        );
        assert_eq!(failed(&quiet(&there, None), &[], &[]), ["D0 host: place: not there"]);
        let unplugged = DeviceFacts { is_unplugged: true, ..quiet(&there, None) };
        assert_eq!(failed(&unplugged, &[], &[]), [""; 0]);
    }

    #[test]
    fn dma_goes_on_only_where_the_host_has_seen_it() {
        let there = function(0xfe00_0000);
        let with = |last_change_us, is_control| DeviceFacts {
            is_busy: true,
            is_control,
            busy: Some(Busy { last_change_us, last_tick_us: 10_000 }),
            ..quiet(&there, Some(&there))
        };
        assert_eq!(failed(&with(15_001, false), &[], &[]), [""; 0]);
        let ended = probes(&with(15_000, false), &[], &[]);
        assert!(ended.iter().any(|it| it.name == "D5 host: DMA in the blackout" && !it.passed));
        assert_eq!(failed(&with(0, true), &[], &[]), ["control host: DMA in the blackout: ended with the source"]);
        let mut guest = [probe("D5 DMA under way", true), probe("D2 canaries", true)];
        overrule(&mut guest, &probes(&with(20_000, false), &[], &[]));
        assert!(guest.iter().all(|it| it.passed));
        overrule(&mut guest, &ended);
        assert_eq!((guest[0].passed, guest[0].observed.as_str()), (false, "x; the host observed nothing of it"));
        assert!(guest[1].passed);
    }

    #[test]
    fn a_file_that_has_not_what_was_written_is_told() {
        assert!(file("af63dc4c8601ec8c", "af63dc4c8601ec8c").passed);
        let Probe { passed, observed, name, .. } = file("af63dc4c8601ec8c", "cbf29ce484222325");
        assert_eq!((passed, &*observed, &*name), (false, "another content", "D1 host: file behind the device"));
    }
}
