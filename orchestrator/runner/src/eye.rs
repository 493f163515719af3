//! What the host saw of a device, beside what the guest says of it. Pure: from QEMU's trace events, the guest's memory and
//! `query-pci` to probes.

use luqual_model::Probe;
use luqual_vm::{Happened, PciFunction, Traced};

/// What is known of one device over an update. Times are in microseconds since the boot's start.
pub(crate) struct Seen<'a> {
    /// QEMU's type of it.
    pub(crate) qemu_type: &'a str,
    /// As the source had it.
    pub(crate) before: &'a PciFunction,
    /// As the target has it, if it is there.
    pub(crate) after: Option<&'a PciFunction>,
    /// When it was left to the update.
    pub(crate) left_us: u64,
    /// When the target's agent was told to take it again.
    pub(crate) taken_us: u64,
    /// When it had taken it.
    pub(crate) held_us: u64,
    /// Whether it was unplugged in the source.
    pub(crate) is_unplugged: bool,
    /// Whether an IOMMU tells of its accesses.
    pub(crate) is_translated: bool,
    /// Whether it was busy when the update came.
    pub(crate) is_busy: bool,
    /// Whether it is a control: its DMA in the blackout has to be seen.
    pub(crate) is_control: bool,
    /// The page that it writes over and over, if there is one.
    pub(crate) busy: Option<Busy>,
    /// The pages of its memory that nobody should have written, of which the host found others.
    pub(crate) changed_pages: Option<Vec<u64>>,
}

/// What the host saw of the page that a busy device writes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// When it last changed.
    pub(crate) last_change_us: u64,
    /// The source's last tick.
    pub(crate) last_tick_us: u64,
}

/// The host's probes. Where what they say is not what the guest's of the same level say, they tell it.
pub(crate) fn probes(seen: &Seen<'_>, traced: &[Traced], guest: &[Probe]) -> Vec<Probe> {
    let address = seen.before.address;
    let within = |from: u64, to: u64| traced.iter().filter(move |event| (from..to).contains(&event.at_us));
    let resets = |from, to| {
        within(from, to)
            .filter(|event| matches!(&event.what, Happened::Reset { qemu_type } if qemu_type == seen.qemu_type))
            .map(|event| event.at_us)
            .collect::<Vec<u64>>()
    };
    let faults: Vec<u64> = within(seen.left_us, seen.taken_us)
        .filter_map(|event| match event.what {
            Happened::Fault { address: by, iova } if by.is_none_or(|by| by == address) => Some(iova),
            _ => None,
        })
        .collect();

    let expected = Some(seen.before).filter(|_| !seen.is_unplugged);
    let mut probes = vec![compare("D0 host: place", place(expected), place(seen.after))];
    if seen.is_translated {
        probes.push(none("D2 host: IOMMU faults", &faults, |iova| format!("first at {iova:#x}")));
    }
    if seen.is_translated && !seen.is_busy {
        let reached: Vec<u64> = within(seen.left_us, seen.taken_us)
            .filter_map(|event| match event.what {
                Happened::Translated { address: by, physical, .. } if by == address => Some(physical),
                _ => None,
            })
            .collect();
        probes.push(none("D2 host: DMA of an idle device", &reached, |at| format!("first at {at:#x}")));
    }
    if let Some(changed) = &seen.changed_pages {
        let pages: Vec<String> = changed.iter().map(u64::to_string).collect();
        let observed = if pages.is_empty() { UNCHANGED.to_owned() } else { format!("changed: {}", pages.join(", ")) };
        probes.push(compare("D2 host: preserved pages", UNCHANGED, observed));
    }
    let since = |at: u64| format!("first {} ms after it was left", at.saturating_sub(seen.left_us) / 1000);
    probes.push(none("D3 host: resets before the open", &resets(seen.left_us, seen.taken_us), since));
    probes.push(none("D3 host: resets by the open", &resets(seen.taken_us, seen.held_us), since));
    if let Some(Busy { last_change_us, last_tick_us }) = seen.busy {
        let late = last_change_us.saturating_sub(last_tick_us);
        let observed = if late > 0 { "went on" } else { "ended with the source" };
        let name = if seen.is_control { "control host: DMA in the blackout" } else { "D5 host: DMA in the blackout" };
        probes.push(compare(name, "went on", observed));
    }
    probes.into_iter().map(|probe| beside(probe, guest)).collect()
}

const UNCHANGED: &str = "unchanged";

fn compare(name: &str, expected: impl ToString, observed: impl ToString) -> Probe {
    let (expected, observed) = (expected.to_string(), observed.to_string());
    let held = expected == observed;
    Probe { name: name.to_owned(), expected, observed, held }
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

/// Says so where the guest's probes of that level say the other.
fn beside(mut probe: Probe, guest: &[Probe]) -> Probe {
    let level = |name: &str| name.split(' ').next().map(str::to_owned);
    let of_guest: Vec<&Probe> = guest.iter().filter(|it| level(&it.name) == level(&probe.name)).collect();
    let differs = match probe.held {
        true => of_guest.iter().all(|it| !it.held).then_some("; the guest says that it did not hold"),
        false => of_guest.iter().all(|it| it.held).then_some("; the guest says that it held"),
    };
    if let Some(differs) = differs.filter(|_| !of_guest.is_empty()) {
        probe.observed.push_str(differs);
    }
    probe
}
