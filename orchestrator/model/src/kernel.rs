use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Something that a kernel can do in a live update. It is read from the kernel's configuration, never from its name.
/// An option counts if it is built in, or a module whose file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// What luqual itself needs: a serial console, an initramfs, and a network card (`CONFIG_SERIAL_8250_CONSOLE`,
    /// `CONFIG_BLK_DEV_INITRD`, `CONFIG_DEVTMPFS`, `CONFIG_VIRTIO_PCI`, `CONFIG_VIRTIO_NET`).
    Agent,
    /// Kexec HandOver: `CONFIG_KEXEC_HANDOVER`.
    Kho,
    /// The Live Update Orchestrator: `CONFIG_LIVEUPDATE`.
    Luo,
    /// PCI devices owned by userspace: `CONFIG_VFIO` and `CONFIG_VFIO_PCI`.
    Vfio,
    /// iommufd and a driver for an IOMMU that QEMU emulates: `CONFIG_IOMMUFD` with one of
    /// `CONFIG_INTEL_IOMMU`, `CONFIG_AMD_IOMMU`, `CONFIG_VIRTIO_IOMMU`.
    Iommu,
    /// Nested VMs: `CONFIG_KVM_AMD` or `CONFIG_KVM_INTEL`.
    Kvm,
    /// Memory control groups: `CONFIG_MEMCG`.
    MemoryCgroups,
}

impl Capability {
    /// Every capability, in display order.
    pub const ALL: [Self; 7] =
        [Self::Agent, Self::Kho, Self::Luo, Self::Vfio, Self::Iommu, Self::Kvm, Self::MemoryCgroups];

    /// The usual abbreviation.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Kho => "KHO",
            Self::Luo => "LUO",
            Self::Vfio => "VFIO",
            Self::Iommu => "IOMMU",
            Self::Kvm => "KVM",
            Self::MemoryCgroups => "MEMCG",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a record says about a kernel. `None` means unknown, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelInfo {
    /// The name that cells use: a version of the catalog, or the path that the user gave.
    pub name: String,
    /// The release, as `uname -r` prints it; read from the image.
    pub release: String,
    /// The GNU build id in `/sys/kernel/notes`, as hex.
    pub build_id: Option<String>,
    /// The digest of the image, as hex.
    pub image_sha256: String,
    /// Where the kernel comes from, in one line.
    pub provenance: String,
    /// Every ABI string in the image, such as `kho-v4`, sorted.
    pub abi: Option<Vec<String>>,
    /// What the kernel can do, from its configuration.
    #[serde(rename = "abilities")]
    pub capabilities: Option<BTreeSet<Capability>>,
    /// Of each capability that it lacks: which options, and the file that says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lacking: BTreeMap<Capability, String>,
    /// The digest of each module that a guest may load, by name, as hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// The whole configuration that its own started from, such as a distribution's, and what differs from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ConfigBase>,
    /// Whether it has static keys, and so patches its own code while it runs: `CONFIG_JUMP_LABEL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_keys: Option<bool>,
    /// The options that the catalog adds to the kernel's command line.
    pub command_line: String,
    /// The patches that were applied to its source, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Other facts for reports: compiler, build time, sizes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl KernelInfo {
    /// Whether both boot alike: the same image with the same modules and command line.
    pub fn boots_as(&self, other: &Self) -> bool {
        (&self.image_sha256, &self.modules, &self.command_line)
            == (&other.image_sha256, &other.modules, &other.command_line)
    }
}

/// A module that a kernel needs in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelModule {
    /// Its name, as in `/proc/modules`.
    pub name: String,
    /// Its ELF, unpacked.
    pub elf: Arc<[u8]>,
    /// The capabilities that need it.
    pub needed_by: BTreeSet<Capability>,
}

impl KernelModule {
    /// Whether it ends with a signature (include/linux/module_signature.h, MODULE_SIGNATURE_MARKER).
    pub fn is_signed(&self) -> bool {
        self.elf.ends_with(b"~Module signature appended~\n")
    }
}

/// The whole configuration that a kernel's own started from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigBase {
    /// The name of its file, and the package that it comes from.
    pub name: String,
    /// Each option that differs from it: both values.
    pub changed: BTreeMap<String, String>,
    /// How many of its modules were not built. Their options are not among the changed ones.
    pub not_built: usize,
}

/// A patch that was applied to a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Patch {
    /// The subject line.
    pub subject: String,
    /// The digest of the diff, as hex. It does not include the message and the author.
    pub sha256: String,
}

/// A call that a kernel refused: the call, the errno, and the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The call, such as `ioctl LIVEUPDATE_SESSION_PRESERVE_FD`. For an external program, the name of the program.
    pub call: String,
    /// The name of the errno, such as `EINVAL`. For an external program, how it ended.
    pub errno: String,
    /// The object of the call, such as `memfd 64m`.
    pub about: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.call, self.errno, self.about)
    }
}
