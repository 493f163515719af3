use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A device that a workload can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
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

/// What luqual knows of a device.
struct Row {
    id: &'static str,
    qemu_type: &'static str,
    has_dma: bool,
    has_own_driver: bool,
    frame_period_ms: Option<u64>,
    file_mib: Option<u64>,
}

impl Device {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Edu,
        Self::IvshmemPlain,
        Self::IvshmemDoorbell,
        Self::PciTestdev,
        Self::Nvme,
        Self::E1000e,
        Self::Igb,
        Self::VirtioNet,
    ];

    const fn row(self) -> Row {
        const fn row(id: &'static str) -> Row {
            let (has_dma, has_own_driver, frame_period_ms, file_mib) = (false, false, None, None);
            Row { id, qemu_type: id, has_dma, has_own_driver, frame_period_ms, file_mib }
        }
        match self {
            Self::Edu => Row { has_dma: true, ..row("edu") },
            Self::IvshmemPlain => Row { file_mib: Some(1), ..row("ivshmem-plain") },
            Self::IvshmemDoorbell => Row { file_mib: Some(1), ..row("ivshmem-doorbell") },
            Self::PciTestdev => row("pci-testdev"),
            Self::Nvme => Row { has_dma: true, file_mib: Some(16), ..row("nvme") },
            Self::E1000e => Row { has_dma: true, frame_period_ms: Some(1), ..row("e1000e") },
            Self::Igb => Row { has_dma: true, frame_period_ms: Some(1), ..row("igb") },
            Self::VirtioNet => Row {
                qemu_type: "virtio-net-pci",
                has_dma: true,
                has_own_driver: true,
                frame_period_ms: Some(4096 / Self::VIRTIO_QUEUE),
                ..row("virtio-net")
            },
        }
    }

    /// The longest queue of a virtio card (QEMU hw/net/virtio-net.c, VIRTQUEUE_MAX_SIZE).
    pub const VIRTIO_QUEUE: u64 = 1024;

    /// QEMU's id of the device, and its name in workloads and matrix files.
    pub const fn id(self) -> &'static str {
        self.row().id
    }

    /// QEMU's device type, as in trace events.
    pub const fn qemu_type(self) -> &'static str {
        self.row().qemu_type
    }

    /// Whether it reads and writes memory by itself.
    pub const fn has_dma(self) -> bool {
        self.row().has_dma
    }

    /// Whether the kernel's own driver takes it at each boot, since the guest is reached by a card of the same type.
    pub const fn has_own_driver(self) -> bool {
        self.row().has_own_driver
    }

    /// The period of numbered frames in milliseconds, so that the device's longest queue has space for four seconds
    /// of them, since no driver empties it in a blackout; `None` if the device receives no frames.
    pub const fn frame_period_ms(self) -> Option<u64> {
        self.row().frame_period_ms
    }

    /// The size in MiB of the file that it shares with the host, if it has one.
    pub const fn file_mib(self) -> Option<u64> {
        self.row().file_mib
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_one_name() {
        for device in Device::ALL {
            assert_eq!(serde_json::to_value(device).unwrap(), device.id());
        }
    }
}
