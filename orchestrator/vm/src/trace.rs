//! Parses QEMU's trace events of devices. Pure.

use crate::pci::PciAddress;

/// An event of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The time in microseconds since the boot's start.
    pub at_us: u64,
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
    /// The IOMMU translated an access of the device (QEMU hw/i386/trace-events, hw/virtio/trace-events).
    Translated {
        /// The device.
        address: PciAddress,
        /// The address in the access.
        iova: u64,
        /// The physical address.
        physical: u64,
    },
    /// The IOMMU refused an access.
    Fault {
        /// The device, if the event names it.
        address: Option<PciAddress>,
        /// The address in the access.
        iova: u64,
    },
}

/// Parses a trace into events, in order. `started_us` is the boot's start in microseconds since 1970. Other events
/// and other lines are left out.
pub fn parse(text: &str, started_us: u64) -> Vec<Traced> {
    text.lines().filter_map(|line| event(line, started_us)).collect()
}

/// Parses a line such as `1166@1795544754.580322:pci_cfg_write nvme 00:02.0 @0x88 <- 0x8000` (QEMU
/// docs/devel/tracing.rst, the log backend).
fn event(line: &str, started_us: u64) -> Option<Traced> {
    let (stamp, rest) = line.split_once('@')?.1.split_once(':')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let at_us: u64 = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
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
        ("vtd_dmar_translate", ["dev", address, "iova", iova, "->", "gpa", physical, ..]) => {
            Happened::Translated { address: address.parse().ok()?, iova: hex(iova)?, physical: hex(physical)? }
        }
        ("vtd_dmar_fault", ["sid", id, "fault", _, "addr", iova, ..]) => {
            Happened::Fault { address: Some(PciAddress::of_requester(hex(id)? as u32)), iova: hex(iova)? }
        }
        ("amdvi_translation_result", ["devid:", address, "gpa", iova, "hpa", physical]) => {
            Happened::Translated { address: address.parse().ok()?, iova: hex(iova)?, physical: hex(physical)? }
        }
        ("amdvi_page_fault", [.., iova]) => Happened::Fault { address: None, iova: hex(iova)? },
        ("virtio_iommu_translate_out", [iova, "->", physical, "for", id]) => {
            let id = id.strip_prefix("sid=")?.parse().ok()?;
            Happened::Translated { address: PciAddress::of_requester(id), iova: hex(iova)?, physical: hex(physical)? }
        }
        ("virtio_iommu_report_fault", [.., endpoint, "address", iova]) => {
            let id = endpoint.strip_prefix("endpoint=")?.parse().ok()?;
            let iova = hex(iova.strip_prefix('=')?)?;
            Happened::Fault { address: Some(PciAddress::of_requester(id)), iova }
        }
        _ => return None,
    };
    Some(Traced { at_us: at_us.checked_sub(started_us)?, what })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
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
                    1166@999.000000:qdev_reset obj=0x1(before)\n";
        let events = parse(text, 1_000_000_000);
        let at: Vec<u64> = events.iter().map(|event| event.at_us).collect();
        assert_eq!(at, [7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let reset = |qemu_type: &str| Happened::Reset { qemu_type: qemu_type.into() };
        let what: Vec<Happened> = events.into_iter().map(|event| event.what).collect();
        assert_eq!(
            what,
            [
                Happened::ConfigWritten { address: nvme, offset: 0x88, value: 0x8000 },
                reset("nvme"),
                reset("edu"),
                Happened::Translated { address: nvme, iova: 0xffff_d000, physical: 0xdc_0000 },
                Happened::Fault { address: Some(nvme), iova: 0x1000 },
                Happened::Translated { address: nvme, iova: 0x1000, physical: 0x2000 },
                Happened::Fault { address: None, iova: 0x3000 },
                Happened::Translated { address: nvme, iova: 0x1000, physical: 0x2000 },
                Happened::Fault { address: Some(nvme), iova: 0x5000 },
            ]
        );
    }
}
