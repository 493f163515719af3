//! What a QEMU lacks for a machine profile.

use luqual_model::{ARCH, Device, Profile, QemuVersion};

/// What the QEMU lacks for the profile, and which version has it; `None` if nothing.
pub fn lacks(profile: &Profile, qemu: QemuVersion) -> Option<String> {
    let igb = Some(("igb", QemuVersion(8, 0, 0))).filter(|_| profile.devices.contains(&Device::Igb));
    let needs = (ARCH.iommu)(profile.iommu).since.into_iter().chain(igb);
    let lacking = needs.into_iter().find(|(_, since)| qemu < *since);
    lacking.map(|(what, QemuVersion(major, minor, _))| {
        format!("QEMU {qemu} has no {what}, which QEMU {major}.{minor} introduced")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_config::own_machine;

    #[test]
    fn a_qemu_that_is_too_old_is_told_which_is_not() {
        let lacks = |name: &str, qemu| lacks(own_machine(name).unwrap(), qemu);
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
}
