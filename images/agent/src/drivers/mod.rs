//! Small drivers in userspace, one a device: enough to see that it works, to keep it busy, and to tell its state.

mod edu;
mod intel;
mod ivshmem;
mod nvme;
mod testdev;
mod virtio_net;

use crate::mapping::{Bar, Mapping, PAGE};
use crate::vfio::{Device, Dma, Interrupt, Refusal, Vector};
use std::time::Duration;

/// What a device is driven with.
pub(crate) struct Rig {
    pub(crate) device: Device,
    /// The memory that it reaches: as many pages as its driver wants.
    pub(crate) dma: Dma,
    /// The vectors that it interrupts by; none where interrupts are off.
    pub(crate) vectors: Vec<Vector>,
}

/// How much memory a driver is given at least.
pub(crate) const DMA_PAGES: usize = 64;

/// One thing that a device should do.
pub(crate) struct Tried {
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) observed: String,
}

impl Tried {
    fn new(what: &'static str, expected: impl ToString, observed: impl ToString) -> Self {
        Self { what, expected: expected.to_string(), observed: observed.to_string() }
    }
}

/// What there is to know of a device, and how it is made to work.
pub(crate) struct Driver {
    /// As profiles and workloads name it.
    pub(crate) device: &'static str,
    /// The BAR with its registers.
    pub(crate) registers: u32,
    /// How it interrupts, and by how many vectors, if it can.
    pub(crate) interrupts: Option<(Interrupt, usize)>,
    /// Whether it reads and writes memory by itself.
    pub(crate) has_dma: bool,
    /// Puts it to work from whatever state it is in, and says what of it works. `round` tells one call from another.
    pub(crate) exercise: fn(&Rig, round: u64) -> Result<Vec<Tried>, Refusal>,
    /// The registers that a reset would change, by name; reading them changes nothing. What is in the BAR may depend on the
    /// configuration space, of which it is given the first 256 bytes at least.
    pub(crate) state: fn(&[u8], &Bar) -> State,
    /// The pages of memory that it wants: [`DMA_PAGES`] and those behind them.
    pub(crate) pages: usize,
    /// How many of those behind have to be physically in one piece.
    pub(crate) in_one_piece: usize,
    /// Where [`Driver::exercise`] leaves a page of [`written`] in the host's file behind it, in bytes, if it does.
    pub(crate) leaves_at: Option<u64>,
    /// How it is kept busy, if it can be.
    pub(crate) load: Option<Load>,
}

/// Registers by name.
pub(crate) type State = Vec<(&'static str, u64)>;

/// How a device is kept busy.
pub(crate) enum Load {
    /// By a thread of the source, for ever: transfers into [`BUSY_PAGE`], of which [`Progress`] tells.
    Transfers {
        run: fn(Bar, Busy),
        /// The pages that it writes into besides.
        works_in: &'static [usize],
    },
    /// By numbered frames of the host's.
    Frames {
        /// Has it receive them into the pages from [`DMA_PAGES`] on.
        listen: fn(&Rig) -> Result<(), Refusal>,
        /// The numbers of those that are there.
        heard: fn(&Mapping) -> Vec<u32>,
    },
}

pub(crate) const DRIVERS: [&Driver; 8] = [
    &edu::DRIVER,
    &intel::E1000E,
    &intel::IGB,
    &ivshmem::DOORBELL,
    &ivshmem::PLAIN,
    &nvme::DRIVER,
    &testdev::DRIVER,
    &virtio_net::DRIVER,
];

/// The driver of that device.
pub(crate) fn find(device: &str) -> Option<&'static Driver> {
    DRIVERS.into_iter().find(|driver| driver.device == device)
}

/// The memory of a rig for a thread that keeps its device busy.
pub(crate) struct Busy {
    pub(crate) memory: Mapping,
    pub(crate) iova: Vec<u64>,
}

impl Busy {
    fn iova(&self, offset: usize) -> u64 {
        self.iova[offset / PAGE] + (offset % PAGE) as u64
    }
}

/// Where a busy device's thread tells what it is at, at the start of its page: how many transfers it has begun and how many it
/// has seen the end of.
pub(crate) struct Progress;

impl Progress {
    /// The page in the memory of a rig.
    pub(crate) const PAGE: usize = DMA_PAGES - 2;
    const BEGUN: usize = Self::PAGE * PAGE;
    const ENDED: usize = Self::BEGUN + 8;

    /// Nothing was begun yet.
    pub(crate) fn clear(memory: &Mapping) {
        memory.fill(Self::BEGUN, &[0; 16]);
    }

    fn begin(memory: &mut Mapping, count: u64) {
        memory.store(Self::BEGUN as u64, count);
    }

    fn end(memory: &mut Mapping, count: u64) {
        memory.store(Self::ENDED as u64, count);
    }

    /// What was begun and what was ended.
    pub(crate) fn read(memory: &Mapping) -> (u64, u64) {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            memory.read(at, &mut bytes);
            u64::from_le_bytes(bytes)
        };
        (word(Self::BEGUN), word(Self::ENDED))
    }
}

/// The page that a busy device writes into, over and over.
pub(crate) const BUSY_PAGE: usize = DMA_PAGES - 3;

/// How long a device may take for what takes it 100 ms at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until something of a device is so.
pub(crate) fn until(so: impl FnMut() -> bool) -> bool {
    crate::wait::until(PATIENCE, so)
}

/// What a round writes through a device.
pub(crate) fn written(round: u64) -> [u8; PAGE] {
    pattern(round, 1)
}

/// A page of bytes that are no other round's.
fn pattern(round: u64, salt: u64) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    crate::content::fill_page(round, salt, 0, &mut bytes);
    bytes
}

/// Forgets the interrupts that came before.
fn forget(vectors: &[Vector]) {
    for vector in vectors {
        vector.taken();
    }
}

/// What came of an interrupt that should have come.
fn interrupted(what: &'static str, vectors: &[Vector], number: usize) -> Option<Tried> {
    let vector = vectors.get(number)?;
    Some(Tried::new(what, "came", if vector.wait(PATIENCE.as_secs() as i64) > 0 { "came" } else { "none came" }))
}

/// Whether a page has come over whole.
fn arrived(what: &'static str, expected: &[u8], observed: &[u8]) -> Tried {
    const WHOLE: &str = "every byte";
    let differs = expected.iter().zip(observed).position(|(one, other)| one != other);
    Tried::new(what, WHOLE, differs.map_or(WHOLE.to_owned(), |at| format!("byte {at} differs")))
}
