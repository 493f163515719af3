//! Why a virtual machine could not be made, saved or restored.

use rustix::io::Errno;

/// Why a machine could not be made, saved or restored.
#[derive(Debug)]
pub(crate) enum VmmError {
    /// KVM refused a call.
    Kernel(&'static str, Errno),
    /// Anything else.
    Other(String),
}

impl VmmError {
    /// For `map_err` on a call to KVM.
    pub(crate) fn call(name: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kernel(name, Errno::from_raw_os_error(error.errno()))
    }
}
