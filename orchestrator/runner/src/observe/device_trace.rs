//! What QEMU's trace says of one device over an update, as far as it proves that it hears. Pure.
//!
//! The order of events is their order in the trace, between the marks that luqual leaves in it. The stamps of the
//! events are of the host's wall clock, and decide nothing.

use super::witness::{Deaf, Heard, Hears};
use luqual_model::{ARCH, Device, Iommu, IommuEvent, IommuSupport, PciAddress};
use luqual_vm::{Happened, TraceEvents, Traced};
use std::ops::Range;

/// A moment that luqual marks in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The source has preserved the part's state.
    Left,
    /// The target is about to be asked for it.
    Taken,
    /// The target has opened the device again.
    Held,
}

impl Moment {
    /// The mark of a part of a boot.
    pub(crate) fn mark(self, part: usize) -> String {
        let moment = match self {
            Self::Left => "left",
            Self::Taken => "taken",
            Self::Held => "held",
        };
        format!("{moment}-{part}")
    }
}

/// The device that a trace is read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TracedDevice {
    pub(crate) device: Device,
    /// Its address in the source.
    pub(crate) address: PciAddress,
    /// The address by which the IOMMU knows it.
    pub(crate) requester: PciAddress,
    pub(crate) iommu: Iommu,
}

/// The trace of one device.
pub(crate) struct DeviceTrace<'a> {
    events: &'a [Traced],
    written: &'a TraceEvents,
    of: TracedDevice,
    left: usize,
    taken: usize,
    held: usize,
}

const TRACE: &str = "QEMU's trace";
const ANOTHER_QEMU: &str =
    "use a QEMU that is built with the trace backend `log`, and that gets all of luqual's arguments";
const ROOM: &str = "see qemu-trace.log and qemu.stderr, and whether the disk is full";

fn deaf(why: String) -> Deaf {
    Deaf { witness: TRACE, why, remedy: ANOTHER_QEMU }
}

/// The bit of the command register by which a device may access memory (PCI Local Bus Specification 3.0, 6.2.2).
const BUS_MASTER: u32 = 1 << 2;
const COMMAND: u32 = 0x04;

/// Bus mastering between the handover and the next open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BusMastering {
    /// It was off, or was turned off and stayed off.
    Off,
    /// It was never turned off.
    NeverOff,
    /// It was turned off, and on again.
    OnAgain,
}

impl<'a> DeviceTrace<'a> {
    /// The trace of a part's device: it has all marks of the part, and the firmware's and the source's accesses to the
    /// device's configuration space before them.
    pub(crate) fn of(
        events: &'a [Traced],
        written: &'a TraceEvents,
        part: usize,
        of: TracedDevice,
    ) -> Result<Self, Deaf> {
        let mark = |moment: Moment, from: usize| {
            let name = moment.mark(part);
            let is_mark = |event: &Traced| matches!(&event.what, Happened::Marked { name: it } if *it == name);
            let at = events[from..].iter().position(is_mark).map(|at| from + at);
            at.ok_or_else(|| match from {
                0 => deaf(format!("luqual's mark {name} is not in it")),
                _ => Deaf { remedy: ROOM, ..deaf(format!("it ended before luqual's mark {name}")) },
            })
        };
        let left = mark(Moment::Left, 0)?;
        let taken = mark(Moment::Taken, left)?;
        let held = mark(Moment::Held, taken)?;
        let trace = Self { events, written, of, left, taken, held };
        trace.writes(&["pci_cfg_write"])?;
        let is_configured = trace.configured(0..left).next().is_some();
        Hears::by(is_configured, || {
            deaf(format!(
                "the accesses by which firmware and kernel configure {} at {address} are not in it",
                of.device.id(),
                address = of.address
            ))
        })?;
        Ok(trace)
    }

    fn writes(&self, names: &[&str]) -> Result<(), Deaf> {
        self.written.writes(names).map_err(deaf)
    }

    /// The writes to the command register, with whether bus mastering is on after each, by place.
    fn configured(&self, within: Range<usize>) -> impl Iterator<Item = (usize, bool)> {
        self.events[within.clone()].iter().zip(within).filter_map(move |(event, at)| match event.what {
            Happened::ConfigWritten { address, offset: COMMAND, value } if address == self.of.address => {
                Some((at, value & BUS_MASTER != 0))
            }
            _ => None,
        })
    }

    fn is_master_at_left(&self) -> bool {
        self.configured(0..self.left).last().is_some_and(|(_, on)| on)
    }

    /// From the handover to the next owner of the device. That is the target's workload, or the target's own driver,
    /// if it has one that takes the device at each boot: it begins by turning bus mastering on.
    fn unowned(&self) -> Range<usize> {
        let mut was_on = self.is_master_at_left();
        let taken_over = self.configured(self.left..self.taken).find_map(|(at, on)| {
            let begins = on && !was_on;
            was_on = on;
            begins.then_some(at)
        });
        self.left..taken_over.filter(|_| self.of.device.has_own_driver()).unwrap_or(self.taken)
    }

    /// Bus mastering until the device has its next owner.
    pub(crate) fn bus_mastering(&self) -> BusMastering {
        let mut on = self.is_master_at_left();
        let mut was_off = !on;
        for (_, now) in self.configured(self.unowned()) {
            if now && was_off {
                return BusMastering::OnAgain;
            }
            on = now;
            was_off |= !now;
        }
        if on { BusMastering::NeverOff } else { BusMastering::Off }
    }

    /// The stamps of the device's resets, relative to the handover: before the open, and by it. Each machine begins
    /// with one, which has to be there.
    pub(crate) fn resets(&self) -> Result<[Heard<u64>; 2], Deaf> {
        let qemu_type = self.of.device.qemu_type();
        let resets = |within: Range<usize>| {
            self.events[within]
                .iter()
                .filter(move |event| matches!(&event.what, Happened::Reset { qemu_type: it } if it == qemu_type))
                .map(move |event| self.since_left_us(event))
        };
        self.writes(&["qdev_reset", "resettable_phase_hold_exec"])?;
        let hears = Hears::by(resets(0..self.left).next().is_some(), || {
            deaf(format!("the reset of {qemu_type} at the machine's start is not in it"))
        })?;
        Ok([hears.heard(resets(self.left..self.taken)), hears.heard(resets(self.taken..self.held))])
    }

    /// What QEMU has of the machine's IOMMU, which has to be there.
    fn iommu(&self) -> Result<(IommuSupport, Hears), Deaf> {
        let iommu = (ARCH.iommu)(self.of.iommu);
        Hears::by(iommu.device.is_some(), || deaf("the machine has no IOMMU".to_owned())).map(|hears| (iommu, hears))
    }

    /// The addresses of its faults until it has its next owner. No device faults without a reason, so that no fault
    /// can be asked for: QEMU has to say that it writes them into this trace, which is proved to be there.
    pub(crate) fn faults(&self) -> Result<Heard<u64>, Deaf> {
        let (iommu, hears) = self.iommu()?;
        self.writes(&[iommu.fault])?;
        Ok(hears.heard(self.events[self.unowned()].iter().filter_map(|event| match event.what {
            Happened::Iommu(IommuEvent::Fault { address: by, iova }) if by.is_none_or(|by| by == self.of.requester) => {
                Some(iova)
            }
            _ => None,
        })))
    }

    /// The physical addresses of its DMA until it has its next owner. Its DMA in the source has to be there, and in
    /// the blackout it must not have been able to bypass the IOMMU, whose translations are all that is traced.
    pub(crate) fn dma(&self) -> Result<Heard<u64>, Deaf> {
        let (iommu, _) = self.iommu()?;
        self.writes(&[iommu.translated])?;
        let translated = |within: Range<usize>| {
            self.events[within].iter().filter_map(move |event| match event.what {
                Happened::Iommu(IommuEvent::Translated { address: by, physical, .. }) if by == self.of.requester => {
                    Some(physical)
                }
                _ => None,
            })
        };
        let id = self.of.device.id();
        Hears::by(translated(0..self.left).next().is_some(), || {
            deaf(format!("the DMA that {id} did for the source is not in it"))
        })?;
        let hears = Hears::by(!self.bypasses(), || Deaf {
            remedy: "this kernel can only be judged by the pages that the device could reach",
            ..deaf(format!("{id} could access memory while no IOMMU translated, and such DMA is not traced"))
        })?;
        Ok(hears.heard(translated(self.unowned())))
    }

    /// Whether the device could access memory while the IOMMU did not translate. Of an IOMMU that does not trace when it
    /// does, it is only known that a device without bus mastering needs no translation.
    fn bypasses(&self) -> bool {
        if !(ARCH.iommu)(self.of.iommu).traces_enable {
            return self.bus_mastering() != BusMastering::Off;
        }
        let mut masters = false;
        let mut translates = false;
        let unowned = self.unowned();
        for (at, event) in self.events[..unowned.end].iter().enumerate() {
            match event.what {
                Happened::Iommu(IommuEvent::Translates { on }) => translates = on,
                Happened::ConfigWritten { address, offset: COMMAND, value } if address == self.of.address => {
                    masters = value & BUS_MASTER != 0;
                }
                _ => {}
            }
            if at >= self.left && masters && !translates {
                return true;
            }
        }
        masters && !translates
    }

    /// The time from the handover, in microseconds, by the host's wall clock: only to be told.
    fn since_left_us(&self, event: &Traced) -> u64 {
        event.stamp_us.saturating_sub(self.events[self.left].stamp_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_vm::parse_trace;

    const NVME: PciAddress = PciAddress { bus: 0, slot: 7, function: 0 };
    const INTEL: Iommu = Iommu::Intel;

    fn named(device: Device, iommu: Iommu) -> TracedDevice {
        TracedDevice { device, address: NVME, requester: NVME, iommu }
    }

    fn all() -> TraceEvents {
        let names =
            ["pci_cfg_write", "qdev_reset", "resettable_phase_hold_exec", "vtd_dmar_translate", "vtd_dmar_fault"];
        let others = ["amdvi_translation_result", "amdvi_page_fault"];
        let on: Vec<String> = names.iter().chain(&others).map(|name| format!("{name} : state 1")).collect();
        TraceEvents::of(on.iter().map(String::as_str))
    }

    fn but(name: &str) -> TraceEvents {
        let off = format!("{name} : state 0");
        let mut replies = vec![off.as_str()];
        let names = ["pci_cfg_write", "qdev_reset", "vtd_dmar_translate", "vtd_dmar_fault"];
        let on: Vec<String> = names.iter().map(|name| format!("{name} : state 1")).collect();
        replies.extend(on.iter().map(String::as_str));
        TraceEvents::of(replies)
    }

    /// A trace; each line has a stamp of its own, a second after the one before.
    fn traced(lines: &[&str]) -> Vec<Traced> {
        stamped(&lines.iter().enumerate().map(|(at, line)| (1000 + at as u64, *line)).collect::<Vec<_>>())
    }

    fn stamped(lines: &[(u64, &str)]) -> Vec<Traced> {
        let mark = |line: &str| match line.strip_prefix("mark ") {
            Some(name) => format!("handle_hmp_command mon 0x1 cmdline: help luqual-{name}"),
            None => line.to_owned(),
        };
        let text: String = lines.iter().map(|(at, line)| format!("7@{at}.000000:{}\n", mark(line))).collect();
        let events = parse_trace(&text);
        assert_eq!(events.len(), lines.len(), "{text}");
        events
    }

    fn of<'a>(events: &'a [Traced], written: &'a TraceEvents) -> Result<DeviceTrace<'a>, Deaf> {
        DeviceTrace::of(events, written, 0, named(Device::Nvme, INTEL))
    }

    const MASTER: &str = "pci_cfg_write nvme 00:07.0 @0x4 <- 0x107";
    const NO_MASTER: &str = "pci_cfg_write nvme 00:07.0 @0x4 <- 0x103";
    const DMA: &str = "vtd_dmar_translate dev 00:07.00 iova 0x1000 -> gpa 0x2000 mask 0xfff";
    const FAULT: &str = "vtd_dmar_fault sid 0x38 fault 1 addr 0x3000 write 1";
    const RESET: &str = "qdev_reset obj=0x1(nvme)";
    const TRANSLATES: &str = "vtd_dmar_enable enable 1";
    const BYPASS: &str = "vtd_dmar_enable enable 0";
    /// What a device's life begins with.
    const SOURCE: [&str; 5] = [RESET, NO_MASTER, TRANSLATES, MASTER, DMA];
    const UPDATE: [&str; 4] = ["mark left-0", NO_MASTER, BYPASS, TRANSLATES];
    const TARGET: [&str; 4] = ["mark taken-0", RESET, "mark held-0", DMA];

    fn life(blackout: &[&'static str]) -> Vec<Traced> {
        traced(&[&SOURCE[..], &UPDATE, blackout, &TARGET].concat())
    }

    #[test]
    fn a_quiet_life_is_heard_as_quiet() {
        let (events, written) = (life(&[]), all());
        let trace = of(&events, &written).unwrap();
        assert_eq!(trace.bus_mastering(), BusMastering::Off);
        assert!(trace.faults().unwrap().all().is_empty());
        assert!(trace.dma().unwrap().all().is_empty());
        let [before, by] = trace.resets().unwrap();
        assert_eq!((before.all(), by.all()), (&[][..], &[5_000_000][..]));
    }

    #[test]
    fn what_happens_in_the_blackout_is_heard() {
        let (events, written) = (life(&[DMA, FAULT, RESET]), all());
        let trace = of(&events, &written).unwrap();
        assert_eq!(trace.faults().unwrap().all(), [0x3000]);
        assert_eq!(trace.dma().unwrap().all(), [0x2000]);
        assert_eq!(trace.resets().unwrap()[0].all(), [6_000_000]);
    }

    #[test]
    fn a_step_of_the_wall_clock_hides_nothing_and_makes_up_nothing() {
        for step in [-100_000, -3, 3, 100_000] {
            let lines = [&SOURCE[..], &UPDATE, &[RESET], &TARGET].concat();
            let at = |place: usize| (200_000 + place as i64 + if place >= 7 { step } else { 0 }) as u64;
            let events = stamped(&lines.iter().enumerate().map(|(place, line)| (at(place), *line)).collect::<Vec<_>>());
            let written = all();
            let [before, by] = of(&events, &written).unwrap().resets().unwrap();
            assert_eq!((before.all().len(), by.all().len()), (1, 1), "{step}");
        }
    }

    type Ask = fn(&DeviceTrace<'_>) -> Option<Deaf>;

    fn resets(trace: &DeviceTrace<'_>) -> Option<Deaf> {
        trace.resets().err()
    }

    fn dma(trace: &DeviceTrace<'_>) -> Option<Deaf> {
        trace.dma().err()
    }

    fn faults(trace: &DeviceTrace<'_>) -> Option<Deaf> {
        trace.faults().err()
    }

    #[test]
    fn each_witness_that_has_not_heard_what_it_had_to_says_nothing() {
        let written = all();
        let why = |events: &[Traced], written: &TraceEvents, ask: Ask| match of(events, written) {
            Ok(trace) => ask(&trace).map_or_else(String::new, |deaf| deaf.why),
            Err(deaf) => deaf.why,
        };
        let without = |line: &str| {
            let lines = [&SOURCE[..], &UPDATE, &TARGET].concat();
            let first = lines.iter().position(|it| *it == line).unwrap();
            let lines: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, it)| *it).collect();
            traced(&lines)
        };
        assert_eq!(why(&[], &written, faults), "luqual's mark left-0 is not in it");
        assert_eq!(why(&without("mark held-0"), &written, faults), "it ended before luqual's mark held-0");
        assert_eq!(why(&without(RESET), &written, resets), "the reset of nvme at the machine's start is not in it");
        assert_eq!(why(&without(DMA), &written, dma), "the DMA that nvme did for the source is not in it");
        let unconfigured = traced(&[&[RESET, DMA][..], &UPDATE, &TARGET].concat());
        assert!(why(&unconfigured, &written, faults).contains("configure nvme at 0000:00:07.0"));
        let asked: [(&str, Ask); 5] = [
            ("vtd_dmar_fault", faults),
            ("vtd_dmar_translate", dma),
            ("qdev_reset", resets),
            ("resettable_phase_hold_exec", resets),
            ("pci_cfg_write", faults),
        ];
        for (event, ask) in asked {
            let off = format!("the trace event {event} is switched off");
            assert_eq!(why(&life(&[]), &but(event), ask), off);
        }
    }

    #[test]
    fn dma_past_the_iommu_is_not_taken_for_none() {
        let written = all();
        let dma = |lines: &[&str]| of(&traced(lines), &written).unwrap().dma().is_ok();
        let mastering = |lines: &[&str]| of(&traced(lines), &written).unwrap().bus_mastering();
        let left_on = [&SOURCE[..], &["mark left-0", BYPASS, TRANSLATES], &TARGET].concat();
        assert_eq!((dma(&left_on), mastering(&left_on)), (false, BusMastering::NeverOff));
        let on_again = [&SOURCE[..], &["mark left-0", NO_MASTER, BYPASS, MASTER, TRANSLATES], &TARGET].concat();
        assert_eq!((dma(&on_again), mastering(&on_again)), (false, BusMastering::OnAgain));
        // A preserving kernel leaves both on.
        let preserved = [&SOURCE[..], &["mark left-0"], &TARGET].concat();
        assert_eq!((dma(&preserved), mastering(&preserved)), (true, BusMastering::NeverOff));
        // Of another IOMMU it is not known when it translates.
        let amd = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| line.replace(DMA, AMD_DMA)).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            DeviceTrace::of(&traced(&lines), &written, 0, named(Device::Nvme, Iommu::Amd)).unwrap().dma().is_ok()
        };
        assert!(!amd(&preserved) && amd(&[&SOURCE[..], &UPDATE, &TARGET].concat()));
    }

    const AMD_DMA: &str = "amdvi_translation_result devid: 00:07.00 gpa 0x1000 hpa 0x2000";

    #[test]
    fn what_the_targets_own_driver_does_is_its_own() {
        let own = [&SOURCE[..], &UPDATE, &[MASTER, DMA, FAULT, NO_MASTER], &TARGET].concat();
        let (events, written) = (traced(&own), all());
        let of_nvme = of(&events, &written).unwrap();
        assert_eq!(of_nvme.bus_mastering(), BusMastering::OnAgain);
        assert_eq!(of_nvme.faults().unwrap().all().len(), 1);
        let card = own.iter().map(|line| line.replace("(nvme)", "(virtio-net-pci)")).collect::<Vec<_>>();
        let events = traced(&card.iter().map(String::as_str).collect::<Vec<_>>());
        let card = DeviceTrace::of(&events, &written, 0, named(Device::VirtioNet, INTEL)).unwrap();
        assert_eq!(card.bus_mastering(), BusMastering::Off);
        assert_eq!((card.faults().unwrap().all(), card.dma().unwrap().all()), (&[][..], &[][..]));
    }

    #[test]
    fn behind_a_bridge_the_iommu_knows_a_device_by_the_bridge() {
        let bridged = "vtd_dmar_translate dev 01:00.00 iova 0x1000 -> gpa 0x2000 mask 0xfff";
        let fault = "vtd_dmar_fault sid 0x100 fault 1 addr 0x3000 write 1";
        let events = traced(
            &[
                &SOURCE[..4],
                &[bridged, "mark left-0", NO_MASTER],
                &[DMA, bridged, fault],
                &["mark taken-0", "mark held-0"],
            ]
            .concat(),
        );
        let (address, requester) = (NVME, PciAddress { bus: 1, slot: 0, function: 0 });
        let device = TracedDevice { address, requester, ..named(Device::Nvme, INTEL) };
        let written = all();
        let trace = DeviceTrace::of(&events, &written, 0, device).unwrap();
        assert_eq!((trace.dma().unwrap().all(), trace.faults().unwrap().all()), (&[0x2000][..], &[0x3000][..]));
        let deaf = of(&events[4..], &written).err().or_else(|| of(&events, &written).unwrap().dma().err());
        assert!(deaf.is_some(), "the DMA in the source is not of the device itself");
    }
}
