//! QEMU's educational device: docs/specs/edu.rst.

use super::driver::{
    BUSY_PAGE, BusyMemory, Check, DMA_PAGES, Driver, Load, Rig, TransferCounts, check_data, check_interrupt,
    clear_interrupts, pattern, until,
};
use crate::mapping::{Bar, PAGE};
use crate::vfio::{Interrupt, Refusal};
use luqual_program::edu::{
    ACKNOWLEDGE, BUFFER, COMMAND, COUNT, DESTINATION, INTERRUPT, LIVENESS, MOVED, SOURCE, START, STATUS_INTERRUPT,
    TO_MEMORY,
};

pub(super) const DRIVER: Driver = Driver {
    device: luqual_protocol::Device::Edu,
    registers: 0,
    interrupts: Some((Interrupt::Msi, 1)),
    has_dma: true,
    exercise,
    state,
    pages: DMA_PAGES,
    contiguous_pages: 0,
    page_in_file: None,
    load: Some(Load::Transfers { run: busy, works_in: &[] }),
};

/// Has the device copy a page of memory into its buffer, and from there into another page.
fn exercise(rig: &Rig, round: u64) -> Result<Vec<Check>, Refusal> {
    let bar = rig.device.bar(DRIVER.registers)?;
    rig.device.set_bus_master()?;
    let liveness = 0x5a5a_0000 | round as u32 & 0xffff;
    bar.write32(LIVENESS, liveness);
    let mut checks = vec![Check::new("registers", format!("{:#x}", !liveness), format!("{:#x}", bar.read32(LIVENESS)))];

    let page = &pattern(round, 1)[..MOVED];
    rig.dma.memory.fill(0, page);
    rig.dma.memory.fill(PAGE, &[0; PAGE]);
    clear_interrupts(&rig.vectors);
    transfer(&bar, rig.dma.iova(0), BUFFER, START);
    let read = until(|| bar.read64(COMMAND) & START == 0);
    let with_interrupt = if rig.vectors.is_empty() { 0 } else { INTERRUPT };
    transfer(&bar, BUFFER, rig.dma.iova(PAGE), START | TO_MEMORY | with_interrupt);
    let written = read && until(|| bar.read64(COMMAND) & START == 0);
    if written {
        let mut seen = [0; MOVED];
        rig.dma.memory.read(PAGE, &mut seen);
        checks.push(check_data("DMA", page, &seen));
    } else {
        checks.push(Check::new("DMA", "done", "not done"));
    }
    checks.extend(check_interrupt("interrupt", &rig.vectors, 0));
    bar.write32(ACKNOWLEDGE, bar.read32(STATUS_INTERRUPT));
    Ok(checks)
}

fn transfer(bar: &Bar, from: u64, to: u64, command: u64) {
    bar.write64(SOURCE, from);
    bar.write64(DESTINATION, to);
    bar.write64(COUNT, MOVED as u64);
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

/// Starts one transfer of 100 ms after the other, each into the page that was cleared before.
fn busy(bar: Bar, mut busy: BusyMemory) {
    let at = BUSY_PAGE * PAGE;
    for count in 1.. {
        busy.memory.fill(at, &[0; PAGE]);
        TransferCounts::begin(&mut busy.memory, count);
        transfer(&bar, BUFFER, busy.iova(at), START | TO_MEMORY);
        while bar.read64(COMMAND) & START != 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        TransferCounts::end(&mut busy.memory, count);
    }
}
