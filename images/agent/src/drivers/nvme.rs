//! An NVMe controller with an admin queue and one I/O queue: NVM Express Base Specification 1.4.

use super::driver::{
    BUSY_PAGE, BusyMemory, Check, DMA_PAGES, Driver, Load, Rig, TransferCounts, check_data, check_interrupt,
    clear_interrupts, until, written_page,
};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::vfio::{Interrupt, Refusal};

pub(super) const DRIVER: Driver = Driver {
    device: luqual_protocol::Device::Nvme,
    registers: 0,
    // One for each queue.
    interrupts: Some((Interrupt::MsiX, 2)),
    has_dma: true,
    exercise,
    state,
    pages: DMA_PAGES,
    contiguous_pages: 0,
    page_in_file: Some(BLOCK as u64 * BLOCK_BYTES),
    load: Some(Load::Transfers { run: busy, works_in: &[IO.submission, IO.completion] }),
};

/// Registers (3.1).
const CAPABILITIES: usize = 0x00;
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const ADMIN_ATTRIBUTES: usize = 0x24;
const ADMIN_SUBMISSION: usize = 0x28;
const ADMIN_COMPLETION: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// Enabled, with entries of 64 and 16 bytes (3.1.5).
const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
const READY: u32 = 1;

/// How many entries each queue has.
const ENTRIES: u32 = 16;

/// The pages of the queues and of the data.
const ADMIN: Places = Places { submission: 0, completion: 1, number: 0 };
const IO: Places = Places { submission: 2, completion: 3, number: 1 };
const IDENTITY: usize = 4;
const WRITTEN: usize = 5;
const READ: usize = 6;

/// Commands (5, 6).
const CREATE_COMPLETION: u32 = 0x05;
const CREATE_SUBMISSION: u32 = 0x01;
const IDENTIFY: u32 = 0x06;
const WRITE_BLOCKS: u32 = 0x01;
const READ_BLOCKS: u32 = 0x02;

/// The first of the eight blocks of a page that is written.
const BLOCK: u32 = 64;
const BLOCK_BYTES: u64 = 512;

#[derive(Clone, Copy)]
struct Places {
    submission: usize,
    completion: usize,
    number: u32,
}

/// A pair of queues.
struct Queue {
    places: Places,
    tail: u32,
    head: u32,
    phase: u16,
    /// The distance between two doorbells in bytes.
    stride: usize,
}

impl Queue {
    fn new(places: Places, bar: &Bar) -> Self {
        let stride = 4 << (bar.read64(CAPABILITIES) >> 32 & 0xf);
        Self { places, tail: 0, head: 0, phase: 1, stride }
    }

    /// Puts a command into the submission queue.
    fn submit(&mut self, bar: &Bar, memory: &Mapping, operation: u32, namespace: u32, data: u64, words: [u32; 3]) {
        let identifier = self.tail << 16;
        let mut entry = [0_u32; 16];
        (entry[0], entry[1]) = (operation | identifier, namespace);
        (entry[6], entry[7]) = (data as u32, (data >> 32) as u32);
        entry[10..13].copy_from_slice(&words);
        let bytes: Vec<u8> = entry.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.fill(self.places.submission * PAGE + self.tail as usize * 64, &bytes);
        self.tail = (self.tail + 1) % ENTRIES;
        bar.write32(DOORBELLS + 2 * self.places.number as usize * self.stride, self.tail);
    }

    /// Whether a completion has come.
    fn has_completion(&self, memory: &Mapping) -> bool {
        self.status(memory) & 1 == self.phase
    }

    fn status(&self, memory: &Mapping) -> u16 {
        (memory.word(self.places.completion * PAGE + self.head as usize * 16 + 12) >> 16) as u16
    }

    /// Consumes a completion. Returns the status field without the phase bit.
    fn complete(&mut self, bar: &Bar, memory: &Mapping) -> u16 {
        let status = self.status(memory) >> 1;
        self.head = (self.head + 1) % ENTRIES;
        if self.head == 0 {
            self.phase ^= 1;
        }
        bar.write32(DOORBELLS + (2 * self.places.number as usize + 1) * self.stride, self.head);
        status
    }

    /// Runs a command to its end.
    fn run(
        &mut self,
        bar: &Bar,
        memory: &Mapping,
        operation: u32,
        namespace: u32,
        data: u64,
        words: [u32; 3],
    ) -> String {
        self.submit(bar, memory, operation, namespace, data, words);
        if !until(|| self.has_completion(memory)) {
            return "no completion".to_owned();
        }
        match self.complete(bar, memory) {
            0 => DONE.to_owned(),
            status => format!("status {status:#x}"),
        }
    }
}

const DONE: &str = "done";

/// Resets the controller, identifies it, writes a page and reads it back.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    rig.device.set_bus_master()?;
    let (memory, dma) = (&rig.dma.memory, &rig.dma);
    bar.write32(CONFIGURATION, 0);
    if !until(|| bar.read32(STATUS) & READY == 0) {
        return Ok(vec![Check::new("disable", "not ready", "ready")]);
    }
    for page in 0..=READ {
        memory.fill(page * PAGE, &[0; PAGE]);
    }
    bar.write32(ADMIN_ATTRIBUTES, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    bar.write64(ADMIN_SUBMISSION, dma.iova(ADMIN.submission * PAGE));
    bar.write64(ADMIN_COMPLETION, dma.iova(ADMIN.completion * PAGE));
    bar.write32(CONFIGURATION, ENABLE);
    if !until(|| bar.read32(STATUS) & READY == READY) {
        return Ok(vec![Check::new("enable", "ready", format!("status {:#x}", bar.read32(STATUS)))]);
    }
    let mut admin = Queue::new(ADMIN, &bar);
    let identified = admin.run(&bar, memory, IDENTIFY, 0, dma.iova(IDENTITY * PAGE), [1, 0, 0]);
    let mut serial = [0; 20];
    memory.read(IDENTITY * PAGE + 4, &mut serial);
    let mut checks = vec![
        Check::new("identify", DONE, identified),
        Check::new("serial number", "luqual", String::from_utf8_lossy(&serial).trim_end()),
    ];
    let sized = (ENTRIES - 1) << 16 | IO.number;
    // Contiguous queues. The completion queue interrupts on vector 1, if at all; the submission queue completes into queue 1.
    let interrupts = if rig.vectors.is_empty() { 0 } else { 1 << 16 | 1 << 1 };
    let made = [
        admin.run(&bar, memory, CREATE_COMPLETION, 0, dma.iova(IO.completion * PAGE), [sized, interrupts | 1, 0]),
        admin.run(&bar, memory, CREATE_SUBMISSION, 0, dma.iova(IO.submission * PAGE), [sized, IO.number << 16 | 1, 0]),
    ];
    checks.push(Check::new("queues", format!("{DONE} {DONE}"), made.join(" ")));

    let mut io = Queue::new(IO, &bar);
    let page = written_page(round);
    memory.fill(WRITTEN * PAGE, &page);
    clear_interrupts(&rig.vectors);
    let end = io.run(&bar, memory, WRITE_BLOCKS, 1, dma.iova(WRITTEN * PAGE), [BLOCK, 0, 7]);
    checks.push(Check::new("write", DONE, end));
    checks.extend(check_interrupt("interrupt", &rig.vectors, 1));
    let read = io.run(&bar, memory, READ_BLOCKS, 1, dma.iova(READ * PAGE), [BLOCK, 0, 7]);
    checks.push(Check::new("read", DONE, read));
    let mut seen = [0; PAGE];
    memory.read(READ * PAGE, &mut seen);
    checks.push(check_data("DMA", &page, &seen));
    Ok(checks)
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    vec![
        ("configuration", u64::from(bar.read32(CONFIGURATION))),
        ("status", u64::from(bar.read32(STATUS))),
        ("admin queue attributes", u64::from(bar.read32(ADMIN_ATTRIBUTES))),
        ("admin submission queue", bar.read64(ADMIN_SUBMISSION)),
        ("admin completion queue", bar.read64(ADMIN_COMPLETION)),
    ]
}

/// Starts one read after the other. The queue continues where [`exercise`] left it, after two commands.
fn busy(bar: Bar, mut busy: BusyMemory) {
    let mut io = Queue { tail: 2, head: 2, ..Queue::new(IO, &bar) };
    let at = BUSY_PAGE * PAGE;
    for count in 1.. {
        busy.memory.fill(at, &[0; PAGE]);
        TransferCounts::begin(&mut busy.memory, count);
        io.submit(&bar, &busy.memory, READ_BLOCKS, 1, busy.iova(at), [BLOCK, 0, 7]);
        while !io.has_completion(&busy.memory) {
            std::thread::yield_now();
        }
        io.complete(&bar, &busy.memory);
        TransferCounts::end(&mut busy.memory, count);
    }
}
