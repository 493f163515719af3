//! QEMU's inter-VM shared memory, here shared with the host, with and without a doorbell: docs/specs/ivshmem-spec.rst.

use super::driver::{Check, DMA_PAGES, Driver, Rig, check_data, check_interrupt, clear_interrupts, written_page};
use crate::mapping::{Bar, PAGE};
use crate::vfio::{Interrupt, Refusal};

pub(super) const PLAIN: Driver = Driver {
    device: luqual_protocol::Device::IvshmemPlain,
    registers: MEMORY,
    interrupts: None,
    has_dma: false,
    exercise: exercise_memory,
    state,
    pages: DMA_PAGES,
    contiguous_pages: 0,
    page_in_file: Some(TRIED as u64),
    load: None,
};

pub(super) const DOORBELL: Driver = Driver {
    device: luqual_protocol::Device::IvshmemDoorbell,
    interrupts: Some((Interrupt::MsiX, 2)),
    exercise: exercise_doorbell,
    ..PLAIN
};

/// The BARs. A reset changes no register that this driver uses, and leaves the memory as it is.
const REGISTERS: u32 = 0;
const MEMORY: u32 = 2;

/// The register with the number of this peer.
const POSITION: usize = 8;
/// The doorbell register: the peer to interrupt in the upper half, the vector in the lower.
const DOORBELL_REGISTER: usize = 12;
/// The number of the host, which answers an interrupt with one on the same vector (orchestrator/vm/src/ivshmem.rs).
const HOST: u32 = 1;
/// The vector for interrupts to and from the host, and the vector for those that the device sends to itself.
const BY_HOST: usize = 0;
const BY_ITSELF: usize = 1;

/// The offset of the page that is written, behind the first word.
const TRIED: usize = 16 * PAGE;

/// Writes a page into the memory and reads it back. The host checks by itself what it sees of it.
fn exercise_memory(rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
    let bar = rig.device.bar(MEMORY)?;
    let page = written_page(round);
    let (words, _) = page.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        bar.write64(TRIED + number * 8, u64::from_le_bytes(*word));
    }
    let seen: Vec<u8> = (0..words.len()).flat_map(|number| bar.read64(TRIED + number * 8).to_le_bytes()).collect();
    // The first word, which [`state`] reads.
    bar.write64(0, round ^ 0x6c75_7175_616c);
    Ok(vec![check_data("memory", &page, &seen)])
}

/// The same, and the device interrupts itself, which goes through the host's server, and the host.
fn exercise_doorbell(rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
    let mut checks = exercise_memory(rig, round)?;
    // An MSI-X interrupt is a write to memory, so it needs bus mastering.
    rig.device.set_bus_master()?;
    let bar = rig.device.bar(REGISTERS)?;
    let position = bar.read32(POSITION);
    checks.push(Check::new("position", 0, position));
    clear_interrupts(&rig.vectors);
    bar.write32(DOORBELL_REGISTER, position << 16 | BY_ITSELF as u32);
    checks.extend(check_interrupt("interrupt", &rig.vectors, BY_ITSELF));
    bar.write32(DOORBELL_REGISTER, HOST << 16 | BY_HOST as u32);
    checks.extend(check_interrupt("the host rings back", &rig.vectors, BY_HOST));
    Ok(checks)
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    let sum = (0..PAGE / 8).fold(0_u64, |sum, number| sum.rotate_left(1) ^ bar.read64(TRIED + number * 8));
    vec![("first word", bar.read64(0)), ("written page", sum)]
}
