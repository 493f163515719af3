//! Descriptors that a hypervisor holds. Where the guest cannot open one, the error says why.
#![expect(unsafe_code, reason = "ioctl(2) of KVM; the block says why it is sound")]

use crate::pci::{Function, functions};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::fs::File;

fn open(path: &str) -> Result<OwnedFd, String> {
    let file = File::options().read(true).write(true).open(path);
    file.map(OwnedFd::from).map_err(|error| format!("{path}: {error}"))
}

/// An iommufd (Documentation/userspace-api/iommufd.rst).
pub(crate) fn iommufd() -> Result<OwnedFd, String> {
    open("/dev/iommu")
}

/// A virtual machine without processors (Documentation/virt/kvm/api.rst, KVM_CREATE_VM).
pub(crate) fn virtual_machine() -> Result<OwnedFd, String> {
    const KVM_CREATE_VM: libc::c_ulong = 0xAE01;
    let kvm = open("/dev/kvm")?;
    // SAFETY: the command takes a number, the machine's type, and touches no memory of ours.
    let fd = unsafe { libc::ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0) };
    if fd < 0 {
        return Err(format!("KVM_CREATE_VM: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// QEMU's edu (docs/specs/edu.rst: 1234:11e8), bound to vfio-pci and opened as a character device
/// (Documentation/driver-api/vfio.rst).
pub(crate) fn vfio_edu() -> Result<OwnedFd, String> {
    let is_edu = |function: &Function| {
        let is = |file: &str, value: &str| function.text(file).is_ok_and(|text| text == value);
        is("vendor", "0x1234") && is("device", "0x11e8")
    };
    let edu = functions()?.into_iter().find(is_edu).ok_or("an edu device")?;
    if edu.driver().is_none() {
        edu.bind("vfio-pci")?;
    }
    open(&format!("/dev/vfio/devices/{}", edu.cdev()?))
}
