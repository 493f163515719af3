//! kexec_file_load(2) and the reboot(2) that uses it.
#![expect(unsafe_code, reason = "kexec_file_load(2) has no safe wrapper; the block says why it is sound")]

use crate::errno::last_errno;
use luqual_protocol::{Archived, Kernel};
use rustix::fd::AsRawFd;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;

/// Why a kernel was not loaded.
pub(crate) enum LoadError {
    /// The agent failed.
    Agent(String),
    /// The kernel refused it.
    Kernel(Errno),
}

/// kexec_file_load(2) of a kernel in the initramfs, with an initramfs that carries these kernels. Returns what was loaded.
pub(crate) fn load(kernel: Kernel, carry: &[Kernel], command_line: &str) -> Result<Vec<Archived>, LoadError> {
    let (path, mut file) = (kernel.path(), open(kernel)?);
    let mut image = Vec::new();
    file.read_to_end(&mut image).map_err(|error| LoadError::Agent(format!("{path}: {error}")))?;
    let mut loaded = load_with(&file, carry, command_line, 0)?;
    loaded.push(Archived::new(path, KERNEL_MODE, &image));
    Ok(loaded)
}

/// The mode with which a kernel is reported: that of its file says nothing of what was loaded.
const KERNEL_MODE: u32 = 0;

/// The same with the kernel that is started when this one crashes.
pub(crate) fn load_for_crash(command_line: &str) -> Result<(), LoadError> {
    const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
    load_with(&open(Kernel::Target)?, &[], command_line, KEXEC_FILE_ON_CRASH).map(drop)
}

/// The same with any file as the kernel.
pub(crate) fn load_file(kernel: &File, carry: &[Kernel], command_line: &str) -> Result<(), LoadError> {
    load_with(kernel, carry, command_line, 0).map(drop)
}

fn open(kernel: Kernel) -> Result<File, LoadError> {
    let path = kernel.path();
    File::open(path).map_err(|error| LoadError::Agent(format!("{path}: {error}")))
}

fn load_with(
    kernel: &File,
    carry: &[Kernel],
    command_line: &str,
    flags: libc::c_ulong,
) -> Result<Vec<Archived>, LoadError> {
    let (initrd, files) = crate::initramfs::next(carry).map_err(LoadError::Agent)?;
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
    if returned == 0 { Ok(files) } else { Err(LoadError::Kernel(last_errno())) }
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
