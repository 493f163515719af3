//! The requirements of workloads, in terms of kernels and machines.

use luqual_model::{Capability, KernelInfo, Profile};
use luqual_protocol::{Requirement, Workload};

/// The capability of a kernel that meets a requirement.
pub fn capability(need: Requirement) -> Capability {
    match need {
        Requirement::Luo => Capability::Luo,
        Requirement::Iommu => Capability::Iommu,
        Requirement::Kvm => Capability::Kvm,
        Requirement::Vfio => Capability::Vfio,
        Requirement::MemoryCgroups => Capability::MemoryCgroups,
    }
}

/// What a boot's kernels lack; `None` if nothing. The source has to have what the workloads require; a target that lacks
/// it is what is tested, but for what a workload needs there. Under both, luqual has to reach the guest.
pub(crate) fn kernel_lacks(
    source: &KernelInfo,
    target: &KernelInfo,
    mut requires: impl Iterator<Item = Requirement>,
) -> Option<String> {
    let required = requires.find_map(|need| {
        let needed = capability(need);
        let (side, kernel) = if need.is_of_the_target() { ("target", target) } else { ("source", source) };
        let lacks = kernel.capabilities.as_ref().is_some_and(|there| !there.contains(&needed));
        let why = kernel.lacking.get(&needed).map_or_else(String::new, |why| format!(": {why}"));
        lacks.then(|| format!("the {side} {} is built without {needed}{why}", kernel.name))
    });
    required.or_else(|| {
        [source, target].into_iter().find_map(|KernelInfo { name, lacking, .. }| {
            let why = lacking.get(&Capability::Agent)?;
            Some(format!("luqual cannot reach a guest with the kernel {name}: {why}"))
        })
    })
}

/// What a workload requires and machines of `profile` lack; `None` if nothing.
pub(crate) fn machine_lacks(profile: &Profile, workload: &Workload) -> Option<String> {
    let (name, has, needs) = (&profile.name, profile.memory_mib, workload.memory_mib);
    if has < needs {
        return Some(format!(
            "the profile {name} has {has} MiB of memory, and {needs} MiB are needed: --memory {needs}M"
        ));
    }
    let device = workload.device?;
    if profile.device(device.word()).is_none() {
        return Some(format!("the profile {name} has no {device}"));
    }
    let stays = workload.unplug.is_some() && !profile.bus.can_unplug();
    stays.then(|| format!("the profile {name} has no slot from which {device} can be unplugged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_config::own_machine;
    use luqual_protocol::find_workload;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_source_has_what_is_required_and_both_can_be_reached() {
        let kernel = |name: &str, lacking: &[(Capability, &str)]| {
            let lacking: BTreeMap<_, _> = lacking.iter().map(|(what, why)| (*what, (*why).to_owned())).collect();
            let has = |it: &Capability| !lacking.contains_key(it);
            let capabilities = Some(Capability::ALL.into_iter().filter(has).collect());
            KernelInfo { name: name.to_owned(), capabilities, lacking, ..KernelInfo::default() }
        };
        let luo =
            [(Capability::Luo, "CONFIG_LIVEUPDATE is not set (f)"), (Capability::Agent, "CONFIG_X is a module (f)")];
        let (whole, without, unreached) = (kernel("a", &[]), kernel("b", &luo), kernel("c", &luo[1..]));
        let lacks =
            |source: &KernelInfo, target: &KernelInfo| kernel_lacks(source, target, [Requirement::Luo].into_iter());
        assert_eq!(lacks(&whole, &whole), None);
        assert_eq!(
            lacks(&without, &whole).unwrap(),
            "the source b is built without LUO: CONFIG_LIVEUPDATE is not set (f)"
        );
        let reach = "luqual cannot reach a guest with the kernel c: CONFIG_X is a module (f)";
        assert_eq!(
            (lacks(&unreached, &whole).as_deref(), lacks(&whole, &unreached).as_deref()),
            (Some(reach), Some(reach))
        );
        assert_eq!(lacks(&whole, &kernel("d", &luo[..1])), None);
        // What a workload needs in the target.
        let small = kernel("e", &[(Capability::MemoryCgroups, "CONFIG_MEMCG is not set (f)")]);
        let limited = |source, target| kernel_lacks(source, target, [Requirement::MemoryCgroups].into_iter());
        assert_eq!(limited(&small, &whole), None);
        let told = "the target e is built without MEMCG: CONFIG_MEMCG is not set (f)";
        assert_eq!(limited(&whole, &small).as_deref(), Some(told));
        // A record of before says that it lacks it, and not why; what is unknown is not lacking.
        let of_before = KernelInfo { capabilities: Some(BTreeSet::new()), lacking: BTreeMap::new(), ..whole.clone() };
        assert_eq!(lacks(&of_before, &whole).unwrap(), "the source a is built without LUO");
        assert_eq!(lacks(&KernelInfo::default(), &whole), None);
    }

    #[test]
    fn a_machine_lacks_a_device_or_a_slot_to_unplug_it_from() {
        let lacks = |profile, workload| machine_lacks(own_machine(profile).unwrap(), find_workload(workload).unwrap());
        assert_eq!(lacks("vfio-intel", "vfio.nvme.idle"), None);
        assert_eq!(lacks("vfio-root-port", "vfio.nvme.unplugged"), None);
        assert_eq!(lacks("q35-intel", "vfio.nvme.idle").unwrap(), "the profile q35-intel has no nvme");
        assert_eq!(
            lacks("vfio-intel", "vfio.nvme.unplugged").unwrap(),
            "the profile vfio-intel has no slot from which nvme can be unplugged"
        );
        assert_eq!(lacks("q35-intel", "memfd.basic"), None);
    }

    #[test]
    fn a_workload_needs_the_memory_that_it_says() {
        let large = find_workload("scale.bytes-6g").unwrap();
        let plain = own_machine(large.profile).unwrap();
        let lacks = machine_lacks(plain, large).unwrap();
        assert_eq!(lacks, "the profile q35-intel has 1024 MiB of memory, and 8192 MiB are needed: --memory 8192M");
        assert_eq!(machine_lacks(&Profile { memory_mib: 8192, ..plain.clone() }, large), None);
    }
}
