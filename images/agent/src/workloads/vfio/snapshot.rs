//! What is compared of a device before and after an update: facts of its PCI function, its registers, and the pages that it
//! reaches.

use crate::drivers::{BUSY_PAGE, DMA_PAGES, Driver, Load, TransferCounts};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::pci::{self, Function};
use crate::workloads::manifest::Manifest;
use luqual_protocol::digest;

/// The facts of a PCI function that an update must not change, by name.
pub(super) const FACTS: [&str; 4] = ["BARs", "IDs", "capabilities", "link"];
/// The name of the registers in the manifest.
pub(super) const STATE: &str = "state";

/// Reads the facts of a function.
pub(super) fn facts(function: &Function) -> Result<Manifest, String> {
    let config = function.config()?;
    let bars: Vec<String> =
        function.resources()?.iter().map(|bar| format!("{}: {:#x}-{:#x}", bar.number, bar.start, bar.end)).collect();
    let capabilities = pci::capabilities(&config).into_iter().map(|(id, at)| format!("{id:#04x}@{at:#x}"));
    let extended = pci::extended_capabilities(&config).into_iter().map(|(id, at)| format!("{id:#06x}@{at:#x}"));
    // Only a PCI Express function has a link.
    let link = |name| function.text(name).unwrap_or_else(|_| "none".to_owned());
    let facts = [
        bars.join(", "),
        format!("{}:{} class {}", function.text("vendor")?, function.text("device")?, function.text("class")?),
        capabilities.chain(extended).collect::<Vec<_>>().join(" "),
        format!("{} x{}", link("current_link_speed"), link("current_link_width")),
    ];
    Ok(FACTS.map(str::to_owned).into_iter().zip(facts).collect())
}

/// The registers that a reset would change, as text.
pub(super) fn state(driver: &Driver, config: &[u8], bar: &Bar) -> String {
    let registers = (driver.state)(config, bar).into_iter().map(|(name, value)| format!("{name} {value:#x}"));
    registers.collect::<Vec<_>>().join(", ")
}

/// The pages that nothing may write from the preservation on.
pub(super) fn quiet_pages(driver: &Driver, busy: bool) -> impl Iterator<Item = usize> {
    let mut works_in: Vec<usize> = Vec::new();
    if let Some(Load::Transfers { works_in: others, .. }) = driver.load.as_ref().filter(|_| busy) {
        works_in.extend(others.iter().copied().chain([BUSY_PAGE, TransferCounts::PAGE]));
    }
    (0..DMA_PAGES).filter(move |page| !works_in.contains(page))
}

/// The name of a page's digest in the manifest.
pub(super) fn page_name(page: usize) -> String {
    format!("page {page}")
}

/// The digest of a page.
pub(super) fn digest_of(memory: &Mapping, page: usize) -> String {
    let mut bytes = [0; PAGE];
    memory.read(page * PAGE, &mut bytes);
    digest(&bytes)
}

/// The observed value for these pages, which have changed.
pub(super) fn changed_pages(changed: &[usize]) -> String {
    match changed {
        [] => "unchanged".to_owned(),
        pages => format!("changed: {}", pages.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// What became of the transfer that was in progress.
pub(super) fn arrival(memory: &Mapping) -> &'static str {
    let (begun, ended) = TransferCounts::read(memory);
    let mut page = [0; PAGE];
    memory.read(BUSY_PAGE * PAGE, &mut page);
    match (begun == ended, page.iter().any(|byte| *byte != 0)) {
        (true, _) => "none was under way",
        (false, true) => "arrived",
        (false, false) => "nothing arrived",
    }
}
