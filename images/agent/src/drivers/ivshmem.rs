//! QEMU's memory that is shared with the host: docs/specs/ivshmem-spec.rst.

use super::{DMA_PAGES, Driver, Rig, Tried, arrived, pattern};
use crate::mapping::{Bar, PAGE};
use crate::vfio::Refusal;

pub(super) const DRIVER: Driver = Driver {
    device: "ivshmem-plain",
    registers: 2,
    interrupts: None,
    has_dma: false,
    exercise,
    state,
    pages: DMA_PAGES,
    in_one_piece: 0,
    load: None,
};

/// Behind what [`state`] looks at.
const TRIED: usize = 16 * PAGE;

/// A page into the memory and out of it; what the host sees of it is the host's to say.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Tried>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    let page = pattern(round, 1);
    let (words, _) = page.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        bar.write64(TRIED + number * 8, u64::from_le_bytes(*word));
    }
    let seen: Vec<u8> = (0..words.len()).flat_map(|number| bar.read64(TRIED + number * 8).to_le_bytes()).collect();
    // What stays there for the state.
    bar.write64(0, round ^ 0x6c75_7175_616c);
    Ok(vec![arrived("memory", &page, &seen)])
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    let sum = (0..PAGE / 8).fold(0_u64, |sum, number| sum.rotate_left(1) ^ bar.read64(TRIED + number * 8));
    vec![("first word", bar.read64(0)), ("written page", sum)]
}
