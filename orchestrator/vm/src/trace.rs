//! QEMU's trace events of devices: which of them a QEMU writes, and what they say. Pure.

use luqual_model::{ARCH, Iommu, IommuEvent, PciAddress, traced_number as hex};

/// An event of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// QEMU's stamp, in microseconds since 1970. The order of events is their order in the trace: this clock can be set
    /// in the middle of a boot.
    pub stamp_us: u64,
    /// The event.
    pub what: Happened,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The guest wrote to the device's configuration space (QEMU hw/pci/trace-events).
    ConfigWritten {
        /// The device.
        address: PciAddress,
        /// The offset.
        offset: u32,
        /// The value.
        value: u32,
    },
    /// The device was reset (QEMU hw/core/trace-events).
    Reset {
        /// The QEMU type of the device.
        qemu_type: String,
    },
    /// An event of the IOMMU.
    Iommu(IommuEvent),
    /// luqual marked a moment ([`crate::Machine::mark`]).
    Marked {
        /// The mark.
        name: String,
    },
}

/// The trace events of devices: accesses to configuration space, resets, translated DMA, faults, and luqual's marks.
/// QEMU only warns about events that it does not have: `qdev_reset` exists before version 9,
/// `resettable_phase_hold_exec` since then (and for a machine's own reset since 7.0).
pub(crate) fn traced() -> impl Iterator<Item = &'static str> {
    let devices = ["pci_cfg_write", "qdev_reset", "resettable_phase_hold_exec"];
    let more = [Iommu::VIRTIO_TRANSLATED, Iommu::VIRTIO_FAULT, "handle_hmp_command"];
    devices.into_iter().chain(ARCH.iommu_events.iter().copied()).chain(more)
}

/// Patterns of the events of IOMMUs, and of nothing else.
pub(crate) fn iommu_patterns() -> impl Iterator<Item = &'static str> {
    ARCH.iommu_event_patterns.iter().copied().chain(["virtio_iommu_*"])
}

/// What a QEMU says of the events of [`traced`]: whether each is enabled; events that it does not have are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceEvents(Vec<(String, bool)>);

impl TraceEvents {
    /// From the replies of the human monitor to `info trace-events NAME` (QEMU trace/trace-hmp-cmds.c), such as
    /// `vtd_dmar_fault : state 1`.
    pub fn of<'a>(replies: impl IntoIterator<Item = &'a str>) -> Self {
        let event = |line: &str| {
            let (name, state) = line.split_once(" : state ")?;
            Some((name.trim().to_owned(), state.trim() == "1"))
        };
        Self(replies.into_iter().flat_map(str::lines).filter_map(event).collect())
    }

    /// Whether the QEMU writes these: at least one of them, and each that it has. An error says which it does not.
    pub fn writes(&self, names: &[&str]) -> Result<(), String> {
        let state = |name: &str| self.0.iter().find(|(known, _)| known == name).map(|(_, enabled)| *enabled);
        match names.iter().find(|name| state(name) == Some(false)) {
            Some(name) => Err(format!("the trace event {name} is switched off")),
            None if names.iter().all(|name| state(name).is_none()) => {
                Err(format!("this QEMU has no trace event {}", names.join(" or ")))
            }
            None => Ok(()),
        }
    }
}

/// The command of the human monitor that leaves a mark in the trace: QEMU traces each command, and knows no help on
/// this one.
pub(crate) fn mark_command(name: &str) -> String {
    format!("help {MARK}{name}")
}

const MARK: &str = "luqual-";

/// Parses a trace into events, in order. Other events and other lines are left out.
pub fn parse(text: &str) -> Vec<Traced> {
    text.lines().filter_map(event).collect()
}

/// Parses a line such as `1166@1795544754.580322:pci_cfg_write nvme 00:02.0 @0x88 <- 0x8000` (QEMU
/// docs/devel/tracing.rst, the log backend).
fn event(line: &str) -> Option<Traced> {
    let (stamp, rest) = line.split_once('@')?.1.split_once(':')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let stamp_us: u64 = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
    let (name, arguments) = rest.split_once(' ')?;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let what = match (name, &words[..]) {
        ("pci_cfg_write", [_, address, offset, "<-", value]) => Happened::ConfigWritten {
            address: address.parse().ok()?,
            offset: hex(offset.strip_prefix('@')?)? as u32,
            value: hex(value)? as u32,
        },
        ("qdev_reset" | "resettable_phase_hold_exec", [object, ..]) => {
            let qemu_type = object.split_once('(')?.1.strip_suffix(')')?.to_owned();
            Happened::Reset { qemu_type }
        }
        (Iommu::VIRTIO_TRANSLATED, [iova, "->", physical, "for", id]) => {
            let address = PciAddress::of_requester(id.strip_prefix("sid=")?.parse().ok()?);
            Happened::Iommu(IommuEvent::Translated { address, iova: hex(iova)?, physical: hex(physical)? })
        }
        (Iommu::VIRTIO_FAULT, [.., endpoint, "address", iova]) => {
            let id = endpoint.strip_prefix("endpoint=")?.parse().ok()?;
            let iova = hex(iova.strip_prefix('=')?)?;
            Happened::Iommu(IommuEvent::Fault { address: Some(PciAddress::of_requester(id)), iova })
        }
        ("handle_hmp_command", ["mon", _, "cmdline:", "help", name]) => {
            Happened::Marked { name: name.strip_prefix(MARK)?.to_owned() }
        }
        (name, words) => Happened::Iommu((ARCH.parse_iommu_event)(name, words)?),
    };
    Some(Traced { stamp_us, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_read_as_qemu_7_2_writes_it() {
        let nvme = PciAddress { bus: 0, slot: 2, function: 0 };
        let text = "1166@1000.000007:pci_cfg_write nvme 00:02.0 @0x88 <- 0x8000\n\
                    1166@1000.000008:qdev_reset obj=0x55875b977ab0(nvme)\n\
                    1166@1000.000009:resettable_phase_hold_exec obj=0x55875b977ab0(edu) method=0\n\
                    1166@1000.000010:vtd_dmar_translate dev 00:02.00 iova 0xffffd000 -> gpa 0xdc0000 mask 0xfff\n\
                    1166@1000.000011:vtd_dmar_fault sid 0x10 fault 1 addr 0x1000 write 1\n\
                    1166@1000.000012:amdvi_translation_result devid: 00:02.0 gpa 0x1000 hpa 0x2000\n\
                    1166@1000.000013:amdvi_page_fault error: page fault accessing guest physical address 0x3000\n\
                    1166@1000.000014:virtio_iommu_translate_out 0x1000 -> 0x2000 for sid=16\n\
                    1166@1000.000015:virtio_iommu_report_fault FAULT reason=2 flags=2 endpoint=16 address =0x5000\n\
                    1166@1000.000016:something_else 1\n\
                    QEMU: not a trace\n\
                    1166@1000.000017:vtd_dmar_enable enable 1\n\
                    1166@1000.000018:handle_hmp_command mon 0x7ffe61d81bb0 cmdline: help luqual-left-0\n\
                    1166@1000.000019:handle_hmp_command mon 0x7ffe61d81bb0 cmdline: info usernet\n\
                    1166@999.000000:qdev_reset obj=0x1(after)\n";
        let events = parse(text);
        let at: Vec<u64> = events.iter().map(|event| event.stamp_us).collect();
        // The clock was set back before the last one, which is the last one all the same.
        let second = 1_000_000_000;
        let expected = [7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18].map(|us| second + us);
        assert_eq!((&at[..11], at[11]), (&expected[..], 999_000_000));
        let translated = |iova, physical| Happened::Iommu(IommuEvent::Translated { address: nvme, iova, physical });
        let fault = |address, iova| Happened::Iommu(IommuEvent::Fault { address, iova });
        let reset = |qemu_type: &str| Happened::Reset { qemu_type: qemu_type.into() };
        let what: Vec<Happened> = events.into_iter().map(|event| event.what).collect();
        assert_eq!(
            what,
            [
                Happened::ConfigWritten { address: nvme, offset: 0x88, value: 0x8000 },
                reset("nvme"),
                reset("edu"),
                translated(0xffff_d000, 0xdc_0000),
                fault(Some(nvme), 0x1000),
                translated(0x1000, 0x2000),
                fault(None, 0x3000),
                translated(0x1000, 0x2000),
                fault(Some(nvme), 0x5000),
                Happened::Iommu(IommuEvent::Translates { on: true }),
                Happened::Marked { name: "left-0".into() },
                reset("after"),
            ]
        );
    }

    #[test]
    fn an_event_that_is_off_or_unknown_is_not_written() {
        let events = TraceEvents::of(["vtd_dmar_fault : state 1\r\n", "qdev_reset : state 0\r\n", "unknown event\r\n"]);
        assert_eq!(events.writes(&["vtd_dmar_fault"]), Ok(()));
        assert_eq!(events.writes(&["vtd_dmar_fault", "nothing"]), Ok(()));
        let off = Err("the trace event qdev_reset is switched off".to_owned());
        assert_eq!(events.writes(&["vtd_dmar_fault", "qdev_reset"]), off);
        assert_eq!(events.writes(&["nothing"]), Err("this QEMU has no trace event nothing".to_owned()));
        assert!(TraceEvents::default().writes(&["vtd_dmar_fault"]).is_err());
    }

    #[test]
    fn a_mark_is_read_as_it_is_made() {
        let line = format!("1@2.3:handle_hmp_command mon 0x1 cmdline: {}", mark_command("held-7"));
        assert_eq!(parse(&line)[0].what, Happened::Marked { name: "held-7".into() });
    }
}
