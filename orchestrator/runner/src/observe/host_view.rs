//! The host view of a device: probes from QEMU's trace, the guest's memory and `query-pci`, and their comparison with
//! the guest's probes. Pure.

use super::device_trace::{BusMastering, DeviceTrace};
use super::witness::{Deaf, Heard};
use luqual_model::{Level, Probe};
use luqual_vm::PciFunction;

/// The host's observations of one device over an update. Times are in microseconds since the boot's start.
pub(crate) struct DeviceFacts<'a> {
    /// The PCI function in the source.
    pub(crate) before: &'a PciFunction,
    /// The PCI function in the target, if it exists.
    pub(crate) after: Result<Option<&'a PciFunction>, Deaf>,
    /// Whether it was unplugged in the source.
    pub(crate) is_unplugged: bool,
    /// Whether an IOMMU translates, and so reports, its accesses.
    pub(crate) is_translated: bool,
    /// Whether it reads and writes memory by itself.
    pub(crate) has_dma: bool,
    /// Whether it had DMA under way at the update.
    pub(crate) is_busy: bool,
    /// Whether its descriptor is preserved, so that it keeps its registers and goes on with its work.
    pub(crate) is_preserved: bool,
    /// Whether it is a control: the host has to see its DMA in the blackout.
    pub(crate) is_control: bool,
    /// The page that it writes repeatedly, if there is one.
    pub(crate) busy: Option<Result<Busy, Deaf>>,
    /// The pages that must not be written and have changed; `None` if there are no such pages.
    pub(crate) changed_pages: Option<Result<Heard<u64>, Deaf>>,
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

/// The host's probes, and why it could not make all of them.
#[derive(Default)]
pub(crate) struct HostProbes {
    pub(crate) probes: Vec<Probe>,
    /// The first witness that says nothing.
    pub(crate) deaf: Option<Deaf>,
}

impl HostProbes {
    /// Adds what a witness says. One that could not hear makes no probe.
    pub(crate) fn hear(&mut self, said: Result<Probe, Deaf>) {
        match said {
            Ok(probe) => self.probes.push(probe),
            Err(deaf) => {
                self.deaf.get_or_insert(deaf);
            }
        }
    }
}

/// The host's probes. If the guest's probes of the same level say the opposite, the observed value mentions it.
pub(crate) fn probes(facts: DeviceFacts<'_>, trace: &Result<DeviceTrace<'_>, Deaf>, guest: &[Probe]) -> HostProbes {
    let expected = Some(facts.before).filter(|_| !facts.is_unplugged);
    let trace = || trace.as_ref().map_err(Clone::clone);
    let mut told = HostProbes::default();
    told.hear(facts.after.map(|after| Probe::compare("D0 host: place", place(expected), place(after))));
    // A control writes where it can, on purpose.
    if facts.is_translated && !facts.is_control {
        let faults = trace().and_then(DeviceTrace::faults);
        told.hear(faults.map(|it| none("D2 host: IOMMU faults", &it, |iova| format!("first at {iova:#x}"))));
    }
    if facts.is_translated && !facts.is_busy && facts.has_dma {
        let dma = trace().and_then(DeviceTrace::dma);
        told.hear(dma.map(|it| none("D2 host: DMA of an idle device", &it, |at| format!("first at {at:#x}"))));
    }
    // A kernel that does not preserve a device ends its DMA; one that does lets it go on.
    if facts.has_dma && !facts.is_preserved {
        told.hear(trace().map(|trace| bus_mastering(trace.bus_mastering(), facts.is_control)));
    }
    if let Some(changed) = facts.changed_pages {
        told.hear(changed.map(|changed| {
            let pages: Vec<String> = changed.all().iter().map(u64::to_string).collect();
            let observed = match pages.as_slice() {
                [] => UNCHANGED.to_owned(),
                pages => format!("changed: {}", pages.join(", ")),
            };
            Probe::compare("D2 host: preserved pages", UNCHANGED, observed)
        }));
    }
    let since = |us: u64| format!("first {} ms after the handover", us / 1000);
    match trace().and_then(DeviceTrace::resets) {
        Ok([before, by]) => {
            told.hear(Ok(none("D2 host: resets before the open", &before, since)));
            if facts.is_preserved {
                told.hear(Ok(none("D3 host: resets by the open", &by, since)));
            }
        }
        Err(deaf) => told.hear(Err(deaf)),
    }
    if let Some(busy) = facts.busy.filter(|_| facts.is_control || facts.is_preserved) {
        let name = if facts.is_control { "control host: DMA in the blackout" } else { "D5 host: DMA in the blackout" };
        told.hear(busy.map(|Busy { last_change_us, last_tick_us }| {
            let is_later = last_change_us > last_tick_us + LATER_US;
            Probe::compare(name, "went on", if is_later { "went on" } else { "ended with the source" })
        }));
    }
    HostProbes { probes: told.probes.into_iter().map(|probe| beside(probe, guest)).collect(), ..told }
}

/// Compares the digest of what the guest wrote through a device with the host's file behind it.
pub(crate) fn file(written: &str, found: &str) -> Probe {
    let observed = if written == found { ARRIVED } else { "another content" };
    Probe::compare("D1 host: file behind the device", ARRIVED, observed)
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

/// Whether a device could access memory in the blackout. A control's source turns bus mastering on after the kernel
/// has turned it off; if it came too late for that, no DMA could be seen.
fn bus_mastering(found: BusMastering, is_control: bool) -> Probe {
    if is_control {
        let observed = if found == BusMastering::Off { "off" } else { "on" };
        return Probe::compare("control host: bus mastering", "on", observed);
    }
    let observed = match found {
        BusMastering::Off => "off",
        BusMastering::NeverOff => "never turned off",
        BusMastering::OnAgain => "turned on",
    };
    Probe::compare("D2 host: bus mastering", "off", observed)
}

const ARRIVED: &str = "what was written";
const UNCHANGED: &str = "unchanged";

/// Expects that a witness heard nothing. Without a witness that hears there is no such probe.
fn none<T: Copy>(name: &str, heard: &Heard<T>, first: impl Fn(T) -> String) -> Probe {
    const NONE: &str = "none";
    let found = heard.all();
    Probe::compare(name, NONE, found.first().map_or(NONE.to_owned(), |one| format!("{}, {}", found.len(), first(*one))))
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
    use super::super::device_trace::TracedDevice;
    use super::super::witness::Hears;
    use super::*;
    use luqual_model::PciAddress;
    use luqual_model::{Device, Iommu};
    use luqual_vm::{TraceEvents, parse_trace};

    const NVME: PciAddress = PciAddress { bus: 0, slot: 7, function: 0 };

    fn function(at: u64) -> PciFunction {
        PciFunction { id: "nvme".into(), address: NVME, behind: None, bars: vec![(0, at)] }
    }

    fn probe(name: &str, passed: bool) -> Probe {
        Probe { name: name.into(), expected: "x".into(), observed: if passed { "x" } else { "y" }.into(), passed }
    }

    fn deaf() -> Deaf {
        Deaf { witness: "it", why: "deaf".into(), remedy: "ask another" }
    }

    fn pages(changed: &[u64]) -> Option<Result<Heard<u64>, Deaf>> {
        Some(Hears::by(true, deaf).map(|hears| hears.heard(changed.iter().copied())))
    }

    /// The host's probes of an NVMe controller with these events in the blackout and in the open.
    fn told(facts: DeviceFacts<'_>, [blackout, open]: [&[&str]; 2], guest: &[Probe]) -> HostProbes {
        let events = ["pci_cfg_write", "qdev_reset", "vtd_dmar_translate", "vtd_dmar_fault"];
        let written: Vec<String> = events.iter().map(|name| format!("{name} : state 1")).collect();
        let written = TraceEvents::of(written.iter().map(String::as_str));
        let mark = |name| format!("handle_hmp_command mon 0x1 cmdline: help luqual-{name}-0");
        let source = ["qdev_reset obj=0x1(nvme)", "vtd_dmar_enable enable 1", ON, DMA];
        let marks = ["left", "taken", "held"].map(mark);
        let parts: [&[&str]; 6] = [&source, &[&marks[0], OFF], blackout, &[&marks[1]], open, &[&marks[2], RESET]];
        let text: String = parts.concat().iter().map(|line| format!("7@1000.000000:{line}\n")).collect();
        let events = parse_trace(&text);
        let iommu = Iommu::Intel;
        let trace = DeviceTrace::of(
            &events,
            &written,
            0,
            TracedDevice { device: Device::Nvme, address: NVME, requester: NVME, iommu },
        );
        probes(facts, &trace, guest)
    }

    const ON: &str = "pci_cfg_write nvme 00:07.0 @0x4 <- 0x107";
    const OFF: &str = "pci_cfg_write nvme 00:07.0 @0x4 <- 0x103";
    const DMA: &str = "vtd_dmar_translate dev 00:07.00 iova 0x1 -> gpa 0x2000 mask 0xfff";
    const FAULT: &str = "vtd_dmar_fault sid 0x38 fault 1 addr 0x1000 write 1";
    const RESET: &str = "qdev_reset obj=0x1(nvme)";

    /// The names of the probes that do not hold, with what was observed.
    fn failed(facts: DeviceFacts<'_>, events: [&[&str]; 2], guest: &[Probe]) -> Vec<String> {
        let HostProbes { probes, deaf } = told(facts, events, guest);
        assert_eq!(deaf, None);
        probes.into_iter().filter(|it| !it.passed).map(|it| format!("{}: {}", it.name, it.observed)).collect()
    }

    fn quiet<'a>(before: &'a PciFunction, after: Option<&'a PciFunction>) -> DeviceFacts<'a> {
        DeviceFacts {
            before,
            after: Ok(after),
            is_unplugged: false,
            is_translated: true,
            has_dma: true,
            is_busy: false,
            is_preserved: false,
            is_control: false,
            busy: None,
            changed_pages: pages(&[]),
        }
    }

    #[test]
    fn what_happens_to_others_or_after_the_open_is_nothing() {
        let there = function(0xfe00_0000);
        let others = [
            "qdev_reset obj=0x1(edu)",
            "vtd_dmar_fault sid 0x40 fault 1 addr 0x1000 write 1",
            "vtd_dmar_translate dev 00:08.00 iova 0x1 -> gpa 0x2000 mask 0xfff",
        ];
        assert_eq!(failed(quiet(&there, Some(&there)), [&others, &[ON, DMA, FAULT]], &[]), [""; 0]);
    }

    #[test]
    fn each_thing_that_happens_to_it_is_found_at_its_level() {
        let (there, elsewhere) = (function(0xfe00_0000), function(0xfa00_0000));
        let facts = DeviceFacts { changed_pages: pages(&[3, 9]), ..quiet(&there, Some(&elsewhere)) };
        assert_eq!(
            failed(
                facts,
                [&[FAULT, DMA, RESET, ON, OFF], &[RESET]],
                &[probe("D2 canaries", true), probe("D3 registers", false)]
            ),
            [
                "D0 host: place: 0000:00:07.0 BAR 0 0xfa000000",
                "D2 host: IOMMU faults: 1, first at 0x1000; the guest's probes of this level passed",
                "D2 host: DMA of an idle device: 1, first at 0x2000; the guest's probes of this level passed",
                "D2 host: bus mastering: turned on; the guest's probes of this level passed",
                "D2 host: preserved pages: changed: 3, 9; the guest's probes of this level passed",
                "D2 host: resets before the open: 1, first 0 ms after the handover; the guest's probes of this level passed",
            ]
        );
        assert_eq!(failed(quiet(&there, None), [&[], &[]], &[]), ["D0 host: place: not there"]);
        let unplugged = DeviceFacts { is_unplugged: true, ..quiet(&there, None) };
        assert_eq!(failed(unplugged, [&[], &[]], &[]), [""; 0]);
        let preserved = DeviceFacts { is_preserved: true, ..quiet(&there, Some(&there)) };
        let resets = ["D3 host: resets by the open: 1, first 0 ms after the handover"];
        assert_eq!(failed(preserved, [&[ON, OFF], &[RESET]], &[]), resets);
    }

    #[test]
    fn a_witness_that_does_not_hear_makes_no_probe_and_the_others_do() {
        let there = function(0xfe00_0000);
        let of_trace = probes(quiet(&there, None), &Err(deaf()), &[]);
        let names: Vec<&str> = of_trace.probes.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((names, of_trace.deaf), (vec!["D0 host: place", "D2 host: preserved pages"], Some(deaf())));
        let blind = DeviceFacts {
            after: Err(deaf()),
            changed_pages: Some(Err(deaf())),
            busy: Some(Err(deaf())),
            ..quiet(&there, None)
        };
        let told = told(blind, [&[], &[]], &[]);
        let is_of_the_trace =
            |name: &str| !["place", "preserved pages", "blackout"].iter().any(|it| name.ends_with(it));
        assert!(told.deaf.is_some() && told.probes.iter().all(|it| it.passed && is_of_the_trace(&it.name)));
        assert_eq!(told.probes.len(), 4);
    }

    #[test]
    fn dma_goes_on_only_where_the_host_has_seen_it() {
        let there = function(0xfe00_0000);
        let with = |last_change_us, is_control: bool| DeviceFacts {
            is_busy: true,
            is_preserved: !is_control,
            is_control,
            busy: Some(Ok(Busy { last_change_us, last_tick_us: 10_000 })),
            ..quiet(&there, Some(&there))
        };
        let of = |facts| told(facts, [&[], &[]], &[]).probes;
        assert_eq!(failed(with(15_001, false), [&[], &[]], &[]), [""; 0]);
        let ended = of(with(15_000, false));
        assert!(ended.iter().any(|it| it.name == "D5 host: DMA in the blackout" && !it.passed));
        let none = ["control host: DMA in the blackout: ended with the source"];
        // Its accesses are its purpose.
        assert_eq!(failed(with(0, true), [&[ON, DMA, FAULT], &[]], &[]), none);
        let off = ["control host: bus mastering: off"];
        assert_eq!(failed(with(15_001, true), [&[DMA], &[]], &[]), off);
        assert_eq!(failed(with(15_001, true), [&[ON, OFF], &[]], &[]), [""; 0]);
        let mut guest = [probe("D5 DMA under way", true), probe("D2 canaries", true)];
        overrule(&mut guest, &of(with(20_000, false)));
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
