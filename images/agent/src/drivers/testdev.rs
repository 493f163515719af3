//! QEMU's test device, which counts accesses: docs/specs/pci-testdev.rst.

use super::driver::{Check, DMA_PAGES, Driver, Rig};
use crate::mapping::Bar;
use crate::vfio::Refusal;

pub(super) const DRIVER: Driver = Driver {
    device: luqual_protocol::Device::PciTestdev,
    registers: 0,
    interrupts: None,
    has_dma: false,
    exercise,
    state,
    pages: DMA_PAGES,
    contiguous_pages: 0,
    page_in_file: None,
    load: None,
};

const TEST: usize = 0;
const OFFSET: usize = 4;
const DATA: usize = 8;
const COUNT: usize = 12;
/// How many accesses are made.
const ACCESSES: u32 = 5;

/// Runs the first test, which counts writes of a byte.
fn exercise(rig: &Rig, _: u64) -> Result<Vec<Check>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    bar.write8(TEST, 0);
    let (place, data) = (bar.read32(OFFSET) as usize, bar.read8(DATA));
    for _ in 0..ACCESSES {
        bar.write8(place, data);
    }
    Ok(vec![Check::new("counter", ACCESSES, bar.read32(COUNT))])
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    vec![("counter", u64::from(bar.read32(COUNT)))]
}
