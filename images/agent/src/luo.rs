//! /dev/liveupdate and its sessions: include/uapi/linux/liveupdate.h of the kernel, nothing added.
#![expect(unsafe_code, reason = "ioctl(2); each block says why it is sound")]

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::c_ulong;

/// The device; one opener at a time.
pub(crate) const DEVICE: &str = "/dev/liveupdate";

const NAME_LENGTH: usize = 64;

/// `_IO(0xBA, number)`.
const fn command(number: c_ulong) -> c_ulong {
    0xBA << 8 | number
}
const CREATE_SESSION: c_ulong = command(0x00);
const RETRIEVE_SESSION: c_ulong = command(0x01);
const SESSION_PRESERVE_FD: c_ulong = command(0x40);
const SESSION_RETRIEVE_FD: c_ulong = command(0x41);
const SESSION_FINISH: c_ulong = command(0x42);

/// `struct liveupdate_ioctl_create_session` and `…_retrieve_session`, which are alike.
#[repr(C)]
struct SessionByName {
    size: u32,
    fd: i32,
    name: [u8; NAME_LENGTH],
}

/// `struct liveupdate_session_preserve_fd` and `…_retrieve_fd`, which are alike.
#[repr(C)]
struct FdByToken {
    size: u32,
    fd: i32,
    token: u64,
}

/// `struct liveupdate_session_finish`.
#[repr(C)]
struct FinishSession {
    size: u32,
    reserved: u32,
}

/// The open device.
pub(crate) struct Device(OwnedFd);

impl Device {
    /// open(2) of [`DEVICE`].
    pub(crate) fn open() -> Result<Self, Errno> {
        use rustix::fs::{Mode, OFlags, open};
        open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// LIVEUPDATE_IOCTL_CREATE_SESSION.
    pub(crate) fn create_session(&self, name: &str) -> Result<Session, Errno> {
        self.session(CREATE_SESSION, name)
    }

    /// LIVEUPDATE_IOCTL_RETRIEVE_SESSION.
    pub(crate) fn retrieve_session(&self, name: &str) -> Result<Session, Errno> {
        self.session(RETRIEVE_SESSION, name)
    }

    fn session(&self, command: c_ulong, name: &str) -> Result<Session, Errno> {
        let mut bytes = [0; NAME_LENGTH];
        // The last byte stays NUL: a longer name is the caller's mistake, not a test of the kernel's.
        let room = bytes.get_mut(..name.len()).filter(|room| room.len() < NAME_LENGTH).ok_or(Errno::NAMETOOLONG)?;
        room.copy_from_slice(name.as_bytes());
        let mut argument = SessionByName { size: size_of::<SessionByName>() as u32, fd: -1, name: bytes };
        ioctl(&self.0, command, &mut argument)?;
        own(argument.fd).map(Session)
    }
}

/// An open session. Closing an outgoing one drops what it preserves; closing an incoming one finishes it.
pub(crate) struct Session(OwnedFd);

impl Session {
    /// LIVEUPDATE_SESSION_PRESERVE_FD.
    pub(crate) fn preserve(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        let mut argument = FdByToken { size: size_of::<FdByToken>() as u32, fd: fd.as_raw_fd(), token };
        ioctl(&self.0, SESSION_PRESERVE_FD, &mut argument)
    }

    /// LIVEUPDATE_SESSION_RETRIEVE_FD.
    pub(crate) fn retrieve(&self, token: u64) -> Result<OwnedFd, Errno> {
        let mut argument = FdByToken { size: size_of::<FdByToken>() as u32, fd: -1, token };
        ioctl(&self.0, SESSION_RETRIEVE_FD, &mut argument)?;
        own(argument.fd)
    }

    /// LIVEUPDATE_SESSION_FINISH.
    pub(crate) fn finish(&self) -> Result<(), Errno> {
        let mut argument = FinishSession { size: size_of::<FinishSession>() as u32, reserved: 0 };
        ioctl(&self.0, SESSION_FINISH, &mut argument)
    }
}

fn ioctl<T>(fd: &OwnedFd, command: c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each caller passes the structure that the kernel's header gives for its command; it is repr(C), lives
    // through the call, and its first field tells the kernel its size.
    let returned = unsafe { libc::ioctl(fd.as_raw_fd(), command, std::ptr::from_mut(argument)) };
    if returned < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}

fn own(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<SessionByName>(), 72);
        assert_eq!(size_of::<FdByToken>(), 16);
        assert_eq!(std::mem::offset_of!(FdByToken, token), 8);
        assert_eq!(size_of::<FinishSession>(), 8);
        assert_eq!(CREATE_SESSION, 0xBA00);
        assert_eq!(SESSION_FINISH, 0xBA42);
    }
}
