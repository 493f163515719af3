//! Memory of the agent whose physical place matters: the tick page, the unpreserved page, a memfd's pages.
#![expect(unsafe_code, reason = "mmap and the memory behind it; each block says why it is sound")]

use rustix::fd::AsFd;
use rustix::mm::{
    Advice, MapFlags, MlockFlags, MprotectFlags, ProtFlags, madvise, mlock_with, mmap, mmap_anonymous, mprotect, munmap,
};
use std::ffi::c_void;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The page size of the one architecture so far; a test compares it with the running kernel's.
pub(crate) const PAGE: usize = 4096;

/// A shared mapping; unmapped on drop.
pub(crate) struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// One page of anonymous memory, present, locked, and zero.
    pub(crate) fn locked_page() -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?
        };
        // SAFETY: the range is the mapping that was just made.
        unsafe { mlock_with(start, PAGE, MlockFlags::empty())? };
        let mut page = Self { start: start.cast(), length: PAGE };
        page.store(0, 0);
        Ok(page)
    }

    /// The page of `file` that holds byte `offset`, read only.
    pub(crate) fn page_of(file: impl AsFd, offset: u64) -> io::Result<Self> {
        let aligned = offset / PAGE as u64 * PAGE as u64;
        // SAFETY: a new mapping at an address of the kernel's choice; it is only read, through a volatile read below.
        let start = unsafe { mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::SHARED, file, aligned)? };
        Ok(Self { start: start.cast(), length: PAGE })
    }

    /// The first `length` bytes of `file`, shared.
    pub(crate) fn of_file(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::map(file, length, MapFlags::SHARED)
    }

    /// The first `length` bytes of `file`, of which what is written is our own copy.
    pub(crate) fn private_of_file(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::map(file, length, MapFlags::PRIVATE)
    }

    fn map(file: impl AsFd, length: usize, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it is accessed by volatile and atomic operations and
        // by copies of bytes alone, never by a reference.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
        Ok(Self { start: start.cast(), length })
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "offset {offset} is outside of the mapping");
        // SAFETY: inside the mapping, as asserted; `bytes` is a reference and so nowhere in it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) };
    }

    /// Reads one byte of each page, so that all are present; the sum of them.
    pub(crate) fn touch(&self) -> u64 {
        // SAFETY: inside the mapping.
        (0..self.length).step_by(PAGE).map(|at| u64::from(unsafe { self.start.add(at).read_volatile() })).sum()
    }

    /// Asks the kernel to take all of it out of memory (madvise(2), MADV_PAGEOUT).
    pub(crate) fn page_out(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, whose content the kernel keeps.
        unsafe { madvise(self.start.cast(), self.length, Advice::LinuxPageOut) }.map_err(io::Error::from)
    }

    /// How many of its pages are in memory (mincore(2)).
    pub(crate) fn resident(&self) -> io::Result<usize> {
        let mut pages = vec![0_u8; self.length.div_ceil(PAGE)];
        // SAFETY: the range is this mapping, and there is a byte for each of its pages.
        let returned = unsafe { libc::mincore(self.start.cast(), self.length, pages.as_mut_ptr()) };
        if returned < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().filter(|page| **page & 1 == 1).count())
    }

    /// Locks all of it in memory.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping.
        unsafe { mlock_with(self.start.cast(), self.length, MlockFlags::empty()) }.map_err(io::Error::from)
    }

    /// Writes a word at a byte offset that is a multiple of 8, as the guest's own byte order (little-endian).
    pub(crate) fn store(&mut self, offset: u64, value: u64) {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.length, "offset {offset} is outside of the mapping");
        // SAFETY: inside the mapping and aligned, as asserted; atomic since the host reads it at any moment.
        let word = unsafe { AtomicU64::from_ptr(self.start.add(offset).cast()) };
        word.store(value, Ordering::Release);
    }

    /// The guest-physical address of the page that holds byte `offset`, from /proc/self/pagemap
    /// (Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0-54 the frame's number).
    pub(crate) fn physical_address(&self, offset: usize) -> io::Result<u64> {
        assert!(offset < self.length, "offset {offset} is outside of the mapping");
        // SAFETY: inside the mapping, as asserted. The read makes the page present.
        let at = unsafe {
            let at = self.start.add(offset);
            at.read_volatile();
            at
        };
        let mut entry = [0; 8];
        let pagemap = std::fs::File::open("/proc/self/pagemap")?;
        pagemap.read_exact_at(&mut entry, (at as u64 / PAGE as u64) * 8)?;
        frame_address(u64::from_le_bytes(entry)).ok_or_else(|| io::Error::other("the page is not present"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

/// Memory that may be read and not written, even by the kernel for us; unmapped on drop.
pub(crate) struct ReadOnly(*mut c_void);

impl ReadOnly {
    /// One page that begins with these words.
    pub(crate) fn of(words: &[u64]) -> rustix::io::Result<Self> {
        assert!(size_of_val(words) <= PAGE, "more than a page");
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let page = Self(start);
        // SAFETY: the new page holds the words, as asserted, and nobody else knows of it.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), start.cast(), words.len()) };
        // SAFETY: the range is the mapping that was just made.
        unsafe { mprotect(start, PAGE, MprotectFlags::READ)? };
        Ok(page)
    }

    pub(crate) fn address(&self) -> *mut c_void {
        self.0
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.0, PAGE) };
    }
}

fn frame_address(entry: u64) -> Option<u64> {
    let frame = entry & ((1 << 55) - 1);
    (entry >> 63 == 1 && frame != 0).then_some(frame * PAGE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pagemap_entry_gives_an_address_only_when_the_page_is_present_and_visible() {
        assert_eq!(frame_address(1 << 63 | 0x1234), Some(0x0123_4000));
        assert_eq!(frame_address(0x1234), None);
        // Without CAP_SYS_ADMIN the kernel shows frame 0.
        assert_eq!(frame_address(1 << 63), None);
    }

    #[test]
    fn the_page_size_is_the_kernels() {
        assert_eq!(rustix::param::page_size(), PAGE);
    }
}
