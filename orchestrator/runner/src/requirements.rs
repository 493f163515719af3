//! The requirements of workloads, in terms of kernels and machines.

use luqual_model::Capability;
use luqual_protocol::{Requirement, Workload};
use luqual_vm::Profile;

/// The capability of a kernel that meets a requirement.
pub fn capability(need: Requirement) -> Capability {
    match need {
        Requirement::Luo => Capability::Luo,
        Requirement::Iommu => Capability::Iommu,
        Requirement::Kvm => Capability::Kvm,
        Requirement::Vfio => Capability::Vfio,
    }
}

/// What a workload requires and machines of `profile` lack; `None` if nothing.
pub(crate) fn machine_lacks(profile: &Profile, workload: &Workload) -> Option<String> {
    let (device, name) = (workload.device?, profile.name);
    if profile.device(device.word()).is_none() {
        return Some(format!("the profile {name} has no {device}"));
    }
    let stays = workload.unplug.is_some() && !profile.bus.can_unplug();
    stays.then(|| format!("the profile {name} has no slot from which {device} can be unplugged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::find_workload;
    use luqual_vm::profile::find;

    #[test]
    fn a_machine_lacks_a_device_or_a_slot_to_unplug_it_from() {
        let lacks = |profile, workload| machine_lacks(find(profile).unwrap(), find_workload(workload).unwrap());
        assert_eq!(lacks("vfio-intel", "vfio.nvme.idle"), None);
        assert_eq!(lacks("vfio-root-port", "vfio.nvme.unplugged"), None);
        assert_eq!(lacks("q35-intel", "vfio.nvme.idle").unwrap(), "the profile q35-intel has no nvme");
        assert_eq!(
            lacks("vfio-intel", "vfio.nvme.unplugged").unwrap(),
            "the profile vfio-intel has no slot from which nvme can be unplugged"
        );
        assert_eq!(lacks("q35-intel", "memfd.basic"), None);
    }
}
