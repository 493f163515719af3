//! The table of all workloads, for both sides: the host plans with it, and the agent implements each entry. There is
//! one table for each family.

mod broker;
mod consequence;
mod device;
mod entry;
mod external;
mod kexec;
mod lifecycle;
mod luo;
mod memfd;
mod pci;
mod scale;
mod vfio;
mod vmm;

pub use consequence::Consequence;
pub use device::Device;
pub use entry::{LoadTime, Requirement, Unplug, Update, Workload};
pub use external::{EXTERNAL, external, program_path};

const FAMILIES: [&[Workload]; 16] = [
    broker::WORKLOADS,
    kexec::WORKLOADS,
    lifecycle::WORKLOADS,
    luo::WORKLOADS,
    memfd::WORKLOADS,
    pci::WORKLOADS,
    scale::WORKLOADS,
    vfio::E1000E,
    vfio::EDU,
    vfio::IGB,
    vfio::IVSHMEM_DOORBELL,
    vfio::IVSHMEM_PLAIN,
    vfio::NVME,
    vfio::PCI_TESTDEV,
    vfio::VIRTIO_NET,
    vmm::WORKLOADS,
];

/// Every workload, by family and name.
pub fn workloads() -> impl Iterator<Item = &'static Workload> + Clone {
    FAMILIES.into_iter().flatten()
}

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    workloads().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_whole_and_in_order() {
        let all: Vec<&Workload> = workloads().collect();
        for workload in &all {
            let name = workload.name;
            assert!(name.contains('.'), "{name}");
            for text in [workload.asserts, workload.rule, workload.finds] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
            }
            assert!(workload.update.hops > 0, "{name}");
            let named = Device::ALL.into_iter().find(|device| name.split('.').nth(1) == Some(device.word()));
            assert_eq!(workload.device, named, "{name}");
        }
        assert!(all.is_sorted_by(|one, other| one.name < other.name), "by name, none twice");
    }
}
