//! `pci.*`: what the kernel makes of the PCI functions of its machine, which no update changes; without VFIO.

use super::manifest::{self, Manifest};
use super::{Case, Scene, StepError};
use crate::pci::{Function, capabilities, extended_capabilities, functions};

pub(super) const CASES: &[Case] = &[
    Case { source: |scene| leave(scene, acs), target: |scene| compare(scene, acs), ..Case::new("pci.acs") },
    Case { source: |scene| leave(scene, ari), target: |scene| compare(scene, ari), ..Case::new("pci.ari") },
    Case { source: |scene| leave(scene, bars), target: |scene| compare(scene, bars), ..Case::new("pci.bars") },
    Case { source: |scene| leave(scene, buses), target: |scene| compare(scene, buses), ..Case::new("pci.buses") },
    Case {
        source: |scene| leave(scene, identity),
        target: |scene| compare(scene, identity),
        ..Case::new("pci.enumeration")
    },
    Case { source: |scene| leave(scene, groups), target: |scene| compare(scene, groups), ..Case::new("pci.groups") },
    Case { source: |scene| leave(scene, windows), target: |scene| compare(scene, windows), ..Case::new("pci.windows") },
];

const TOKEN: u64 = 2;

/// What is asked of a function with that configuration space; nothing where it does not have it.
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

fn leave(scene: &mut Scene, fact: Fact) -> Result<(), StepError> {
    let found = facts(fact)?;
    if found.is_empty() {
        return Err(StepError::Missing("a PCI function that has what is compared".to_owned()));
    }
    let session = scene.session("control")?;
    manifest::leave(scene, &session, TOKEN, &found)
}

fn compare(scene: &mut Scene, fact: Fact) -> Result<(), StepError> {
    let session = scene.session("control")?;
    let Some(before) = manifest::take(scene, &session, TOKEN)? else { return Ok(()) };
    let now = facts(fact)?;
    for (address, text) in &before {
        scene.check(address, text, now.get(address).map_or("not there", String::as_str));
    }
    let added: Vec<&str> = now.keys().filter(|address| !before.contains_key(*address)).map(String::as_str).collect();
    scene.check("functions that were not there", "", added.join(" "));
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

/// What a bridge passes on: I/O, memory, prefetchable memory (the same, 3.2.5.6 to 3.2.5.10).
fn windows(_: &Function, config: &[u8]) -> Option<String> {
    let words = [0x1c, 0x20, 0x24, 0x28, 0x2c].map(|at| word(config, at));
    // The upper half of the first is a status.
    let [io, memory, prefetchable, upper_base, upper_limit] = words;
    is_bridge(config)
        .then(|| format!("{:04x} {memory:08x} {prefetchable:08x} {upper_base:08x} {upper_limit:08x}", io & 0xffff))
}

/// Capabilities and control of access control services (PCI Express Base Specification, 7.7.11).
fn acs(_: &Function, config: &[u8]) -> Option<String> {
    const ACS: u16 = 0x0d;
    let at = extended_capabilities(config).into_iter().find(|(id, _)| *id == ACS)?.1;
    let both = word(config, at + 4);
    Some(format!("can {:#06x} does {:#06x}", both & 0xffff, both >> 16))
}

/// Whether a port forwards to functions of alternative numbers, and whether a function has such a number (PCI Express Base
/// Specification, 7.5.3.16 and 7.8.8).
fn ari(_: &Function, config: &[u8]) -> Option<String> {
    const EXPRESS: u8 = 0x10;
    const ARI: u16 = 0x0e;
    let express = capabilities(config).into_iter().find(|(id, _)| *id == EXPRESS)?.1;
    let forwards = word(config, express + 0x28) >> 5 & 1;
    let next = extended_capabilities(config).into_iter().find(|(id, _)| *id == ARI).map(|(_, at)| word(config, at + 4));
    Some(format!("forwards {forwards}, next {}", next.map_or("none".to_owned(), |next| format!("{next:#x}"))))
}

/// The functions of its IOMMU group.
fn groups(function: &Function, _: &[u8]) -> Option<String> {
    let members = std::fs::read_dir(function.path("iommu_group/devices")).ok()?;
    let mut members: Vec<String> =
        members.flatten().map(|member| member.file_name().to_string_lossy().into_owned()).collect();
    members.sort_unstable();
    Some(members.join(" "))
}
