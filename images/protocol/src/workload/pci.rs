//! `pci.*`: how the kernel sets up the PCI functions of its machine.

use super::entry::{Workload, w};

/// An entry on a machine with PCI bridges.
const fn p(name: &'static str, asserts: &'static str, rule: &'static str, finds: &'static str) -> Workload {
    w(name, asserts, rule, finds).on("vfio-root-port")
}

pub(super) const WORKLOADS: &[Workload] = &[
    p(
        "pci.acs",
        "access control services can do and do the same",
        "drivers/pci/pci.c, pci_enable_acs",
        "an isolation that an update opens",
    ),
    p(
        "pci.ari",
        "ports forward to alternative function numbers as before",
        "drivers/pci/pci.c, pci_configure_ari",
        "functions that are found under other numbers",
    ),
    p(
        "pci.bars",
        "every base address register has its address",
        "drivers/pci/setup-res.c: what firmware has placed is kept",
        "a register that moves under a device at work",
    ),
    p(
        "pci.buses",
        "every bridge has its bus numbers",
        "drivers/pci/probe.c, pci_scan_bridge_extend: what is configured is kept",
        "requester ids that change under an IOMMU's tables",
    ),
    p(
        "pci.enumeration",
        "the same functions are at the same addresses",
        "drivers/pci/probe.c",
        "a device that is lost or found elsewhere",
    ),
    p(
        "pci.groups",
        "IOMMU groups have the same members",
        "drivers/iommu/iommu.c, pci_device_group",
        "a device that no longer stands alone",
    ),
    p(
        "pci.windows",
        "every bridge passes on what it did",
        "drivers/pci/setup-bus.c: what firmware has placed is kept",
        "a device that its bridge cuts off",
    ),
];
