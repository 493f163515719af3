//! QEMU's memory that is shared with the host, without and with a doorbell: docs/specs/ivshmem-spec.rst.

use super::{DMA_PAGES, Driver, Rig, Tried, arrived, forget, interrupted, written};
use crate::mapping::{Bar, PAGE};
use crate::vfio::{Interrupt, Refusal};

pub(super) const PLAIN: Driver = Driver {
    device: "ivshmem-plain",
    registers: MEMORY,
    interrupts: None,
    has_dma: false,
    exercise: exercise_memory,
    state,
    pages: DMA_PAGES,
    in_one_piece: 0,
    leaves_at: Some(TRIED as u64),
    load: None,
};

pub(super) const DOORBELL: Driver =
    Driver { device: "ivshmem-doorbell", interrupts: Some((Interrupt::MsiX, 2)), exercise: exercise_doorbell, ..PLAIN };

/// The BARs. A reset changes no register that a driver has to do with here; what is in the memory it leaves.
const REGISTERS: u32 = 0;
const MEMORY: u32 = 2;

/// Who this is among those that share the memory.
const POSITION: usize = 8;
/// Written with whom to ring, in the upper half, and by which vector.
const DOORBELL_REGISTER: usize = 12;
/// The other one, which rings back by the same vector; so the host's server tells (orchestrator/vm/src/ivshmem.rs).
const HOST: u32 = 1;
/// The vectors by which the host is rung, and by which it rings itself.
const BY_HOST: usize = 0;
const BY_ITSELF: usize = 1;

/// Behind what [`state`] looks at.
const TRIED: usize = 16 * PAGE;

/// A page into the memory and out of it; what the host sees of it is the host's to say.
fn exercise_memory(rig: &Rig, round: u64) -> Result<Vec<Tried>, Refusal> {
    let bar = rig.device.bar(MEMORY)?;
    let page = written(round);
    let (words, _) = page.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        bar.write64(TRIED + number * 8, u64::from_le_bytes(*word));
    }
    let seen: Vec<u8> = (0..words.len()).flat_map(|number| bar.read64(TRIED + number * 8).to_le_bytes()).collect();
    // What stays there for the state.
    bar.write64(0, round ^ 0x6c75_7175_616c);
    Ok(vec![arrived("memory", &page, &seen)])
}

/// And it rings itself, which goes by way of the host, and the host itself.
fn exercise_doorbell(rig: &Rig, round: u64) -> Result<Vec<Tried>, Refusal> {
    let mut tried = exercise_memory(rig, round)?;
    // An interrupt is a write to memory.
    rig.device.set_bus_master()?;
    let bar = rig.device.bar(REGISTERS)?;
    let position = bar.read32(POSITION);
    tried.push(Tried::new("position", 0, position));
    forget(&rig.vectors);
    bar.write32(DOORBELL_REGISTER, position << 16 | BY_ITSELF as u32);
    tried.extend(interrupted("interrupt", &rig.vectors, BY_ITSELF));
    bar.write32(DOORBELL_REGISTER, HOST << 16 | BY_HOST as u32);
    tried.extend(interrupted("the host rings back", &rig.vectors, BY_HOST));
    Ok(tried)
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    let sum = (0..PAGE / 8).fold(0_u64, |sum, number| sum.rotate_left(1) ^ bar.read64(TRIED + number * 8));
    vec![("first word", bar.read64(0)), ("written page", sum)]
}
