//! Machine profiles, as data.

use crate::PciAddress;
use crate::qemu::QemuVersion;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: &'static str,
    /// A summary in one line.
    pub summary: &'static str,
    /// QEMU's machine type.
    pub machine: &'static str,
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// The number of virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB, in a file that the host can read.
    pub memory_mib: u64,
    /// The IOMMU.
    pub iommu: Iommu,
    /// The topology of the devices.
    pub bus: Bus,
    /// Devices, besides those of every machine (network, randomness, pvpanic).
    pub devices: &'static [Device],
    /// Options for every kernel's command line.
    pub kernel_options: &'static str,
}

/// The IOMMU of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// No IOMMU: VFIO only works in its unsafe mode.
    None,
    /// Intel VT-d (QEMU hw/i386/intel_iommu.c).
    Intel {
        /// The translation mode.
        mode: IntelMode,
        /// Whether it remaps interrupts.
        remapping: bool,
    },
    /// AMD-Vi (QEMU hw/i386/amd_iommu.c).
    Amd,
    /// virtio-iommu, which remaps no interrupts (QEMU hw/virtio/virtio-iommu.c).
    Virtio,
}

/// VT-d's translation mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntelMode {
    /// By root and context tables.
    Legacy,
    /// By scalable-mode tables, second stage.
    Scalable,
    /// By scalable-mode tables, first stage.
    FirstStage,
}

/// The topology of a profile's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether a device can be unplugged from it while the machine runs.
    pub const fn can_unplug(self) -> bool {
        matches!(self, Self::RootPort)
    }

    /// Whether all devices are in one IOMMU group.
    pub const fn is_one_group(self) -> bool {
        matches!(self, Self::Bridge | Self::OneSlot)
    }

    /// The requester id by which an IOMMU knows the device at an address. A bridge from PCI Express takes the
    /// transactions of the devices behind it over, as slot 0 of its secondary bus (PCI Express to PCI/PCI-X Bridge
    /// Specification 1.0, 2.3; QEMU hw/pci/pci.c, pci_device_iommu_address_space()).
    pub const fn requester(self, address: PciAddress) -> PciAddress {
        match self {
            Self::Bridge => PciAddress { bus: address.bus, slot: 0, function: 0 },
            Self::Root | Self::RootPort | Self::OneSlot => address,
        }
    }
}

/// A device that a workload can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// QEMU's educational device (QEMU docs/specs/edu.rst).
    Edu,
    /// Memory that is shared with the host, as a BAR (QEMU docs/specs/ivshmem-spec.rst).
    IvshmemPlain,
    /// The same with interrupts between those who share the memory.
    IvshmemDoorbell,
    /// A BAR that counts accesses (QEMU docs/specs/pci-testdev.rst).
    PciTestdev,
    /// An NVMe controller with a namespace that is a file of the host (QEMU docs/system/devices/nvme.rst).
    Nvme,
    /// Intel's 82574L (QEMU hw/net/e1000e.c).
    E1000e,
    /// Intel's 82576 (QEMU docs/system/devices/igb.rst).
    Igb,
    /// A virtio network card whose DMA the IOMMU translates.
    VirtioNet,
}

impl Device {
    /// QEMU's id of the device, and its name in workloads.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::IvshmemPlain => "ivshmem-plain",
            Self::IvshmemDoorbell => "ivshmem-doorbell",
            Self::PciTestdev => "pci-testdev",
            Self::Nvme => "nvme",
            Self::E1000e => "e1000e",
            Self::Igb => "igb",
            Self::VirtioNet => "virtio-net",
        }
    }

    /// QEMU's device type, as in trace events.
    pub const fn qemu_type(self) -> &'static str {
        match self {
            Self::VirtioNet => "virtio-net-pci",
            other => other.id(),
        }
    }

    /// Whether it reads and writes memory by itself.
    pub const fn has_dma(self) -> bool {
        match self {
            Self::Edu | Self::Nvme | Self::E1000e | Self::Igb | Self::VirtioNet => true,
            Self::IvshmemPlain | Self::IvshmemDoorbell | Self::PciTestdev => false,
        }
    }

    /// Whether the kernel's own driver takes it at each boot, since the guest is reached by a card of the same type.
    pub const fn has_own_driver(self) -> bool {
        matches!(self, Self::VirtioNet)
    }

    /// The period of numbered frames in milliseconds, so that the device's longest queue has space for four seconds
    /// of them, since no driver empties it in a blackout; `None` if the device receives no frames.
    pub const fn frame_period_ms(self) -> Option<u64> {
        match self {
            Self::E1000e | Self::Igb => Some(1),
            Self::VirtioNet => Some(4096 / VIRTIO_QUEUE),
            Self::Edu | Self::IvshmemPlain | Self::IvshmemDoorbell | Self::PciTestdev | Self::Nvme => None,
        }
    }
}

/// The longest queue of a virtio card (QEMU hw/net/virtio-net.c, VIRTQUEUE_MAX_SIZE).
pub(crate) const VIRTIO_QUEUE: u64 = 1024;

impl Profile {
    /// The device of that name, if the machine has it.
    pub fn device(&self, id: &str) -> Option<Device> {
        self.devices.iter().copied().find(|device| device.id() == id)
    }

    /// What the QEMU lacks for the profile, and which version has it; `None` if nothing.
    pub fn lacks(&self, qemu: QemuVersion) -> Option<String> {
        let first_stage = matches!(self.iommu, Iommu::Intel { mode: IntelMode::FirstStage, .. });
        let needs = [
            (first_stage, "first-stage translation of the Intel IOMMU", QemuVersion(10, 0, 0)),
            (self.devices.contains(&Device::Igb), "igb", QemuVersion(8, 0, 0)),
        ];
        let lacking = needs.into_iter().find(|(needed, _, since)| *needed && qemu < *since);
        lacking.map(|(_, what, QemuVersion(major, minor, _))| {
            format!("QEMU {qemu} has no {what}, which QEMU {major}.{minor} introduced")
        })
    }
}

/// The kernel's own drivers would bind these devices before VFIO can. `initcall_blacklist` prevents this
/// (Documentation/admin-guide/kernel-parameters.txt).
const LEFT_TO_VFIO: &str = "initcall_blacklist=nvme_init,e1000_init_module";

const ALL: &[Device] = &[
    Device::Edu,
    Device::IvshmemPlain,
    Device::PciTestdev,
    Device::Nvme,
    Device::E1000e,
    Device::IvshmemDoorbell,
    Device::VirtioNet,
];

/// The devices without a kernel driver, so that VFIO can own their whole group.
const WITHOUT_VIRTIO: &[Device] =
    &[Device::Edu, Device::IvshmemPlain, Device::PciTestdev, Device::Nvme, Device::E1000e, Device::IvshmemDoorbell];

const INTEL: Iommu = Iommu::Intel { mode: IntelMode::Legacy, remapping: true };

const PLAIN: Profile = Profile {
    name: "q35-intel",
    summary: "q35, 2 vCPUs, 1 GiB, Intel IOMMU with interrupt remapping, edu",
    machine: "q35",
    cpu: "max",
    vcpus: 2,
    memory_mib: 1024,
    iommu: INTEL,
    bus: Bus::Root,
    devices: &[Device::Edu],
    kernel_options: "",
};

/// Every profile; the first is the default.
pub static PROFILES: &[Profile] = &[
    PLAIN,
    Profile {
        name: "vfio-amd",
        summary: "all devices, AMD IOMMU; newer kernels remap no interrupts on it",
        iommu: Iommu::Amd,
        devices: ALL,
        // Newer kernels do not remap interrupts here: they require a south bridge at the place where QEMU reports the
        // interrupt controller, and q35 has it elsewhere (drivers/iommu/amd/init.c, check_ioapic_information).
        kernel_options: UNSAFE_INTERRUPTS,
        ..PLAIN
    },
    Profile {
        name: "vfio-bridge",
        summary: "devices behind one PCI bridge, in one IOMMU group; Intel IOMMU",
        bus: Bus::Bridge,
        devices: WITHOUT_VIRTIO,
        kernel_options: LEFT_TO_VFIO,
        ..PLAIN
    },
    Profile {
        name: "vfio-igb",
        summary: "igb, Intel IOMMU with interrupt remapping",
        devices: &[Device::Igb],
        kernel_options: LEFT_TO_VFIO,
        ..PLAIN
    },
    Profile {
        name: "vfio-intel",
        summary: "all devices on the root complex, Intel IOMMU with interrupt remapping",
        devices: ALL,
        kernel_options: LEFT_TO_VFIO,
        ..PLAIN
    },
    Profile {
        name: "vfio-intel-first-stage",
        summary: "all devices, Intel IOMMU in scalable mode by its first stage",
        iommu: Iommu::Intel { mode: IntelMode::FirstStage, remapping: true },
        devices: ALL,
        kernel_options: "initcall_blacklist=nvme_init,e1000_init_module intel_iommu=sm_on",
        ..PLAIN
    },
    Profile {
        name: "vfio-intel-no-remapping",
        summary: "all devices, Intel IOMMU without interrupt remapping",
        iommu: Iommu::Intel { mode: IntelMode::Legacy, remapping: false },
        devices: ALL,
        kernel_options: UNSAFE_INTERRUPTS,
        ..PLAIN
    },
    Profile {
        name: "vfio-intel-scalable",
        summary: "all devices, Intel IOMMU in scalable mode by its second stage",
        iommu: Iommu::Intel { mode: IntelMode::Scalable, remapping: true },
        devices: ALL,
        kernel_options: "initcall_blacklist=nvme_init,e1000_init_module intel_iommu=sm_on",
        ..PLAIN
    },
    Profile {
        name: "vfio-noiommu",
        summary: "all devices, no IOMMU: VFIO in its unsafe mode",
        iommu: Iommu::None,
        devices: ALL,
        kernel_options: "initcall_blacklist=nvme_init,e1000_init_module vfio.enable_unsafe_noiommu_mode=1",
        ..PLAIN
    },
    Profile {
        name: "vfio-one-slot",
        summary: "devices as functions of one slot, in one IOMMU group; Intel IOMMU",
        bus: Bus::OneSlot,
        devices: WITHOUT_VIRTIO,
        kernel_options: LEFT_TO_VFIO,
        ..PLAIN
    },
    Profile {
        name: "vfio-root-port",
        summary: "each device behind a root port, where it can be unplugged; Intel IOMMU",
        bus: Bus::RootPort,
        devices: ALL,
        kernel_options: LEFT_TO_VFIO,
        ..PLAIN
    },
    Profile {
        name: "vfio-virtio",
        summary: "all devices, virtio-iommu, which remaps no interrupts",
        iommu: Iommu::Virtio,
        devices: ALL,
        kernel_options: UNSAFE_INTERRUPTS,
        ..PLAIN
    },
];

/// Without interrupt remapping, VFIO requires this option, which allows a device to send any interrupt
/// (drivers/iommu/iommufd/device.c, drivers/vfio/vfio_iommu_type1.c).
const UNSAFE_INTERRUPTS: &str = "initcall_blacklist=nvme_init,e1000_init_module iommufd.allow_unsafe_interrupts=1 \
                                 vfio_iommu_type1.allow_unsafe_interrupts=1";

/// The profile of that name.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_that_is_too_old_is_told_which_is_not() {
        let lacks = |name: &str, qemu| find(name).unwrap().lacks(qemu);
        assert_eq!(lacks("vfio-intel", QemuVersion(7, 2, 0)), None);
        assert_eq!(
            lacks("vfio-intel-first-stage", QemuVersion(9, 2, 1)).unwrap(),
            "QEMU 9.2.1 has no first-stage translation of the Intel IOMMU, which QEMU 10.0 introduced"
        );
        assert_eq!(
            lacks("vfio-igb", QemuVersion(7, 2, 22)).unwrap(),
            "QEMU 7.2.22 has no igb, which QEMU 8.0 introduced"
        );
        assert_eq!(lacks("vfio-igb", QemuVersion(8, 0, 0)), None);
    }

    #[test]
    fn profiles_and_their_devices_have_names_of_their_own() {
        let mut names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROFILES.len());
        for profile in PROFILES {
            let mut ids: Vec<&str> = profile.devices.iter().map(|device| device.id()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), profile.devices.len(), "{}", profile.name);
        }
    }
}
