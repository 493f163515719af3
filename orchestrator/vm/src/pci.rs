//! PCI functions as the host sees them.

use luqual_model::Bus;
use std::fmt;
use std::str::FromStr;

/// The address of a PCI function, as the guest numbers its buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The bus.
    pub bus: u8,
    /// The slot, below 32.
    pub slot: u8,
    /// The function, below 8.
    pub function: u8,
}

impl PciAddress {
    /// The address from a requester id, which has bus, slot and function in one word (PCI Express Base Specification,
    /// 2.2.6.2).
    pub fn of_requester(id: u32) -> Self {
        Self { bus: (id >> 8) as u8, slot: (id >> 3 & 0x1f) as u8, function: (id & 7) as u8 }
    }

    /// The requester id by which an IOMMU knows the device at this address on a bus. A bridge from PCI Express takes the
    /// transactions of the devices behind it over, as slot 0 of its secondary bus (PCI Express to PCI/PCI-X Bridge
    /// Specification 1.0, 2.3; QEMU hw/pci/pci.c, pci_device_iommu_address_space()).
    pub const fn requester_on(self, bus: Bus) -> Self {
        match bus {
            Bus::Bridge => Self { bus: self.bus, slot: 0, function: 0 },
            Bus::Root | Bus::RootPort | Bus::OneSlot => self,
        }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:{:02x}:{:02x}.{:x}", self.bus, self.slot, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = ();

    /// Parses `BUS:SLOT.FUNCTION` in hexadecimal digits, as in QEMU's traces.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (bus, rest) = text.split_once(':').ok_or(())?;
        let (slot, function) = rest.split_once('.').ok_or(())?;
        let number = |text: &str| u8::from_str_radix(text, 16).map_err(|_| ());
        Ok(Self { bus: number(bus)?, slot: number(slot)?, function: number(function)? })
    }
}

/// A PCI function with a QEMU id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciFunction {
    /// QEMU's id of the device.
    pub id: String,
    /// The address.
    pub address: PciAddress,
    /// The bridge above it.
    pub behind: Option<PciAddress>,
    /// The numbers and addresses of its programmed BARs.
    pub bars: Vec<(u8, u64)>,
}

/// The functions with an id in the reply to `query-pci`, on all buses.
pub(crate) fn named(buses: &[qapi::qmp::PciInfo]) -> Vec<PciFunction> {
    let mut found = Vec::new();
    for bus in buses {
        add(&bus.devices, None, &mut found);
    }
    found
}

fn add(devices: &[qapi::qmp::PciDeviceInfo], behind: Option<PciAddress>, found: &mut Vec<PciFunction>) {
    for device in devices {
        let address = PciAddress { bus: device.bus as u8, slot: device.slot as u8, function: device.function as u8 };
        if !device.qdev_id.is_empty() {
            // A BAR that is not programmed has the address -1.
            let bars = device.regions.iter().filter(|region| region.address >= 0);
            let bars = bars.map(|region| (region.bar as u8, region.address as u64)).collect();
            found.push(PciFunction { id: device.qdev_id.clone(), address, behind, bars });
        }
        if let Some(devices) = device.pci_bridge.as_ref().and_then(|bridge| bridge.devices.as_ref()) {
            add(devices, Some(address), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_qemu_writes_them() {
        let nvme = PciAddress { bus: 2, slot: 0x1f, function: 7 };
        assert_eq!("02:1f.7".parse(), Ok(nvme));
        assert_eq!("02:1f.07".parse(), Ok(nvme));
        assert_eq!(PciAddress::of_requester(0x2ff), nvme);
        assert_eq!(nvme.to_string(), "0000:02:1f.7");
        assert!(["", "02", "02:1f", "x:1.1"].iter().all(|text| text.parse::<PciAddress>().is_err()));
    }

    #[test]
    fn functions_behind_bridges_are_found_and_nameless_ones_are_not() {
        let text = r#"[{"bus": 0, "devices": [
            {"bus": 0, "slot": 1, "function": 0, "qdev_id": "", "class_info": {"class": 1536},
             "id": {"device": 1, "vendor": 2}, "irq_pin": 0, "regions": [],
             "pci_bridge": {"bus": {"number": 0, "secondary": 1, "subordinate": 1,
                "io_range": {"base": 0, "limit": 0}, "memory_range": {"base": 0, "limit": 0},
                "prefetchable_range": {"base": 0, "limit": 0}},
              "devices": [{"bus": 1, "slot": 2, "function": 0, "qdev_id": "nvme", "class_info": {"class": 264},
                "id": {"device": 16, "vendor": 6966}, "irq_pin": 1, "regions": [
                  {"bar": 0, "type": "memory", "size": 16384, "address": 4273995776},
                  {"bar": 4, "type": "memory", "size": 4096, "address": -1}]}]}}]}]"#;
        let buses: Vec<qapi::qmp::PciInfo> = serde_json::from_str(text).unwrap();
        let address = PciAddress { bus: 1, slot: 2, function: 0 };
        let behind = Some(PciAddress { bus: 0, slot: 1, function: 0 });
        assert_eq!(named(&buses), [PciFunction { id: "nvme".into(), address, behind, bars: vec![(0, 0xfec0_0000)] }]);
    }
}
