//! Intel's network cards: the 82574L by its datasheet, 10 (registers), 7.1 (receive descriptors) and 7.2 (transmit descriptors);
//! the 82576 by its own, 8, 7.1.5 and 7.2.2. Their registers differ less than the datasheets suggest.

use super::driver::{Check, DMA_PAGES, Driver, Load, Rig, check_interrupt, clear_interrupts, until};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::vfio::{Interrupt, Refusal};
use luqual_protocol::frames;

/// The differences between the cards.
struct Card {
    receive: usize,
    transmit: usize,
    /// Whether each queue has an enable bit of its own, and the newer descriptors.
    is_82576: bool,
    /// The smallest receive buffer in bytes.
    buffer: usize,
}

static E1000E_CARD: Card = Card { receive: 0x2800, transmit: 0x3800, is_82576: false, buffer: 256 };

static IGB_CARD: Card = Card { receive: 0xc000, transmit: 0xe000, is_82576: true, buffer: 1024 };

pub(super) const E1000E: Driver = Driver {
    device: luqual_protocol::Device::E1000e,
    exercise: |rig, round| E1000E_CARD.exercise(rig, round),
    state: |_, bar| E1000E_CARD.state(bar),
    pages: E1000E_CARD_PAGES,
    load: Some(Load::Frames { listen: |rig| E1000E_CARD.listen(rig), received: |memory| E1000E_CARD.received(memory) }),
    ..COMMON
};

pub(super) const IGB: Driver = Driver {
    device: luqual_protocol::Device::Igb,
    exercise: |rig, round| IGB_CARD.exercise(rig, round),
    state: |_, bar| IGB_CARD.state(bar),
    pages: IGB_CARD_PAGES,
    load: Some(Load::Frames { listen: |rig| IGB_CARD.listen(rig), received: |memory| IGB_CARD.received(memory) }),
    ..COMMON
};

const E1000E_CARD_PAGES: usize = memory_pages(256);
const IGB_CARD_PAGES: usize = memory_pages(1024);

const COMMON: Driver = Driver {
    device: luqual_protocol::Device::E1000e,
    registers: REGISTERS,
    interrupts: Some((Interrupt::Msi, 1)),
    has_dma: true,
    exercise: |_, _| Ok(Vec::new()),
    state: |_, _| Vec::new(),
    pages: 0,
    contiguous_pages: DESCRIPTORS * 16 / PAGE,
    page_in_file: None,
    load: None,
};

const REGISTERS: u32 = 0;
const CONTROL: usize = 0x0000;
const STATUS: usize = 0x0008;
/// Interrupt registers: the causes, which a read clears, and the register that sets them; the registers that set and clear the
/// mask. The 82576 also has them at 0x1500, but QEMU's (hw/net/igb_core.c) does not.
const CAUSES: usize = 0x00c0;
const CAUSE_SET: usize = 0x00c8;
const MASK_SET: usize = 0x00d0;
const MASK_CLEAR: usize = 0x00d8;
const PHY: usize = 0x0020;
/// A write to the control register of PHY 1: full duplex, and a new negotiation.
const PHY_NEGOTIATE: u32 = 1 << 26 | 1 << 21 | 0x1340;
const RECEIVE_CONTROL: usize = 0x0100;
const TRANSMIT_CONTROL: usize = 0x0400;

/// The registers of a queue, relative to its base.
const BASE: usize = 0x00;
const LENGTH: usize = 0x08;
const SPLIT_CONTROL: usize = 0x0c;
const HEAD: usize = 0x10;
const TAIL: usize = 0x18;
const QUEUE_CONTROL: usize = 0x28;
const QUEUE_ENABLE: u32 = 1 << 25;

const RESET: u32 = 1 << 26;
/// Link up, full duplex.
const LINK: u32 = 1 << 6 | 1;
const ENABLE: u32 = 1 << 1;
const PAD: u32 = 1 << 3;

const TRANSMIT_RING: usize = 0;
const FRAME: usize = PAGE;

/// The receive ring, and the buffers that follow it.
const DESCRIPTORS: usize = 8192;
const RECEIVE_RING: usize = DMA_PAGES * PAGE;
const BUFFERS: usize = RECEIVE_RING + DESCRIPTORS * 16;
/// How many pages of memory a card needs with buffers of this length.
const fn memory_pages(buffer: usize) -> usize {
    (BUFFERS + DESCRIPTORS * buffer) / PAGE
}

/// Receiver enabled, broadcasts accepted, buffers of 256 bytes, check sequence stripped.
const RECEIVE: u32 = ENABLE | 1 << 15 | 3 << 16 | 1 << 26;

impl Card {
    /// Sends a frame from memory. The card reports in memory that it has taken it.
    fn exercise(&self, rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
        let bar = rig.device.bar(REGISTERS)?;
        rig.device.set_bus_master()?;
        bar.write32(MASK_CLEAR, u32::MAX);
        bar.write32(CONTROL, RESET);
        if !until(|| bar.read32(CONTROL) & RESET == 0) {
            return Ok(vec![Check::new("reset", "done", "not done")]);
        }
        bar.write32(MASK_CLEAR, u32::MAX);
        bar.write32(CONTROL, bar.read32(CONTROL) | LINK);
        // The 82576 has a link after its PHY has negotiated one.
        bar.write32(PHY, PHY_NEGOTIATE);
        let link = if until(|| bar.read32(STATUS) & 2 != 0) { "up" } else { "down" };
        let mut checks = vec![Check::new("link", "up", link)];

        let memory = &rig.dma.memory;
        memory.fill(TRANSMIT_RING, &[0; PAGE]);
        let frame = frames::numbered(round as u32);
        memory.fill(FRAME, &frame);
        memory.fill(TRANSMIT_RING, &self.transmit_descriptor(rig.dma.iova(FRAME), frame.len() as u32));
        self.start_queue(&bar, self.transmit, rig.dma.iova(TRANSMIT_RING), PAGE as u32);
        bar.write32(TRANSMIT_CONTROL, ENABLE | PAD);
        bar.write32(self.transmit + TAIL, 1);
        let is_done = || memory.word(TRANSMIT_RING + 12) & 1 == 1;
        checks.push(Check::new("DMA", "done", if until(is_done) { "done" } else { "not done" }));

        if !rig.vectors.is_empty() {
            let _ = bar.read32(CAUSES);
            clear_interrupts(&rig.vectors);
            bar.write32(MASK_SET, 1 << 2);
            bar.write32(CAUSE_SET, 1 << 2);
            checks.extend(check_interrupt("interrupt", &rig.vectors, 0));
            bar.write32(MASK_CLEAR, u32::MAX);
            let _ = bar.read32(CAUSES);
        }
        Ok(checks)
    }

    /// A descriptor: end of packet, insert check sequence, report status.
    fn transmit_descriptor(&self, address: u64, length: u32) -> Vec<u8> {
        let (command, more) = match self.is_82576 {
            // A data descriptor, with the length of the frame.
            true => (0b0010_1011 << 24 | 3 << 20 | length, length << 14),
            false => (0b1011 << 24 | length, 0),
        };
        [&address.to_le_bytes()[..], &u32::to_le_bytes(command), &u32::to_le_bytes(more)].concat()
    }

    fn start_queue(&self, bar: &Bar, queue: usize, ring: u64, length: u32) {
        bar.write32(queue + BASE, ring as u32);
        bar.write32(queue + BASE + 4, (ring >> 32) as u32);
        bar.write32(queue + LENGTH, length);
        bar.write32(queue + HEAD, 0);
        bar.write32(queue + TAIL, 0);
        if self.is_82576 {
            bar.write32(queue + QUEUE_CONTROL, QUEUE_ENABLE);
        }
    }

    fn listen(&self, rig: &Rig) -> Result<(), Refusal> {
        let bar = rig.device.bar(REGISTERS)?;
        let memory = &rig.dma.memory;
        bar.write32(RECEIVE_CONTROL, 0);
        memory.fill(BUFFERS, &vec![0; DESCRIPTORS * self.buffer]);
        let mut ring = Vec::with_capacity(DESCRIPTORS * 16);
        for number in 0..DESCRIPTORS {
            ring.extend(rig.dma.iova(BUFFERS + number * self.buffer).to_le_bytes());
            ring.extend([0; 8]);
        }
        memory.fill(RECEIVE_RING, &ring);
        if self.is_82576 {
            // One buffer for each frame; its length in KiB.
            bar.write32(self.receive + SPLIT_CONTROL, 1 << 25 | (self.buffer / 1024) as u32);
        }
        self.start_queue(&bar, self.receive, rig.dma.iova(RECEIVE_RING), (DESCRIPTORS * 16) as u32);
        bar.write32(RECEIVE_CONTROL, RECEIVE);
        // One descriptor stays free: equal head and tail mean an empty ring.
        bar.write32(self.receive + TAIL, DESCRIPTORS as u32 - 1);
        Ok(())
    }

    fn received(&self, memory: &Mapping) -> Vec<u32> {
        let mut bytes = [0; frames::LENGTH];
        let read = |number| {
            memory.read(BUFFERS + number * self.buffer, &mut bytes);
            frames::number(&bytes)
        };
        (0..DESCRIPTORS).filter_map(read).collect()
    }

    fn state(&self, bar: &Bar) -> Vec<(&'static str, u64)> {
        let word = |offset| u64::from(bar.read32(offset));
        vec![
            ("transmit ring", word(self.transmit + BASE)),
            ("transmit length", word(self.transmit + LENGTH)),
            ("transmit control", word(TRANSMIT_CONTROL)),
            ("receive ring", word(self.receive + BASE)),
            ("receive length", word(self.receive + LENGTH)),
        ]
    }
}
