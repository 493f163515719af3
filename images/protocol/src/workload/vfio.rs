//! `vfio.DEVICE.CASE`: a device that userspace owns through VFIO. Each probe belongs to a level: D0 present, D1
//! usable, D2 quiet, D3 state kept, D4 descriptor preserved, D5 running. The cases `preserved` and `preserved-busy` ask
//! for all of them; the others ask for D0 to D2, which every kernel promises.

use super::device::Device;
use super::entry::{Requirement, Unplug, Update, Workload, w};

/// The source of the rules: what VFIO guarantees for a device, and what live update guarantees for preserved state.
const RULE: &str = "Documentation/driver-api/vfio.rst and Documentation/userspace-api/liveupdate.rst";

/// The vendor and device ids of all but virtio's, of which the guest's own card has the same.
macro_rules! ids {
    () => {
        "1234:11e8,1af4:1110,1b36:0005,1b36:0010,8086:10d3"
    };
}

const fn owns(name: &'static str, asserts: &'static str, finds: &'static str) -> Workload {
    w(name, asserts, RULE, finds).requires(&[Requirement::Luo, Requirement::Iommu, Requirement::Vfio]).on("vfio-intel")
}

const fn bound_at_boot(name: &'static str) -> Workload {
    const IDS: &str = concat!("vfio-pci.ids=", ids!());
    let asserts = "a device that vfio-pci has from the boot on is as one that it was given later";
    let update = Update { source_options: IDS, target_options: IDS, ..Update::PLAIN };
    owns(name, asserts, "a device that is touched while it waits for its owner").by(update)
}

const fn bus_master(name: &'static str) -> Workload {
    let asserts = "a device whose bus mastering is turned on again until the kexec is seen to write in the blackout";
    let finds = "a tool that sees no DMA where there is some";
    let control = owns(name, asserts, finds).alone().left_out("it is a control of luqual's, not of the kernels");
    // The target turns its IOMMU on while the device still works.
    let control = control.provokes(&["DMAR: [DMA "]);
    Workload { busy: true, control: true, ..control }
}

const fn busy(name: &'static str) -> Workload {
    let asserts = "a device in the middle of DMA writes nothing that it should not, and works again";
    Workload { busy: true, ..owns(name, asserts, "DMA that goes astray") }
}

const fn group(name: &'static str) -> Workload {
    owns(name, "a device that was opened by its group is as one of its own node", "groups that are treated otherwise")
}

const fn idle(name: &'static str) -> Workload {
    let asserts = "an idle device is there, works, and was quiet";
    owns(name, asserts, "a device that is not as it was left")
}

const fn ordinary(name: &'static str) -> Workload {
    let asserts = "a device that reaches memory which nobody preserves writes nothing after the kexec";
    owns(name, asserts, "a device that writes where the next kernel has other things")
}

const fn other_driver(name: &'static str) -> Workload {
    const IDS: &str = concat!("pci-stub.ids=", ids!());
    let asserts = "a device that another driver has first in the target can still be taken";
    let update = Update { target_options: IDS, ..Update::PLAIN };
    owns(name, asserts, "a driver that takes what is somebody's").by(update)
}

const fn preserved(name: &'static str) -> Workload {
    let asserts = "a device whose descriptor is preserved keeps it and its registers, and is retrieved, also twice";
    let finds = "a device that is handed over and is not as it was left";
    // No released kernel has a handler for the descriptors of VFIO.
    Workload { preserves_device: true, ..owns(name, asserts, finds).kept_by_none() }
}

const fn preserved_busy(name: &'static str) -> Workload {
    let asserts = "a device whose descriptor is preserved goes on with its DMA in the blackout, and loses none of it";
    Workload {
        preserves_device: true,
        busy: true,
        ..owns(name, asserts, "DMA that an update interrupts").kept_by_none()
    }
}

const fn silent(name: &'static str) -> Workload {
    owns(name, "a device that does not interrupt keeps all else", "what is saved with interrupts alone")
}

const fn unclaimed(name: &'static str) -> Workload {
    owns(name, "a device that nobody takes again stays quiet", "a device that works for nobody")
}

const fn unplugged(name: &'static str) -> Workload {
    let asserts = "a device that is unplugged while its state is preserved is gone in the target, and nothing else is";
    let unplug = Some(Unplug::WhilePreserved);
    Workload { unplug, ..owns(name, asserts, "a device that is remembered and not there").on("vfio-root-port") }
}

const fn unplugged_after(name: &'static str) -> Workload {
    let asserts = "a device that was taken again can be let go and unplugged";
    let unplug = Some(Unplug::Afterwards);
    Workload { unplug, ..owns(name, asserts, "a device that cannot be removed any more").on("vfio-root-port") }
}

/// All cases of a device with DMA. The control is only for devices whose DMA continues without further requests.
macro_rules! with_dma {
    ($owned:expr, $device:literal $(, $control:ident)?) => {
        &[
            bound_at_boot(concat!("vfio.", $device, ".bound-at-boot")).owns($owned),
            $($control(concat!("vfio.", $device, ".bus-master")).owns($owned),)?
            busy(concat!("vfio.", $device, ".busy")).owns($owned),
            group(concat!("vfio.", $device, ".group")).owns($owned),
            idle(concat!("vfio.", $device, ".idle")).owns($owned),
            ordinary(concat!("vfio.", $device, ".ordinary")).owns($owned),
            other_driver(concat!("vfio.", $device, ".other-driver")).owns($owned),
            preserved(concat!("vfio.", $device, ".preserved")).owns($owned),
            preserved_busy(concat!("vfio.", $device, ".preserved-busy")).owns($owned),
            silent(concat!("vfio.", $device, ".silent")).owns($owned),
            unclaimed(concat!("vfio.", $device, ".unclaimed")).owns($owned),
            unplugged(concat!("vfio.", $device, ".unplugged")).owns($owned),
            unplugged_after(concat!("vfio.", $device, ".unplugged-after")).owns($owned),
        ]
    };
}

/// All cases of a device without DMA. Devices with interrupts also have the case `silent`.
macro_rules! without_dma {
    ($owned:expr, $device:literal $(, $silent:ident)?) => {
        &[
            bound_at_boot(concat!("vfio.", $device, ".bound-at-boot")).owns($owned),
            group(concat!("vfio.", $device, ".group")).owns($owned),
            idle(concat!("vfio.", $device, ".idle")).owns($owned),
            other_driver(concat!("vfio.", $device, ".other-driver")).owns($owned),
            preserved(concat!("vfio.", $device, ".preserved")).owns($owned),
            $($silent(concat!("vfio.", $device, ".silent")).owns($owned),)?
            unclaimed(concat!("vfio.", $device, ".unclaimed")).owns($owned),
            unplugged(concat!("vfio.", $device, ".unplugged")).owns($owned),
            unplugged_after(concat!("vfio.", $device, ".unplugged-after")).owns($owned),
        ]
    };
}

/// The cases of a virtio card. The guest's own has the same ids, so that the kernel's driver takes it at first; and it ends its
/// work for good once its bus mastering is turned off (QEMU hw/virtio/virtio-pci.c, virtio_write_config), so that there is no
/// control.
macro_rules! as_virtio {
    ($owned:expr, $device:literal) => {
        &[
            busy(concat!("vfio.", $device, ".busy")).owns($owned),
            group(concat!("vfio.", $device, ".group")).owns($owned),
            idle(concat!("vfio.", $device, ".idle")).owns($owned),
            ordinary(concat!("vfio.", $device, ".ordinary")).owns($owned),
            preserved(concat!("vfio.", $device, ".preserved")).owns($owned),
            preserved_busy(concat!("vfio.", $device, ".preserved-busy")).owns($owned),
            silent(concat!("vfio.", $device, ".silent")).owns($owned),
            unclaimed(concat!("vfio.", $device, ".unclaimed")).owns($owned),
            unplugged(concat!("vfio.", $device, ".unplugged")).owns($owned),
            unplugged_after(concat!("vfio.", $device, ".unplugged-after")).owns($owned),
        ]
    };
}

pub(super) const E1000E: &[Workload] = with_dma!(Device::E1000e, "e1000e", bus_master);
pub(super) const EDU: &[Workload] = with_dma!(Device::Edu, "edu", bus_master);
/// A device that older QEMUs do not have.
const fn with_igb(workload: Workload) -> Workload {
    workload.owns(Device::Igb).on("vfio-igb").left_out("it needs QEMU 8.0")
}

pub(super) const IGB: &[Workload] = &[
    with_igb(busy("vfio.igb.busy")),
    with_igb(idle("vfio.igb.idle")),
    with_igb(preserved("vfio.igb.preserved")),
    with_igb(preserved_busy("vfio.igb.preserved-busy")),
];
pub(super) const IVSHMEM_DOORBELL: &[Workload] = without_dma!(Device::IvshmemDoorbell, "ivshmem-doorbell", silent);
pub(super) const IVSHMEM_PLAIN: &[Workload] = without_dma!(Device::IvshmemPlain, "ivshmem-plain");
pub(super) const NVME: &[Workload] = with_dma!(Device::Nvme, "nvme");
pub(super) const PCI_TESTDEV: &[Workload] = without_dma!(Device::PciTestdev, "pci-testdev");
pub(super) const VIRTIO_NET: &[Workload] = as_virtio!(Device::VirtioNet, "virtio-net");
