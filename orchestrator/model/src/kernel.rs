use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Something a kernel can do as a part in a live update, found from its configuration, never from its name. Options count
/// when they are built in: luqual boots an image without modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// Kexec HandOver: `CONFIG_KEXEC_HANDOVER`.
    Kho,
    /// The Live Update Orchestrator: `CONFIG_LIVEUPDATE`.
    Luo,
    /// PCI devices for userspace: `CONFIG_VFIO` and `CONFIG_VFIO_PCI`.
    Vfio,
    /// iommufd and a driver for an IOMMU that QEMU emulates: `CONFIG_IOMMUFD` with one of
    /// `CONFIG_INTEL_IOMMU`, `CONFIG_AMD_IOMMU`, `CONFIG_VIRTIO_IOMMU`.
    Iommu,
    /// Virtual machines inside the guest: `CONFIG_KVM_AMD` or `CONFIG_KVM_INTEL`.
    Kvm,
}

impl Ability {
    /// Every ability, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Kho, Self::Luo, Self::Vfio, Self::Iommu, Self::Kvm];

    /// The field's short name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kho => "KHO",
            Self::Luo => "LUO",
            Self::Vfio => "VFIO",
            Self::Iommu => "IOMMU",
            Self::Kvm => "KVM",
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What the record says of a kernel. `None` means unknown, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelInfo {
    /// The name by which cells refer to it: a catalog version, or the path that was given.
    pub name: String,
    /// What `uname -r` will say, read from the image.
    pub release: String,
    /// The GNU build id in `/sys/kernel/notes`, as hex.
    pub build_id: Option<String>,
    /// The digest of the bzImage, as hex.
    pub image_sha256: String,
    /// Where it comes from, in one line.
    pub provenance: String,
    /// Every ABI string in the image, such as `kho-v4`, sorted.
    pub abi: Option<Vec<String>>,
    /// What it can do, from its configuration.
    pub abilities: Option<BTreeSet<Ability>>,
    /// What the catalog asks to be on its command line.
    pub command_line: String,
    /// What was applied to its source, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Whatever else is worth reading in a report: compiler, build time, sizes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl KernelInfo {
    /// Whether it boots as that one: the same image, told the same.
    pub fn boots_as(&self, other: &Self) -> bool {
        (&self.image_sha256, &self.command_line) == (&other.image_sha256, &other.command_line)
    }
}

/// A patch that a kernel carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Patch {
    /// What its author calls it, in one line.
    pub subject: String,
    /// The digest of what was applied, as hex; the message and who wrote it are not in it.
    pub sha256: String,
}

/// A "no" from a kernel: which call, which errno, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// The call as a kernel reader would name it, such as `ioctl LIVEUPDATE_SESSION_PRESERVE_FD`; of a workload that is a
    /// program, its name.
    pub call: String,
    /// The errno's name, such as `EINVAL`; of a program, how it ended.
    pub errno: String,
    /// What the call was about, such as `memfd 64m`.
    pub about: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.call, self.errno, self.about)
    }
}
