//! PCI functions as the host sees them.

use luqual_model::PciAddress;

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
