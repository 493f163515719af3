//! QEMU's educational device: docs/specs/edu.rst.

use super::{
    BUSY_PAGE, Busy, DMA_PAGES, Driver, Load, Progress, Rig, Tried, arrived, forget, interrupted, pattern, until,
};
use crate::mapping::{Bar, PAGE};
use crate::vfio::{Interrupt, Refusal};

pub(super) const DRIVER: Driver = Driver {
    device: "edu",
    registers: 0,
    interrupts: Some((Interrupt::Msi, 1)),
    has_dma: true,
    exercise,
    state,
    pages: DMA_PAGES,
    in_one_piece: 0,
    leaves_at: None,
    load: Some(Load::Transfers { run: busy, works_in: &[] }),
};

const LIVENESS: usize = 0x04;
const STATUS_INTERRUPT: usize = 0x24;
const ACKNOWLEDGE: usize = 0x64;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
const INTERRUPT: u64 = 4;
/// Where its own buffer is, for its DMA alone.
const BUFFER: u64 = 0x40000;
/// How much is moved at a time. The buffer has a page, but QEMU up to 9 aborts at a transfer that reaches its end
/// (hw/misc/edu.c, edu_check_range).
const LENGTH: usize = PAGE - 8;

/// Memory into its buffer, and out of it into another page.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Tried>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    rig.device.set_bus_master()?;
    let liveness = 0x5a5a_0000 | round as u32 & 0xffff;
    bar.write32(LIVENESS, liveness);
    let mut tried = vec![Tried::new("registers", format!("{:#x}", !liveness), format!("{:#x}", bar.read32(LIVENESS)))];

    let page = &pattern(round, 1)[..LENGTH];
    rig.dma.memory.fill(0, page);
    rig.dma.memory.fill(PAGE, &[0; PAGE]);
    forget(&rig.vectors);
    transfer(&bar, rig.dma.iova(0), BUFFER, START);
    let read = until(|| bar.read64(COMMAND) & START == 0);
    let with_interrupt = if rig.vectors.is_empty() { 0 } else { INTERRUPT };
    transfer(&bar, BUFFER, rig.dma.iova(PAGE), START | TO_MEMORY | with_interrupt);
    let written = read && until(|| bar.read64(COMMAND) & START == 0);
    if written {
        let mut seen = [0; LENGTH];
        rig.dma.memory.read(PAGE, &mut seen);
        tried.push(arrived("DMA", page, &seen));
    } else {
        tried.push(Tried::new("DMA", "done", "not done"));
    }
    tried.extend(interrupted("interrupt", &rig.vectors, 0));
    bar.write32(ACKNOWLEDGE, bar.read32(STATUS_INTERRUPT));
    Ok(tried)
}

fn transfer(bar: &Bar, from: u64, to: u64, command: u64) {
    bar.write64(SOURCE, from);
    bar.write64(DESTINATION, to);
    bar.write64(COUNT, LENGTH as u64);
    bar.write64(COMMAND, command);
}

fn state(_: &[u8], bar: &Bar) -> Vec<(&'static str, u64)> {
    vec![
        ("liveness", u64::from(bar.read32(LIVENESS))),
        ("DMA source", bar.read64(SOURCE)),
        ("DMA destination", bar.read64(DESTINATION)),
        ("DMA count", bar.read64(COUNT)),
    ]
}

/// One transfer of 100 ms after the other, each into a page that was cleared before.
fn busy(bar: Bar, mut busy: Busy) {
    let at = BUSY_PAGE * PAGE;
    for count in 1.. {
        busy.memory.fill(at, &[0; PAGE]);
        Progress::begin(&mut busy.memory, count);
        transfer(&bar, BUFFER, busy.iova(at), START | TO_MEMORY);
        while bar.read64(COMMAND) & START != 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Progress::end(&mut busy.memory, count);
    }
}
