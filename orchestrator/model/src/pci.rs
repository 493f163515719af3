//! PCI addresses.

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
}
