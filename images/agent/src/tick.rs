//! Ticks: a counter in a page whose physical address the host knows. Ticks need no device, so they go on as long as a processor
//! runs userspace, also through the device shutdown of a kexec.

use crate::mapping::Mapping;
use luqual_protocol::{TICK_PERIOD_MS, tick_page};
use std::time::Duration;

/// The file with the physical address of the page, as decimal text. It appears after the first tick.
pub(crate) const ADDRESS_FILE: &str = "/run/luqual/tick-page";

/// `luqual-agent tick`: ticks for ever.
pub(crate) fn run() -> Result<(), String> {
    let mut page = Mapping::locked_page().map_err(|error| format!("tick page: {error}"))?;
    let first = monotonic_ns();
    let mut count = 0_u64;
    let mut tick = |page: &mut Mapping| {
        count += 1;
        page.store(tick_page::OFFSET_LAST_NS, monotonic_ns());
        page.store(tick_page::OFFSET_COUNT, count);
    };
    page.store(tick_page::OFFSET_FIRST_NS, first);
    tick(&mut page);
    page.store(tick_page::OFFSET_MAGIC, tick_page::MAGIC);
    let address = page.physical_address(0).map_err(|error| format!("tick page: {error}"))?;
    std::fs::write(ADDRESS_FILE, address.to_string()).map_err(|error| format!("{ADDRESS_FILE}: {error}"))?;
    loop {
        std::thread::sleep(Duration::from_millis(TICK_PERIOD_MS));
        tick(&mut page);
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
