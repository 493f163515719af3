//! Faults of devices and of virtual machines. Their boots take longest.

use super::super::expected::Expected;
use super::super::fault::{SelftestFault, of};
use luqual_model::Outcome;

pub(super) const FAULTS: &[SelftestFault] = &[
    of(
        "vmm.basic-program",
        "machine.register",
        "a general register of a paused virtual machine is changed",
        "machine:register",
        Expected::lost(&["machine general registers"]),
    ),
    of(
        "vmm.basic-program",
        "machine.fpu",
        "a byte of the FPU's state of a paused virtual machine is changed",
        "machine:fpu",
        Expected::lost(&["machine FPU, SSE and AVX state"]),
    ),
    of(
        "vmm.basic-program",
        "machine.msr",
        "a model-specific register of a paused virtual machine is changed",
        "machine:msr",
        Expected::lost(&["machine MSRs"]),
    ),
    of(
        "vmm.basic-program",
        "machine.page",
        "a byte of the memory of a paused virtual machine is changed",
        "machine:page",
        Expected::lost(&["machine memory pages", "machine memory chain"]),
    ),
    of(
        "vmm.basic-program",
        "machine.interrupt",
        "a pending interrupt of a paused virtual machine is dropped",
        "machine:interrupt",
        Expected::lost(&["machine interrupts to itself"]),
    ),
    of(
        "vmm.basic-program",
        "machine.timer",
        "an armed timer of a paused virtual machine is disarmed",
        "machine:timer",
        Expected::lost(&["machine work", "machine timers"]),
    ),
    of(
        "vmm.basic-program",
        "clock.of-a-machine",
        "the clock of a paused virtual machine is set to another time",
        "machine:clock",
        Expected::lost(&["machine clock over the update", "machine host: clock over the update"]),
    ),
    of(
        "vfio.edu.idle",
        "device.bar-moved",
        "the first BAR of a device moves in the blackout",
        "device:bar-moved",
        Expected::lost(&["D0 BARs", "D0 host: place"]),
    ),
    of(
        "vfio.edu.idle",
        "device.unplugged",
        "the slot of a device is powered off in the blackout",
        "device:unplugged",
        Expected::lost(&["D0 presence", "D0 host: place", "D2 host: resets before the open"]),
    )
    .on("vfio-root-port"),
    of(
        "vfio.edu.idle",
        "device.interrupt-lost",
        "the interrupts of a device are disabled after the target has opened it",
        "device:interrupt-lost",
        Expected::lost(&["D1 interrupt"]),
    ),
    of(
        "vfio.edu.idle",
        "device.dma-write",
        "a device writes into a preserved page in the blackout",
        "device:dma-write",
        Expected::lost(&[
            "D2 preserved pages",
            "D2 host: preserved pages",
            // It writes while no IOMMU translates, of which QEMU's trace can say nothing.
            "D2 host: bus mastering",
            "witness host: hears",
        ]),
    ),
    of(
        "vfio.nvme.idle",
        "device.reset",
        "a device is reset in the blackout",
        "device:reset",
        Expected::lost(&["D2 host: resets before the open"]),
    ),
    of(
        "vfio.edu.idle",
        "witness.blind",
        "QEMU traces no DMA and no fault of an IOMMU",
        "device:untraced",
        Expected::ended(Outcome::HarnessFailed, "QEMU's trace cannot be believed: *"),
    ),
    of(
        "vfio.edu.idle",
        "device.no-driver",
        "the target has no vfio-pci",
        "options:1:initcall_blacklist=vfio_pci_init",
        Expected::lost(&["D1 bind", "D1 open"]),
    ),
];
