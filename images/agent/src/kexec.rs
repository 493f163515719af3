//! kexec_file_load(2) and the reboot(2) that uses it.
#![expect(unsafe_code, reason = "kexec_file_load(2) has no safe wrapper; the block says why it is sound")]

use luqual_protocol::{TARGET_INITRD, TARGET_KERNEL};
use rustix::fd::AsRawFd;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;

/// Why the target was not loaded.
pub(crate) enum LoadError {
    /// The agent's own trouble.
    Agent(String),
    /// The kernel said no.
    Kernel(Errno),
}

/// kexec_file_load(2) of the files that the host put into the initramfs.
pub(crate) fn load(command_line: &str) -> Result<(), LoadError> {
    let open = |path: &str| File::open(path).map_err(|error| LoadError::Agent(format!("{path}: {error}")));
    let (kernel, initrd) = (open(TARGET_KERNEL)?, open(TARGET_INITRD)?);
    let text = CString::new(command_line)
        .map_err(|_| LoadError::Agent("the target's command line has a NUL in it".to_owned()))?;
    let no_flags: libc::c_ulong = 0;
    // SAFETY: two open files and a NUL-terminated string whose length includes the NUL, all alive through the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            text.as_bytes_with_nul().len(),
            text.as_ptr(),
            no_flags,
        )
    };
    if returned == 0 {
        return Ok(());
    }
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(LoadError::Kernel(Errno::from_raw_os_error(raw)))
}

/// Leaves this kernel for the loaded one; returns only when that was refused, with the errno, or with `None` from a
/// kernel that says that it went and did not.
pub(crate) fn go() -> Option<Errno> {
    rustix::system::reboot(rustix::system::RebootCommand::Kexec).err()
}
