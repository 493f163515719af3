//! Intel's 82574L: its datasheet, 10 (registers), 7.1 (receive descriptors) and 7.2 (transmit descriptors).

use super::{DMA_PAGES, Driver, Load, Rig, Tried, forget, interrupted, until};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::vfio::{Interrupt, Refusal};
use luqual_protocol::frames;

pub(super) const DRIVER: Driver = Driver {
    device: "e1000e",
    registers: 0,
    interrupts: Some((Interrupt::Msi, 1)),
    has_dma: true,
    exercise,
    state,
    pages: MEMORY_PAGES,
    load: Some(Load::Frames { listen, heard }),
};

const CONTROL: usize = 0x0000;
const STATUS: usize = 0x0008;
const CAUSES: usize = 0x00c0;
const CAUSE_SET: usize = 0x00c8;
const MASK_SET: usize = 0x00d0;
const MASK_CLEAR: usize = 0x00d8;
const RECEIVE_CONTROL: usize = 0x0100;
const TRANSMIT_CONTROL: usize = 0x0400;
const TRANSMIT_BASE: usize = 0x3800;
const TRANSMIT_LENGTH: usize = 0x3808;
const TRANSMIT_HEAD: usize = 0x3810;
const TRANSMIT_TAIL: usize = 0x3818;
const RECEIVE_BASE: usize = 0x2800;
const RECEIVE_LENGTH: usize = 0x2808;
const RECEIVE_HEAD: usize = 0x2810;
const RECEIVE_TAIL: usize = 0x2818;

const RESET: u32 = 1 << 26;
/// Set link up, full duplex.
const LINK: u32 = 1 << 6 | 1;
const ENABLE: u32 = 1 << 1;
const PAD: u32 = 1 << 3;

const TRANSMIT_RING: usize = 0;
const FRAME: usize = PAGE;

/// The receive ring, and the buffers that follow it.
const DESCRIPTORS: usize = 4096;
const RECEIVE_RING: usize = DMA_PAGES * PAGE;
const BUFFERS: usize = RECEIVE_RING + DESCRIPTORS * 16;
/// The smallest that there are, 16 a page.
const BUFFER_LENGTH: usize = 256;
const MEMORY_PAGES: usize = (BUFFERS + DESCRIPTORS * BUFFER_LENGTH) / PAGE;
/// Enabled, also for what is sent to everyone; buffers of 256 bytes; without the check sequence.
const RECEIVE: u32 = ENABLE | 1 << 15 | 3 << 16 | 1 << 26;

/// A frame out of memory, which the card tells in memory that it has taken.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Tried>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    rig.device.set_bus_master()?;
    bar.write32(MASK_CLEAR, u32::MAX);
    bar.write32(CONTROL, RESET);
    if !until(|| bar.read32(CONTROL) & RESET == 0) {
        return Ok(vec![Tried::new("reset", "done", "not done")]);
    }
    bar.write32(MASK_CLEAR, u32::MAX);
    bar.write32(CONTROL, bar.read32(CONTROL) | LINK);
    let mut tried = vec![Tried::new("link", "up", if until(|| bar.read32(STATUS) & 2 != 0) { "up" } else { "down" })];

    let memory = &rig.dma.memory;
    memory.fill(TRANSMIT_RING, &[0; PAGE]);
    let frame = frames::numbered(round as u32);
    memory.fill(FRAME, &frame);
    // A legacy descriptor: end of packet, check sequence added, status reported.
    let mut descriptor = rig.dma.iova(FRAME).to_le_bytes().to_vec();
    descriptor.extend((frame.len() as u32 | 0b1011 << 24).to_le_bytes());
    descriptor.extend([0; 4]);
    memory.fill(TRANSMIT_RING, &descriptor);
    let ring = rig.dma.iova(TRANSMIT_RING);
    bar.write32(TRANSMIT_BASE, ring as u32);
    bar.write32(TRANSMIT_BASE + 4, (ring >> 32) as u32);
    bar.write32(TRANSMIT_LENGTH, PAGE as u32);
    bar.write32(TRANSMIT_HEAD, 0);
    bar.write32(TRANSMIT_TAIL, 0);
    bar.write32(TRANSMIT_CONTROL, ENABLE | PAD);
    bar.write32(TRANSMIT_TAIL, 1);
    let is_done = |memory: &Mapping| memory.word(TRANSMIT_RING + 12) & 1 == 1;
    tried.push(Tried::new("DMA", "done", if until(|| is_done(memory)) { "done" } else { "not done" }));

    if !rig.vectors.is_empty() {
        let _ = bar.read32(CAUSES);
        forget(&rig.vectors);
        bar.write32(MASK_SET, 1 << 2);
        bar.write32(CAUSE_SET, 1 << 2);
        tried.extend(interrupted(&rig.vectors, 0));
        bar.write32(MASK_CLEAR, u32::MAX);
        let _ = bar.read32(CAUSES);
    }
    Ok(tried)
}

fn listen(rig: &Rig) -> Result<(), Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    let memory = &rig.dma.memory;
    bar.write32(RECEIVE_CONTROL, 0);
    memory.fill(BUFFERS, &vec![0; DESCRIPTORS * BUFFER_LENGTH]);
    let mut ring = Vec::with_capacity(DESCRIPTORS * 16);
    for number in 0..DESCRIPTORS {
        ring.extend(rig.dma.iova(BUFFERS + number * BUFFER_LENGTH).to_le_bytes());
        ring.extend([0; 8]);
    }
    memory.fill(RECEIVE_RING, &ring);
    let base = rig.dma.iova(RECEIVE_RING);
    bar.write32(RECEIVE_BASE, base as u32);
    bar.write32(RECEIVE_BASE + 4, (base >> 32) as u32);
    bar.write32(RECEIVE_LENGTH, (DESCRIPTORS * 16) as u32);
    bar.write32(RECEIVE_HEAD, 0);
    bar.write32(RECEIVE_CONTROL, RECEIVE);
    // One stays free: a head that meets the tail is an empty ring.
    bar.write32(RECEIVE_TAIL, DESCRIPTORS as u32 - 1);
    Ok(())
}

fn heard(memory: &Mapping) -> Vec<u32> {
    let mut buffer = [0; frames::LENGTH];
    let read = |number| {
        memory.read(BUFFERS + number * BUFFER_LENGTH, &mut buffer);
        frames::number(&buffer)
    };
    (0..DESCRIPTORS).filter_map(read).collect()
}

fn state(bar: &Bar) -> Vec<(&'static str, u64)> {
    let word = |offset| u64::from(bar.read32(offset));
    vec![
        ("transmit ring", word(TRANSMIT_BASE)),
        ("transmit length", word(TRANSMIT_LENGTH)),
        ("transmit control", word(TRANSMIT_CONTROL)),
        ("receive ring", word(RECEIVE_BASE)),
        ("receive length", word(RECEIVE_LENGTH)),
    ]
}
