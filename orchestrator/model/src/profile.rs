//! Machine profiles: the machines that cells run on, as data. The file format is in the head of
//! orchestrator/config/machines.toml.

use crate::arch::ARCH;
use crate::device::Device;
use crate::iommu::Iommu;
use crate::pci::PciAddress;
use crate::settings::Append;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// A summary in one line.
    pub summary: String,
    /// QEMU's machine type.
    pub machine: String,
    /// QEMU's CPU model, with its properties.
    pub cpu: String,
    /// The number of processors.
    pub cpus: u32,
    /// The number of sockets that they are in.
    pub sockets: u32,
    /// Memory in MiB, in files that the host can read.
    pub memory_mib: u64,
    /// The NUMA nodes; empty for a machine without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// The IOMMU.
    pub iommu: Iommu,
    /// The topology of the devices.
    pub bus: Bus,
    /// Devices, besides those of every machine (network, randomness, pvpanic).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Further arguments of QEMU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qemu: Vec<String>,
    /// Options for the kernels' command lines.
    #[serde(default, skip_serializing_if = "Append::is_empty")]
    pub append: Append,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Memory in MiB; 0 for a node without memory.
    pub memory_mib: u64,
    /// The numbers of its processors, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
}

/// The topology of a profile's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// On the root complex, each in a slot of its own.
    Root,
    /// Each behind a PCI Express root port of its own, where it can be unplugged.
    RootPort,
    /// All behind one PCI Express to PCI bridge, and so in one IOMMU group.
    Bridge,
    /// All in one slot of the root complex, as functions without ACS between them, and so in one IOMMU group.
    OneSlot,
}

impl Bus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::RootPort, Self::Bridge, Self::OneSlot];

    /// The word in matrix files and records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::RootPort => "root-port",
            Self::Bridge => "bridge",
            Self::OneSlot => "one-slot",
        }
    }

    /// Whether a device can be unplugged from it while the machine runs.
    pub const fn can_unplug(self) -> bool {
        matches!(self, Self::RootPort)
    }

    /// Whether all devices are in one IOMMU group.
    pub const fn is_one_group(self) -> bool {
        matches!(self, Self::Bridge | Self::OneSlot)
    }

    /// The requester id by which an IOMMU knows the device at an address on it. A bridge from PCI Express takes the
    /// transactions of the devices behind it over, as slot 0 of its secondary bus (PCI Express to PCI/PCI-X Bridge
    /// Specification 1.0, 2.3; QEMU hw/pci/pci.c, pci_device_iommu_address_space()).
    pub const fn requester_of(self, address: PciAddress) -> PciAddress {
        match self {
            Self::Bridge => PciAddress { bus: address.bus, slot: 0, function: 0 },
            Self::Root | Self::RootPort | Self::OneSlot => address,
        }
    }
}

impl Profile {
    /// What it has, in one line.
    pub fn in_words(&self) -> String {
        let Self { memory_mib, cpus, cpu, machine, .. } = self;
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("{} MiB", node.memory_mib)).collect();
        let nodes = if nodes.is_empty() { String::new() } else { format!(" in nodes of {}", nodes.join(" and ")) };
        let more = Some(&self.qemu).filter(|qemu| !qemu.is_empty()).map(|qemu| format!(", QEMU {}", qemu.join(" ")));
        let iommu = self.iommu.word();
        format!(
            "{machine}, {cpus} processors {cpu}, {memory_mib} MiB{nodes}, IOMMU {iommu}{}",
            more.unwrap_or_default()
        )
    }

    /// The device of that name, if the machine has it.
    pub fn device(&self, id: &str) -> Option<Device> {
        self.devices.iter().copied().find(|device| device.id() == id)
    }

    /// Whether no socket is in two nodes. A kernel warns of such a machine (arch/x86/kernel/smpboot.c, topology_sane()).
    fn has_sane_nodes(&self) -> bool {
        let of_socket = (self.cpus / self.sockets.max(1)).max(1);
        let sockets_of = |node: &Node| node.cpus.iter().map(|cpu| cpu / of_socket).collect::<BTreeSet<u32>>();
        let mut seen = BTreeSet::new();
        self.nodes.iter().flat_map(sockets_of).all(|socket| seen.insert(socket))
    }

    /// What is wrong with it, and what is right; `None` if nothing is. A profile from a file or from a record of somebody else
    /// is checked by this.
    pub fn mistake(&self) -> Option<String> {
        let mut in_nodes: Vec<u32> = self.nodes.iter().flat_map(|node| node.cpus.iter().copied()).collect();
        in_nodes.sort_unstable();
        let of_nodes: u64 = self.nodes.iter().map(|node| node.memory_mib).fold(0, u64::saturating_add);
        let mistakes = [
            // The name is a part of the names of cells and of their folders.
            (
                !is_name(&self.name),
                format!(
                    "the name of a machine has up to {NAME} lower-case letters, digits, `-` and `.`, and starts with a letter"
                ),
            ),
            (!is_line(&self.summary), "`summary` is one line of at most 200 characters".to_owned()),
            (
                !ARCH.machine.is_type(&self.machine) || !is_word(&self.machine, "-."),
                format!("`type` is {}, not `{}`", ARCH.machine.types, self.machine),
            ),
            (
                self.cpu.is_empty() || !is_word(&self.cpu, "-._+=,"),
                format!("`cpu` is a model of QEMU's with properties, such as max,la57=off, not `{}`", self.cpu),
            ),
            (!(1..=CPUS).contains(&self.cpus), format!("`cpus` is 1 to {CPUS}, not {}", self.cpus)),
            (
                !self.cpus.is_multiple_of(self.sockets),
                format!("{} sockets cannot have {} processors in equal parts", self.sockets, self.cpus),
            ),
            (
                !(LEAST_MIB..=MOST_MIB).contains(&self.memory_mib),
                format!("a machine has {LEAST_MIB} MiB to {MOST_MIB} MiB of memory, not {} MiB", self.memory_mib),
            ),
            (self.nodes.len() > NODES, format!("a machine has at most {NODES} nodes, not {}", self.nodes.len())),
            (
                !self.nodes.is_empty() && of_nodes != self.memory_mib,
                format!("the nodes have {of_nodes} MiB together, and the machine has {} MiB", self.memory_mib),
            ),
            (
                !self.nodes.is_empty() && !in_nodes.iter().copied().eq(0..self.cpus),
                format!("each of the processors 0 to {} is in one node", self.cpus.saturating_sub(1)),
            ),
            (
                !self.has_sane_nodes(),
                format!("the processors of a socket are in one node; there are {} sockets", self.sockets),
            ),
            (
                Device::ALL.into_iter().any(|device| self.devices.iter().filter(|it| **it == device).count() > 1),
                "a machine has each device once".to_owned(),
            ),
            (
                !self.qemu.iter().all(|word| is_line(word)),
                "an argument of QEMU is one line of at most 200 characters".to_owned(),
            ),
            (
                ![&self.append.source, &self.append.target].into_iter().all(|options| is_options(options)),
                "options of a kernel are printable ASCII, separated by spaces".to_owned(),
            ),
        ];
        mistakes.into_iter().find(|(is_wrong, _)| *is_wrong).map(|(_, why)| why)
    }
}

/// The limits of a machine. With less memory a kernel and its initramfs do not fit twice.
const LEAST_MIB: u64 = 256;
const MOST_MIB: u64 = 1 << 20;
const CPUS: u32 = 64;
const NODES: usize = 8;
const NAME: usize = 40;

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    text.len() <= NAME && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_plain)
}

fn is_word(text: &str, more: &str) -> bool {
    text.len() <= 200 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn is_line(text: &str) -> bool {
    text.chars().count() <= 200 && !text.chars().any(char::is_control)
}

/// Whether a text can be a part of a kernel's command line: a kernel ends the line at a control character, or takes it for a
/// part of an option.
pub fn is_options(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Profile {
        Profile {
            name: "q35-two".into(),
            summary: String::new(),
            machine: "q35".into(),
            cpu: "max".into(),
            cpus: 2,
            sockets: 1,
            memory_mib: 1024,
            nodes: Vec::new(),
            iommu: Iommu::Intel,
            bus: Bus::Root,
            devices: vec![Device::Edu],
            qemu: Vec::new(),
            append: Append::default(),
        }
    }

    #[test]
    fn words_are_those_of_records() {
        for bus in Bus::ALL {
            assert_eq!(serde_json::to_value(bus).unwrap(), bus.word());
        }
    }

    #[test]
    fn each_mistake_is_told() {
        let node = |memory_mib, cpus: &[u32]| Node { memory_mib, cpus: cpus.to_vec() };
        let nodes = |nodes: &[Node]| Profile { nodes: nodes.to_vec(), ..plain() };
        let right = [
            plain(),
            Profile { cpus: 4, sockets: 2, cpu: "max,la57=off".into(), machine: "pc-q35-7.2".into(), ..plain() },
            Profile { sockets: 2, ..nodes(&[node(512, &[0]), node(512, &[1])]) },
            nodes(&[node(1024, &[0, 1]), node(0, &[])]),
        ];
        assert_eq!(right.map(|profile| profile.mistake()), [const { None }; 4]);
        for (wrong, told) in [
            (Profile { name: "../q35".into(), ..plain() }, "the name of a machine"),
            (Profile { name: "a_b".into(), ..plain() }, "the name of a machine"),
            (Profile { machine: "q35,firmware=/etc/passwd".into(), ..plain() }, "`type` is q35"),
            (Profile { machine: "microvm".into(), ..plain() }, "`type` is q35"),
            (Profile { cpu: "max -drive".into(), ..plain() }, "`cpu` is a model"),
            (Profile { cpus: 0, ..plain() }, "`cpus` is 1 to 64"),
            (Profile { sockets: 3, ..plain() }, "3 sockets cannot have 2 processors"),
            (Profile { sockets: 0, ..plain() }, "0 sockets"),
            (Profile { memory_mib: 64, ..plain() }, "a machine has 256 MiB to"),
            (nodes(&[node(512, &[0]), node(256, &[1])]), "the nodes have 768 MiB together"),
            (nodes(&[node(u64::MAX, &[0]), node(1025, &[1])]), "the nodes have"),
            (nodes(&[node(512, &[0, 1]), node(512, &[1])]), "each of the processors 0 to 1"),
            (nodes(&[node(512, &[0]), node(512, &[])]), "each of the processors 0 to 1"),
            (nodes(&[node(512, &[0, 0]), node(512, &[])]), "each of the processors 0 to 1"),
            (nodes(&[node(512, &[0]), node(512, &[1])]), "the processors of a socket are in one node"),
            // A record of somebody else's, which must not take long.
            (Profile { sockets: u32::MAX, cpus: u32::MAX, ..nodes(&[node(1024, &[0])]) }, "`cpus` is 1 to 64"),
            (Profile { devices: vec![Device::Edu, Device::Edu], ..plain() }, "a machine has each device once"),
            (Profile { qemu: vec!["-a\n".into()], ..plain() }, "an argument of QEMU"),
            (
                Profile { append: Append { source: "a\nb".into(), ..Append::default() }, ..plain() },
                "options of a kernel",
            ),
        ] {
            let mistake = wrong.mistake().unwrap_or_default();
            assert!(mistake.starts_with(told), "{mistake}, not {told}");
        }
    }
}
