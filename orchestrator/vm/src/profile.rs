//! Machine profiles: what a cell runs on, as data.

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How it is called.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// QEMU's machine type.
    pub machine: &'static str,
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// How many virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB, in a file that the host can read.
    pub memory_mib: u64,
    /// The IOMMU.
    pub iommu: Iommu,
    /// Devices beside the ones that every machine has (network, randomness, pvpanic).
    pub devices: &'static [Device],
}

/// The IOMMU of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// Intel VT-d with interrupt remapping (QEMU hw/i386/intel_iommu.c).
    Intel,
}

/// A device that a workload can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// QEMU's educational device (QEMU docs/specs/edu.rst).
    Edu,
}

/// Every profile; the first is the default.
pub static PROFILES: &[Profile] = &[Profile {
    name: "q35-intel",
    summary: "q35, 2 vCPUs, 1 GiB, Intel IOMMU with interrupt remapping, edu",
    machine: "q35",
    cpu: "max",
    vcpus: 2,
    memory_mib: 1024,
    iommu: Iommu::Intel,
    devices: &[Device::Edu],
}];

/// The profile of that name.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
