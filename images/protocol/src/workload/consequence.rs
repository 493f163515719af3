//! What a failing workload means to who runs hosts.

use super::Workload;

/// What is lost if a workload fails; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// A virtual machine does not go on, or loses its device.
    MachineLost,
    /// Somebody reaches what is another's, or a device reaches memory that is not its own.
    IsolationBroken,
    /// Content is lost or wrong.
    DataLost,
    /// Something behaves otherwise than before, and no content is lost.
    PropertyChanged,
    /// Memory, names or descriptors are not given back.
    ResourceLeaked,
    /// An update of this size, or made in this way, is not possible.
    LimitReached,
}

impl Consequence {
    /// All of them, the worst first.
    pub const ALL: [Self; 6] = [
        Self::MachineLost,
        Self::IsolationBroken,
        Self::DataLost,
        Self::PropertyChanged,
        Self::ResourceLeaked,
        Self::LimitReached,
    ];

    /// The words in pages and matrix files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MachineLost => "machine lost",
            Self::IsolationBroken => "isolation broken",
            Self::DataLost => "data lost",
            Self::PropertyChanged => "property changed",
            Self::ResourceLeaked => "resource leaked",
            Self::LimitReached => "limit reached",
        }
    }
}

/// The workloads whose failure is something else than that of most of their family.
const OTHERS: &[(Consequence, &[&str])] = &[
    (Consequence::MachineLost, &["lifecycle.hundred", "lifecycle.ten-times", "lifecycle.there-and-back"]),
    (
        Consequence::IsolationBroken,
        &[
            "luo.device-mode",
            "luo.cloexec",
            "luo.token-64-bit",
            "luo.name-prefix",
            "luo.name-longest",
            "memfd.access-mode",
            "memfd.exec-mode",
            "memfd.owner",
            "memfd.private-copy",
            "memfd.seals",
            "memfd.seals-enforced",
            "memfd.seal-after",
            "memfd.seal-exec",
            "memfd.tail",
            "pci.acs",
            "pci.groups",
        ],
    ),
    (
        Consequence::DataLost,
        &[
            "broker.restarted",
            "broker.own-memfd",
            "broker.flood",
            "luo.dirty-memory",
            "luo.fd-closed",
            "luo.fd-limit",
            "luo.finish-in-source",
            "luo.finish-partial",
            "luo.fuzz",
            "luo.preserve-after-close",
            "luo.preserve-in-target",
            "luo.recreated",
            "luo.released",
            "luo.response-fd",
            "luo.response-session",
            "luo.retrieve-after-finish",
            "luo.retrieve-any-order",
            "luo.retrieve-failed",
            "luo.retrieve-twice-fd",
            "luo.session-dup",
            "luo.session-closed",
            "luo.session-unknown",
        ],
    ),
    (
        Consequence::PropertyChanged,
        &[
            "memfd.blocks",
            "memfd.frozen",
            "memfd.mlocked",
            "memfd.name",
            "memfd.offset-after",
            "memfd.offset-far",
            "memfd.sealing-allowed",
            "memfd.tmpfs-unlinked",
            "vmm.descriptors",
        ],
    ),
    (
        Consequence::ResourceLeaked,
        &[
            "lifecycle.unclaimed",
            "lifecycle.unpreserved-is-free",
            "luo.close-is-finish",
            "luo.finish-unretrieved",
            "luo.memory-closed",
            "luo.memory-released",
            "luo.response-create",
            "memfd.reclaimable",
        ],
    ),
    (Consequence::LimitReached, &["kexec.scratch-too-small", "memfd.too-large"]),
];

impl Workload {
    /// What it means that it fails.
    pub fn consequence(&self) -> Consequence {
        let other = OTHERS.iter().find(|(_, names)| names.contains(&self.name));
        other.map_or_else(|| of_family(self.family()), |(consequence, _)| *consequence)
    }
}

/// What most workloads of a family find. Programs of the user are taken for data.
fn of_family(family: &str) -> Consequence {
    match family {
        "kexec" | "vmm" => Consequence::MachineLost,
        "broker" | "vfio" => Consequence::IsolationBroken,
        "luo" | "pci" => Consequence::PropertyChanged,
        "scale" => Consequence::LimitReached,
        _ => Consequence::DataLost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{find, workloads};

    #[test]
    fn each_name_is_that_of_one_workload_and_differs_from_its_family() {
        let names: Vec<&str> = OTHERS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for (number, name) in names.iter().enumerate() {
            assert!(!names[..number].contains(name), "{name} is there twice");
            let workload = find(name).unwrap_or_else(|| panic!("there is no {name}"));
            assert_ne!(workload.consequence(), of_family(workload.family()), "{name} is as its family");
        }
        assert!(Consequence::ALL.is_sorted());
        for consequence in Consequence::ALL {
            assert!(workloads().any(|workload| workload.consequence() == consequence), "{}", consequence.word());
        }
    }
}
