//! `pci.*`: how the kernel sees the PCI functions of the machine, which an update must not change; without VFIO.

use super::manifest::{self, Manifest};
use crate::pci::{Function, capabilities, extended_capabilities, functions};
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;

pub(super) const CASES: &[Case] = &[
    Case { source: |context| preserve(context, acs), target: |context| compare(context, acs), ..Case::new("pci.acs") },
    Case { source: |context| preserve(context, ari), target: |context| compare(context, ari), ..Case::new("pci.ari") },
    Case {
        source: |context| preserve(context, bars),
        target: |context| compare(context, bars),
        ..Case::new("pci.bars")
    },
    Case {
        source: |context| preserve(context, buses),
        target: |context| compare(context, buses),
        ..Case::new("pci.buses")
    },
    Case {
        source: |context| preserve(context, identity),
        target: |context| compare(context, identity),
        ..Case::new("pci.enumeration")
    },
    Case {
        source: |context| preserve(context, groups),
        target: |context| compare(context, groups),
        ..Case::new("pci.groups")
    },
    Case {
        source: |context| preserve(context, windows),
        target: |context| compare(context, windows),
        ..Case::new("pci.windows")
    },
];

const TOKEN: u64 = 2;

/// A fact about a function with this configuration space; none if the function does not have it.
type Fact = fn(&Function, &[u8]) -> Option<String>;

fn facts(fact: Fact) -> Result<Manifest, StepError> {
    let mut found = Manifest::new();
    for function in functions().map_err(StepError::Agent)? {
        let config = function.config().map_err(StepError::Agent)?;
        if let Some(text) = fact(&function, &config) {
            found.insert(function.address, text);
        }
    }
    Ok(found)
}

fn preserve(context: &mut Context, fact: Fact) -> Result<(), StepError> {
    let found = facts(fact)?;
    if found.is_empty() {
        return Err(StepError::Missing("a PCI function that has what is compared".to_owned()));
    }
    let session = context.session("control")?;
    manifest::preserve(context, &session, TOKEN, &found)
}

fn compare(context: &mut Context, fact: Fact) -> Result<(), StepError> {
    let session = context.session("control")?;
    let Some(before) = manifest::retrieve(context, &session, TOKEN)? else { return Ok(()) };
    let now = facts(fact)?;
    for (address, text) in &before {
        context.check(address, text, now.get(address).map_or("not there", String::as_str));
    }
    let added: Vec<&str> = now.keys().filter(|address| !before.contains_key(*address)).map(String::as_str).collect();
    context.check("functions that were not there", "", added.join(" "));
    Ok(())
}

fn word(config: &[u8], at: usize) -> u32 {
    config.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn identity(function: &Function, config: &[u8]) -> Option<String> {
    let class = function.text("class").ok()?;
    let header = word(config, 0x0c) >> 16 & 0xff;
    Some(format!("{:08x} class {class} header {header:#04x} subsystem {:08x}", word(config, 0), word(config, 0x2c)))
}

fn bars(function: &Function, _: &[u8]) -> Option<String> {
    let bars = function.resources().ok()?;
    let bars: Vec<String> = bars.iter().map(|bar| format!("{}: {:#x}-{:#x}", bar.number, bar.start, bar.end)).collect();
    (!bars.is_empty()).then(|| bars.join(", "))
}

/// Whether the function is a bridge (PCI Local Bus Specification 3.0, 6.2.1).
fn is_bridge(config: &[u8]) -> bool {
    word(config, 0x0c) >> 16 & 0x7f == 1
}

/// Primary, secondary and subordinate bus (PCI-to-PCI Bridge Architecture Specification 1.2, 3.2.5).
fn buses(_: &Function, config: &[u8]) -> Option<String> {
    let [primary, secondary, subordinate, _] = word(config, 0x18).to_le_bytes();
    is_bridge(config).then(|| format!("on {primary}, to {secondary}-{subordinate}"))
}

/// The windows of a bridge: I/O, memory, prefetchable memory (the same, 3.2.5.6 to 3.2.5.10).
fn windows(_: &Function, config: &[u8]) -> Option<String> {
    let words = [0x1c, 0x20, 0x24, 0x28, 0x2c].map(|at| word(config, at));
    // The upper half of the first word is a status.
    let [io, memory, prefetchable, upper_base, upper_limit] = words;
    is_bridge(config)
        .then(|| format!("{:04x} {memory:08x} {prefetchable:08x} {upper_base:08x} {upper_limit:08x}", io & 0xffff))
}

/// Access control services: capability and control (PCI Express Base Specification, 7.7.11).
fn acs(_: &Function, config: &[u8]) -> Option<String> {
    const ACS: u16 = 0x0d;
    let at = extended_capabilities(config).into_iter().find(|(id, _)| *id == ACS)?.1;
    let both = word(config, at + 4);
    Some(format!("can {:#06x} does {:#06x}", both & 0xffff, both >> 16))
}

/// Alternative routing-ID interpretation: whether a port forwards it, and the next function of a function (PCI Express Base
/// Specification, 7.5.3.16 and 7.8.8).
fn ari(_: &Function, config: &[u8]) -> Option<String> {
    const EXPRESS: u8 = 0x10;
    const ARI: u16 = 0x0e;
    let express = capabilities(config).into_iter().find(|(id, _)| *id == EXPRESS)?.1;
    let forwards = word(config, express + 0x28) >> 5 & 1;
    let next = extended_capabilities(config).into_iter().find(|(id, _)| *id == ARI).map(|(_, at)| word(config, at + 4));
    Some(format!("forwards {forwards}, next {}", next.map_or("none".to_owned(), |next| format!("{next:#x}"))))
}

/// The functions in the IOMMU group.
fn groups(function: &Function, _: &[u8]) -> Option<String> {
    let members = std::fs::read_dir(function.path("iommu_group/devices")).ok()?;
    let mut members: Vec<String> =
        members.flatten().map(|member| member.file_name().to_string_lossy().into_owned()).collect();
    members.sort_unstable();
    Some(members.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_was_lost_is_no_failure_of_the_agent() {
        for case in CASES {
            let mut context = Context::new(case, 0, 1, None);
            assert!(context.verify().is_ok(), "{}", case.name);
        }
    }
}
