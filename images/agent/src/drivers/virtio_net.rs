//! A virtio network card behind PCI: Virtual I/O Device (VIRTIO) Version 1.1, 2.6 (split queues), 3.1.1 (how a device is
//! initialized), 4.1 (PCI) and 5.1 (network).

use super::driver::{Check, DMA_PAGES, Driver, Load, Rig, check_interrupt, clear_interrupts, until};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::pci;
use crate::vfio::{Interrupt, Refusal};
use luqual_protocol::frames;

pub(super) const DRIVER: Driver = Driver {
    device: luqual_protocol::Device::VirtioNet,
    // QEMU has all structures of a modern device in this BAR (hw/virtio/virtio-pci.c).
    registers: 4,
    // One for each queue.
    interrupts: Some((Interrupt::MsiX, 2)),
    has_dma: true,
    exercise,
    state,
    pages: MEMORY_PAGES,
    contiguous_pages: BUFFERS / PAGE - DMA_PAGES,
    page_in_file: None,
    load: Some(Load::Frames { listen, received }),
};

/// The common structure (4.1.4.3).
mod common {
    pub(super) const FEATURE_SELECT: usize = 0x00;
    pub(super) const FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_VECTOR: usize = 0x10;
    pub(super) const STATUS: usize = 0x14;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY: usize = 0x1e;
    pub(super) const QUEUE_DESCRIPTORS: usize = 0x20;
    pub(super) const QUEUE_AVAILABLE: usize = 0x28;
    pub(super) const QUEUE_USED: usize = 0x30;
}

/// Device status (2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER_KNOWN: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;

/// VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM (6), bits 32 and 33: of the second word of features.
const FEATURES: u32 = 1 << 0 | 1 << 1;
const NO_VECTOR: u16 = 0xffff;

/// The length of a buffer's header (5.1.6), of which nothing is used.
const HEADER: usize = 12;
/// The flag of a descriptor that the device writes (2.6.5).
const WRITES: u16 = 2;

/// Queues by number (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// The size of a queue that fits into one page.
const FEW: u16 = 128;
const TRANSMIT_RING: Ring = Ring { queue: TRANSMIT, at: 0, size: FEW };
const DEAF_RING: Ring = Ring { queue: RECEIVE, at: PAGE, size: FEW };
const FRAME: usize = 2 * PAGE;

/// The largest size of a queue in QEMU. Each buffer is filled once.
const BUFFER_COUNT: u16 = 1024;
/// The length of a buffer: no frame of the host is longer, and 16 fit into a page.
const BUFFER_LENGTH: usize = 256;
const RECEIVE_RING: Ring = Ring { queue: RECEIVE, at: DMA_PAGES * PAGE, size: BUFFER_COUNT };
const BUFFERS: usize = (RECEIVE_RING.at + RECEIVE_RING.length()).next_multiple_of(PAGE);
const MEMORY_PAGES: usize = (BUFFERS + BUFFER_COUNT as usize * BUFFER_LENGTH) / PAGE;

/// A queue in physically contiguous memory (2.6).
#[derive(Clone, Copy)]
struct Ring {
    queue: u16,
    at: usize,
    size: u16,
}

impl Ring {
    const fn available(self) -> usize {
        self.at + 16 * self.size as usize
    }

    /// Its entries of 8 bytes follow a header of 4 bytes, and none may cross a page: QEMU 7.2 writes the part of an entry
    /// on the next page to its offset in the ring instead, which is an IOMMU fault (softmmu/physmem.c,
    /// address_space_write_cached_slow()). QEMU 10.0 does not.
    const fn used(self) -> usize {
        (self.available() + 6 + 2 * self.size as usize).next_multiple_of(8) + 4
    }

    const fn length(self) -> usize {
        self.used() + 6 + 8 * self.size as usize - self.at
    }

    /// How many buffers the device has used, modulo 2^16.
    fn used_count(self, memory: &Mapping) -> u16 {
        (memory.word(self.used()) >> 16) as u16
    }

    /// Gives the device the first buffers at once; `descriptors` has their descriptors in order.
    fn offer(self, memory: &Mapping, descriptors: &[u8]) {
        let count = (descriptors.len() / 16) as u16;
        memory.fill(self.at, descriptors);
        memory.fill(self.available() + 4, &(0..count).flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
        // The device reads the entries after it has seen the index.
        memory.fill(self.available() + 2, &count.to_le_bytes());
    }
}

fn descriptor(address: u64, length: usize, flags: u16) -> Vec<u8> {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend((length as u32).to_le_bytes());
    bytes.extend([flags, 0].map(u16::to_le_bytes).concat());
    bytes
}

/// The offsets of the structures in the BAR of the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Structures {
    common: usize,
    notify: usize,
    /// The distance between two notification addresses.
    notify_distance: usize,
    /// The device-specific structure.
    own: usize,
}

/// The first structure of each kind that is in the BAR of the registers (4.1.4).
fn structures(config: &[u8]) -> Option<Structures> {
    const VENDOR: u8 = 0x09;
    let word = |at: usize| config.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).map(|it| it as usize);
    let first = |kind: u8| {
        let of_kind = |(id, at): (u8, usize)| {
            let is_it = id == VENDOR && config.get(at + 3) == Some(&kind);
            (is_it && config.get(at + 4).copied().map(u32::from) == Some(DRIVER.registers)).then_some(at)
        };
        pci::capabilities(config).into_iter().find_map(of_kind)
    };
    let notify = first(2)?;
    Some(Structures {
        common: word(first(1)? + 8)?,
        notify: word(notify + 8)?,
        notify_distance: word(notify + 16)?,
        own: word(first(4)? + 8)?,
    })
}

/// The registers of a card.
struct Card {
    bar: Bar,
    structures: Structures,
}

impl Card {
    fn of(rig: &Rig) -> Result<Option<Self>, Refusal> {
        let bar = rig.device.bar(DRIVER.registers)?;
        Ok(structures(&rig.device.config()?).map(|structures| Self { bar, structures }))
    }

    fn at(&self, register: usize) -> usize {
        self.structures.common + register
    }

    fn add_status(&self, bits: u8) {
        let at = self.at(common::STATUS);
        self.bar.write8(at, self.bar.read8(at) | bits);
    }

    /// Initializes the card from any state, with these empty queues (3.1.1). Returns the check that failed, if any.
    fn start(&self, rig: &Rig, rings: [Ring; 2]) -> Option<Check> {
        let bar = &self.bar;
        let status = self.at(common::STATUS);
        bar.write8(status, 0);
        if !until(|| bar.read8(status) == 0) {
            return Some(Check::new("reset", "done", "not done"));
        }
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER_KNOWN);
        bar.write32(self.at(common::FEATURE_SELECT), 1);
        let offered = bar.read32(self.at(common::FEATURE));
        for (word, features) in [(0, 0), (1, FEATURES & offered)] {
            bar.write32(self.at(common::DRIVER_FEATURE_SELECT), word);
            bar.write32(self.at(common::DRIVER_FEATURE), features);
        }
        self.add_status(FEATURES_OK);
        if offered & FEATURES != FEATURES || bar.read8(status) & FEATURES_OK == 0 {
            return Some(Check::new("features", format!("{FEATURES:#x}"), format!("{:#x}", offered & FEATURES)));
        }
        bar.write16(self.at(common::CONFIG_VECTOR), NO_VECTOR);
        for ring in rings {
            rig.dma.memory.fill(ring.at, &vec![0; ring.length()]);
            bar.write16(self.at(common::QUEUE_SELECT), ring.queue);
            let most = bar.read16(self.at(common::QUEUE_SIZE));
            if most < ring.size {
                return Some(Check::new("queue size", format!("{} at least", ring.size), most));
            }
            bar.write16(self.at(common::QUEUE_SIZE), ring.size);
            let vector = if rig.vectors.is_empty() { NO_VECTOR } else { ring.queue };
            bar.write16(self.at(common::QUEUE_VECTOR), vector);
            let parts = [
                (common::QUEUE_DESCRIPTORS, ring.at),
                (common::QUEUE_AVAILABLE, ring.available()),
                (common::QUEUE_USED, ring.used()),
            ];
            for (register, offset) in parts {
                let iova = rig.dma.iova(offset);
                bar.write32(self.at(register), iova as u32);
                bar.write32(self.at(register) + 4, (iova >> 32) as u32);
            }
            bar.write16(self.at(common::QUEUE_ENABLE), 1);
        }
        self.add_status(DRIVER_OK);
        None
    }

    /// Notifies the device that a queue has buffers (4.1.4.4).
    fn notify(&self, ring: Ring) {
        self.bar.write16(self.at(common::QUEUE_SELECT), ring.queue);
        let place = usize::from(self.bar.read16(self.at(common::QUEUE_NOTIFY)));
        self.bar.write16(self.structures.notify + place * self.structures.notify_distance, ring.queue);
    }

    /// The vendor part of its MAC address (5.1.4).
    fn vendor(&self) -> String {
        let byte = |at| format!("{:02x}", self.bar.read8(self.structures.own + at));
        (0..3).map(byte).collect::<Vec<_>>().join(":")
    }
}

/// Sends a frame from memory. The card reports in memory that it has used it.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
    rig.device.set_bus_master()?;
    let Some(card) = Card::of(rig)? else {
        return Ok(vec![Check::new("structures", "found", "not found")]);
    };
    if let Some(failed) = card.start(rig, [DEAF_RING, TRANSMIT_RING]) {
        return Ok(vec![failed]);
    }
    let memory = &rig.dma.memory;
    let mut bytes = vec![0; HEADER];
    bytes.extend(frames::numbered(round as u32));
    memory.fill(FRAME, &bytes);
    clear_interrupts(&rig.vectors);
    TRANSMIT_RING.offer(memory, &descriptor(rig.dma.iova(FRAME), bytes.len(), 0));
    card.notify(TRANSMIT_RING);
    let is_used = until(|| TRANSMIT_RING.used_count(memory) == 1);
    let mut checks = vec![
        // The vendor that QEMU gives to every card (net/net.c).
        Check::new("address", "52:54:00", card.vendor()),
        Check::new("DMA", "done", if is_used { "done" } else { "not done" }),
    ];
    checks.extend(check_interrupt("interrupt", &rig.vectors, usize::from(TRANSMIT)));
    Ok(checks)
}

/// Starts the card anew with a long receive queue: the size of a queue is fixed when the card starts.
fn listen(rig: &Rig) -> Result<(), Refusal> {
    let Some(card) = Card::of(rig)? else { return Ok(()) };
    let memory = &rig.dma.memory;
    if card.start(rig, [RECEIVE_RING, TRANSMIT_RING]).is_some() {
        return Ok(());
    }
    let length = usize::from(BUFFER_COUNT) * BUFFER_LENGTH;
    memory.fill(BUFFERS, &vec![0; length]);
    let places = (0..length).step_by(BUFFER_LENGTH);
    let descriptors = places.flat_map(|at| descriptor(rig.dma.iova(BUFFERS + at), BUFFER_LENGTH, WRITES));
    RECEIVE_RING.offer(memory, &descriptors.collect::<Vec<u8>>());
    card.notify(RECEIVE_RING);
    Ok(())
}

fn received(memory: &Mapping) -> Vec<u32> {
    let mut buffer = [0; frames::LENGTH];
    let read = |number| {
        memory.read(BUFFERS + number * BUFFER_LENGTH + HEADER, &mut buffer);
        frames::number(&buffer)
    };
    (0..usize::from(BUFFER_COUNT)).filter_map(read).collect()
}

/// Reads the state. The selected queue stays selected, since the kernel's driver may use the card.
fn state(config: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    let Some(Structures { common, .. }) = structures(config) else { return vec![("structures", 0)] };
    let selected = bar.read16(common + common::QUEUE_SELECT);
    let mut state = vec![("status", u64::from(bar.read8(common + common::STATUS)))];
    for (queue, names) in [
        (RECEIVE, ["receive queue enable", "receive queue size", "receive descriptors"]),
        (TRANSMIT, ["transmit queue enable", "transmit queue size", "transmit descriptors"]),
    ] {
        bar.write16(common + common::QUEUE_SELECT, queue);
        let half = |at: usize| u64::from(bar.read32(common + at));
        let values = [
            u64::from(bar.read16(common + common::QUEUE_ENABLE)),
            u64::from(bar.read16(common + common::QUEUE_SIZE)),
            half(common::QUEUE_DESCRIPTORS) | half(common::QUEUE_DESCRIPTORS + 4) << 32,
        ];
        state.extend(names.into_iter().zip(values));
    }
    bar.write16(common + common::QUEUE_SELECT, selected);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vendor capability at that place, the next of which follows.
    fn put(config: &mut [u8], at: usize, next: usize, kind: u8, bar: u8, offset: u32) {
        config[at..at + 5].copy_from_slice(&[0x09, next as u8, 20, kind, bar]);
        config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        config[at + 16..at + 20].copy_from_slice(&4_u32.to_le_bytes());
    }

    #[test]
    fn structures_are_the_first_of_their_kind_in_the_bar_of_the_registers() {
        let mut config = vec![0; 256];
        config[0x34] = 0x40;
        put(&mut config, 0x40, 0x54, 1, 0, 0x500);
        put(&mut config, 0x54, 0x68, 1, 4, 0x100);
        put(&mut config, 0x68, 0x7c, 1, 4, 0x600);
        put(&mut config, 0x7c, 0x90, 2, 4, 0x3000);
        assert_eq!(structures(&config), None, "one of its kind is missing");
        put(&mut config, 0x90, 0, 4, 4, 0x2000);
        let found = Structures { common: 0x100, notify: 0x3000, notify_distance: 4, own: 0x2000 };
        assert_eq!(structures(&config), Some(found));
        assert_eq!(structures(&config[..0x94]), None, "cut off");
        assert_eq!(structures(&[]), None);
    }

    #[test]
    fn queues_fit_into_their_memory() {
        for ring in [TRANSMIT_RING, DEAF_RING] {
            assert!(ring.length() <= PAGE);
        }
        assert_eq!((RECEIVE_RING.available() % 2, RECEIVE_RING.used() % 8, BUFFERS % PAGE), (0, 4, 0));
    }
}
