//! kexec_file_load(2) and the reboot(2) that uses it.
#![expect(unsafe_code, reason = "kexec_file_load(2) has no safe wrapper; the block says why it is sound")]

use crate::errno::last_errno;
use luqual_protocol::Kernel;
use rustix::fd::AsRawFd;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;

/// Why a kernel was not loaded.
pub(crate) enum LoadError {
    /// The agent failed.
    Agent(String),
    /// The kernel refused it.
    Kernel(Errno),
}

/// kexec_file_load(2) of a kernel in the initramfs, with an initramfs that carries these kernels.
pub(crate) fn load(kernel: Kernel, carry: &[Kernel], command_line: &str) -> Result<(), LoadError> {
    load_file(&open(kernel)?, carry, command_line)
}

/// The same with the kernel that is started when this one crashes.
pub(crate) fn load_for_crash(command_line: &str) -> Result<(), LoadError> {
    const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
    load_with(&open(Kernel::Target)?, &[], command_line, KEXEC_FILE_ON_CRASH)
}

/// The same with any file as the kernel.
pub(crate) fn load_file(kernel: &File, carry: &[Kernel], command_line: &str) -> Result<(), LoadError> {
    load_with(kernel, carry, command_line, 0)
}

fn open(kernel: Kernel) -> Result<File, LoadError> {
    let path = kernel.path();
    File::open(path).map_err(|error| LoadError::Agent(format!("{path}: {error}")))
}

fn load_with(kernel: &File, carry: &[Kernel], command_line: &str, flags: libc::c_ulong) -> Result<(), LoadError> {
    let initrd = crate::initramfs::next(carry).map_err(LoadError::Agent)?;
    let text = CString::new(command_line)
        .map_err(|_| LoadError::Agent("the target's command line has a NUL character".to_owned()))?;
    // SAFETY: two open files and a NUL-terminated string whose length includes the NUL, all alive through the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            text.as_bytes_with_nul().len(),
            text.as_ptr(),
            flags,
        )
    };
    if returned == 0 { Ok(()) } else { Err(LoadError::Kernel(last_errno())) }
}

/// kexec_file_load(2) with KEXEC_FILE_UNLOAD.
pub(crate) fn unload() -> Result<(), Errno> {
    const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
    let nowhere: *const libc::c_char = std::ptr::null();
    // SAFETY: with this flag the kernel ignores the files and the text.
    let returned = unsafe { libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0, nowhere, KEXEC_FILE_UNLOAD) };
    if returned == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Starts the loaded kernel. Returns only if this kernel still runs: the errno with which it refused, or `None` if it reported
/// success.
pub(crate) fn go() -> Option<Errno> {
    rustix::system::reboot(rustix::system::RebootCommand::Kexec).err()
}
