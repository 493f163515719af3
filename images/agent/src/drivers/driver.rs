//! What every driver is: its description of a device, the memory and the interrupts that it works with, and the steps that drivers
//! share.

use crate::mapping::{Bar, Mapping, PAGE};
use crate::vfio::{Device, Dma, Interrupt, Refusal, Vector};
use crate::wait;
use luqual_protocol::content::fill_page;
use std::time::Duration;

/// An open device with what a driver needs for it.
pub(crate) struct Rig {
    pub(crate) device: Device,
    /// The memory that the device can access: as many pages as its driver needs.
    pub(crate) dma: Dma,
    /// Its interrupt vectors; none if interrupts are off.
    pub(crate) vectors: Vec<Vector>,
}

/// The number of pages that every driver has.
pub(crate) const DMA_PAGES: usize = 64;

/// One thing that a device has to do, and what it did.
pub(crate) struct Check {
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) observed: String,
}

impl Check {
    pub(super) fn new(what: &'static str, expected: impl ToString, observed: impl ToString) -> Self {
        Self { what, expected: expected.to_string(), observed: observed.to_string() }
    }
}

/// The description of a device, and how it is put to work.
pub(crate) struct Driver {
    /// Its name in profiles and workloads.
    pub(crate) device: luqual_protocol::Device,
    /// The number of the BAR with its registers.
    pub(crate) registers: u32,
    /// The kind and the number of its interrupt vectors, if it has any.
    pub(crate) interrupts: Option<(Interrupt, usize)>,
    /// Whether it accesses memory by itself.
    pub(crate) has_dma: bool,
    /// Puts it to work from any state, and checks what works. `round` is another number for each call.
    pub(crate) exercise: fn(&Rig, round: u64) -> Result<Vec<Check>, Refusal>,
    /// Reads the registers that a reset would change, by name, without changing anything. The layout of the BAR may depend on the
    /// configuration space, of which the function gets at least the first 256 bytes.
    pub(crate) state: fn(&[u8], &Bar) -> Registers,
    /// How many pages of memory it needs: [`DMA_PAGES`] and any behind them.
    pub(crate) pages: usize,
    /// How many of those behind have to be physically contiguous.
    pub(crate) contiguous_pages: usize,
    /// The byte offset at which [`Driver::exercise`] leaves [`written_page`] in the host's file behind the device, if it has one.
    pub(crate) page_in_file: Option<u64>,
    /// How it is kept busy, if that is possible.
    pub(crate) load: Option<Load>,
}

/// The values of registers, by name.
pub(crate) type Registers = Vec<(&'static str, u64)>;

/// How a device is kept busy.
pub(crate) enum Load {
    /// A thread in the source starts transfers into [`BUSY_PAGE`] for ever, and counts them in [`TransferCounts`].
    Transfers {
        /// The body of the thread.
        run: fn(Bar, BusyMemory),
        /// The other pages that the device writes into.
        works_in: &'static [usize],
    },
    /// The host sends numbered frames.
    Frames {
        /// Has the device receive them into the pages from [`DMA_PAGES`] on.
        listen: fn(&Rig) -> Result<(), Refusal>,
        /// The numbers of the frames that were received.
        received: fn(&Mapping) -> Vec<u32>,
    },
}

/// The memory of a device, for the thread that keeps it busy.
pub(crate) struct BusyMemory {
    pub(crate) memory: Mapping,
    pub(crate) iova: Vec<u64>,
}

impl BusyMemory {
    pub(super) fn iova(&self, offset: usize) -> u64 {
        self.iova[offset / PAGE] + (offset % PAGE) as u64
    }
}

/// Two counters at the start of a page: the transfers that a busy device's thread has started, and those whose end it has seen.
pub(crate) struct TransferCounts;

impl TransferCounts {
    /// The page.
    pub(crate) const PAGE: usize = DMA_PAGES - 2;
    const BEGUN: usize = Self::PAGE * PAGE;
    const ENDED: usize = Self::BEGUN + 8;

    /// Sets both counters to 0.
    pub(crate) fn clear(memory: &Mapping) {
        memory.fill(Self::BEGUN, &[0; 16]);
    }

    pub(super) fn begin(memory: &mut Mapping, count: u64) {
        memory.store(Self::BEGUN as u64, count);
    }

    pub(super) fn end(memory: &mut Mapping, count: u64) {
        memory.store(Self::ENDED as u64, count);
    }

    /// Both counters.
    pub(crate) fn read(memory: &Mapping) -> (u64, u64) {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            memory.read(at, &mut bytes);
            u64::from_le_bytes(bytes)
        };
        (word(Self::BEGUN), word(Self::ENDED))
    }
}

/// The page that a busy device writes again and again.
pub(crate) const BUSY_PAGE: usize = DMA_PAGES - 3;

/// A page that no driver uses. It has a content by which the host knows that it looks at the same memory.
pub(crate) const KNOWN_PAGE: usize = DMA_PAGES - 1;

/// How long a device may take for work that takes it at most 100 ms.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until a condition of a device is true. Returns whether it was.
pub(crate) fn until(condition: impl FnMut() -> bool) -> bool {
    wait::until(PATIENCE, condition)
}

/// The page that a round writes through a device.
pub(crate) fn written_page(round: u64) -> [u8; PAGE] {
    pattern(round, 1)
}

/// A page of bytes that no other round has.
pub(super) fn pattern(round: u64, salt: u64) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    fill_page(round, salt, 0, &mut bytes);
    bytes
}

/// Clears the counters of the vectors.
pub(super) fn clear_interrupts(vectors: &[Vector]) {
    for vector in vectors {
        vector.taken();
    }
}

/// Checks that an interrupt has occurred; none without interrupts.
pub(super) fn check_interrupt(what: &'static str, vectors: &[Vector], number: usize) -> Option<Check> {
    let vector = vectors.get(number)?;
    Some(Check::new(what, "came", if vector.wait(PATIENCE.as_secs() as i64) > 0 { "came" } else { "none came" }))
}

/// Checks that data arrived without a difference.
pub(super) fn check_data(what: &'static str, expected: &[u8], observed: &[u8]) -> Check {
    const WHOLE: &str = "every byte";
    let differs = expected.iter().zip(observed).position(|(one, other)| one != other);
    Check::new(what, WHOLE, differs.map_or(WHOLE.to_owned(), |at| format!("byte {at} differs")))
}
