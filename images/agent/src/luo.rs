//! /dev/liveupdate and its sessions, as in include/uapi/linux/liveupdate.h of the kernel.
#![expect(unsafe_code, reason = "ioctl(2); each block says why it is sound")]

use crate::errno::last_errno;
use crate::mapping::ReadOnly;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::c_ulong;

/// The device. It opens once at a time.
pub(crate) const DEVICE: &str = "/dev/liveupdate";

const NAME_LENGTH: usize = 64;

/// LIVEUPDATE_IOCTL_TYPE.
pub(crate) const TYPE: u8 = 0xBA;

/// `_IO(0xBA, number)`.
const fn command(number: u8) -> c_ulong {
    (TYPE as c_ulong) << 8 | number as c_ulong
}
const CREATE_SESSION: c_ulong = command(number::CREATE_SESSION);
const RETRIEVE_SESSION: c_ulong = command(number::RETRIEVE_SESSION);
const SESSION_PRESERVE_FD: c_ulong = command(number::PRESERVE_FD);
const SESSION_RETRIEVE_FD: c_ulong = command(number::RETRIEVE_FD);
const SESSION_FINISH: c_ulong = command(number::FINISH);
const SESSION_GET_NAME: c_ulong = command(number::GET_NAME);

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

/// `struct liveupdate_session_get_name`.
#[repr(C)]
struct NameOfSession {
    size: u32,
    reserved: u32,
    name: [u8; NAME_LENGTH],
}

/// The commands by number.
pub(crate) mod number {
    pub(crate) const CREATE_SESSION: u8 = 0x00;
    pub(crate) const RETRIEVE_SESSION: u8 = 0x01;
    pub(crate) const PRESERVE_FD: u8 = 0x40;
    pub(crate) const RETRIEVE_FD: u8 = 0x41;
    pub(crate) const FINISH: u8 = 0x42;
    pub(crate) const GET_NAME: u8 = 0x43;
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

    /// The same with all bytes of the name's field, terminated or not.
    pub(crate) fn create_session_of_bytes(&self, name: [u8; NAME_LENGTH]) -> Result<Session, Errno> {
        self.session_of_bytes(CREATE_SESSION, name)
    }

    fn session(&self, command: c_ulong, name: &str) -> Result<Session, Errno> {
        let mut bytes = [0; NAME_LENGTH];
        // The last byte stays NUL: a longer name is the caller's mistake, not a test of the kernel's.
        let room = bytes.get_mut(..name.len()).filter(|room| room.len() < NAME_LENGTH).ok_or(Errno::NAMETOOLONG)?;
        room.copy_from_slice(name.as_bytes());
        self.session_of_bytes(command, bytes)
    }

    fn session_of_bytes(&self, command: c_ulong, bytes: [u8; NAME_LENGTH]) -> Result<Session, Errno> {
        let mut argument = SessionByName { size: size_of::<SessionByName>() as u32, fd: -1, name: bytes };
        ioctl(&self.0, command, &mut argument)?;
        own(argument.fd).map(Session)
    }
}

/// An open session. Closing an outgoing session drops what it preserves; closing an incoming session finishes it.
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

    /// LIVEUPDATE_SESSION_GET_NAME.
    pub(crate) fn get_name(&self) -> Result<String, Errno> {
        let mut argument =
            NameOfSession { size: size_of::<NameOfSession>() as u32, reserved: 0, name: [0; NAME_LENGTH] };
        ioctl(&self.0, SESSION_GET_NAME, &mut argument)?;
        let end = argument.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH);
        Ok(String::from_utf8_lossy(&argument.name[..end]).into_owned())
    }

    /// LIVEUPDATE_SESSION_FINISH.
    pub(crate) fn finish(&self) -> Result<(), Errno> {
        let mut argument = FinishSession { size: size_of::<FinishSession>() as u32, reserved: 0 };
        ioctl(&self.0, SESSION_FINISH, &mut argument)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Session> for OwnedFd {
    fn from(session: Session) -> Self {
        session.0
    }
}

impl From<OwnedFd> for Session {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// `_IO(kind, number)` with these bytes as the argument. The first four bytes are its length.
pub(crate) fn raw(fd: impl AsFd, kind: u8, number: u8, argument: &mut Argument) -> Result<(), Errno> {
    let command = c_ulong::from(kind) << 8 | c_ulong::from(number);
    // SAFETY: the kernel reads as many bytes as the first word says, which `Argument` holds all, and writes no more than
    // its own structure, the longest of which is 72 bytes.
    let returned = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command, argument.0.as_mut_ptr()) };
    if returned < 0 { Err(last_errno()) } else { Ok(()) }
}

/// `_IO(0xBA, number)` with an argument in read-only memory.
pub(crate) fn into_read_only(fd: impl AsFd, number: u8, argument: &Argument) -> Result<(), Errno> {
    let page = ReadOnly::of(&argument.0)?;
    // SAFETY: the page lives through the call, is longer than any argument, and the kernel's writes to it fail.
    let returned = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command(number), page.address()) };
    if returned < 0 { Err(last_errno()) } else { Ok(()) }
}

/// `_IO(0xBA, number)` without an argument.
pub(crate) fn without_argument(fd: impl AsFd, number: u8) -> Result<(), Errno> {
    let nowhere: *mut u8 = std::ptr::null_mut();
    // SAFETY: nothing is at address 0; the kernel's accesses to it fail.
    let returned = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command(number), nowhere) };
    if returned < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The bytes of an argument, with room for the longest length that it can state.
pub(crate) struct Argument([u64; Argument::WORDS]);

impl Argument {
    const WORDS: usize = 32;
    /// The longest length, in bytes.
    pub(crate) const LONGEST: u32 = (Self::WORDS * 8) as u32;

    /// An argument of this length, all zero.
    pub(crate) fn new(size: u32) -> Self {
        assert!(size <= Self::LONGEST, "an argument of {size} bytes is longer than the buffer");
        let mut argument = Self([0; Self::WORDS]);
        argument.put(0, &size.to_ne_bytes());
        argument
    }

    /// The same argument with these bytes at this offset. The length stays.
    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        assert!(at >= 4, "the length is given at first");
        self.put(at, bytes);
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (place, byte) in bytes.iter().enumerate() {
            let (word, shift) = ((at + place) / 8, (at + place) % 8 * 8);
            self.0[word] = self.0[word] & !(0xff << shift) | u64::from(*byte) << shift;
        }
    }

    /// The descriptor that the kernel wrote at offset 4.
    pub(crate) fn fd(&self) -> Result<OwnedFd, Errno> {
        own((self.0[0] >> 32) as u32 as i32)
    }
}

fn ioctl<T>(fd: &OwnedFd, command: c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each caller passes the structure that the kernel's header gives for its command; it is repr(C), lives
    // through the call, and its first field tells the kernel its size.
    let returned = unsafe { libc::ioctl(fd.as_raw_fd(), command, std::ptr::from_mut(argument)) };
    if returned < 0 { Err(last_errno()) } else { Ok(()) }
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
        assert_eq!(size_of::<NameOfSession>(), 72);
        assert_eq!(SESSION_FINISH, 0xBA42);
    }

    #[test]
    fn an_argument_has_its_length_and_its_bytes() {
        let argument = Argument::new(16).with(4, &[1, 2, 3, 4]).with(8, &u64::MAX.to_ne_bytes()).with(20, &[9]);
        assert_eq!(argument.0[0].to_ne_bytes(), [16, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!((argument.0[1], argument.0[2]), (u64::MAX, 9 << 32));
    }
}
