/// A device that a workload owns through VFIO. Each is a device of QEMU; `luqual_vm` says by which arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// An Intel 82574L network card.
    E1000e,
    /// QEMU's educational device (docs/specs/edu.rst).
    Edu,
    /// An Intel 82576 network card.
    Igb,
    /// Shared memory with interrupts (docs/specs/ivshmem-spec.rst).
    IvshmemDoorbell,
    /// Shared memory without interrupts.
    IvshmemPlain,
    /// An NVMe controller.
    Nvme,
    /// QEMU's PCI test device (docs/specs/pci-testdev.rst).
    PciTestdev,
    /// A virtio network card.
    VirtioNet,
}

impl Device {
    /// Every device, by name.
    pub const ALL: [Self; 8] = [
        Self::E1000e,
        Self::Edu,
        Self::Igb,
        Self::IvshmemDoorbell,
        Self::IvshmemPlain,
        Self::Nvme,
        Self::PciTestdev,
        Self::VirtioNet,
    ];

    /// The name in workloads and profiles.
    pub const fn word(self) -> &'static str {
        match self {
            Self::E1000e => "e1000e",
            Self::Edu => "edu",
            Self::Igb => "igb",
            Self::IvshmemDoorbell => "ivshmem-doorbell",
            Self::IvshmemPlain => "ivshmem-plain",
            Self::Nvme => "nvme",
            Self::PciTestdev => "pci-testdev",
            Self::VirtioNet => "virtio-net",
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}
