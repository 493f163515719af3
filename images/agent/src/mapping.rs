//! Mapped memory: pages whose physical address matters, such as the tick page and the pages of a memfd, and registers of devices.
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

/// A mapping, which is unmapped on drop.
pub(crate) struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// One page of anonymous memory: present, locked, zero.
    pub(crate) fn locked_page() -> io::Result<Self> {
        let mut page = Self::locked(1)?;
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

    /// The first `length` bytes of `file`, private: a write makes a copy of the page.
    pub(crate) fn private_of_file(file: impl AsFd, length: usize) -> io::Result<Self> {
        Self::map(file, length, MapFlags::PRIVATE)
    }

    /// The first `length` bytes of `file`, to find out where they are. Nothing is written through it, and no seal forbids it.
    pub(crate) fn view_of_file(file: impl AsFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it is only read, through volatile reads.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0)? };
        Ok(Self { start: start.cast(), length })
    }

    fn map(file: impl AsFd, length: usize, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it is accessed by volatile and atomic operations and
        // by copies of bytes alone, never by a reference.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
        Ok(Self { start: start.cast(), length })
    }

    /// This many pages of anonymous memory: present, locked, zero.
    pub(crate) fn locked(pages: usize) -> io::Result<Self> {
        let length = pages * PAGE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?
        };
        let memory = Self { start: start.cast(), length };
        memory.lock()?;
        Ok(memory)
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Its address in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start as u64
    }

    /// Copies bytes out of it. A device may write them meanwhile.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.length, "offset {offset} is outside of the mapping");
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: inside the mapping, as asserted.
            *byte = unsafe { self.start.add(offset + at).read_volatile() };
        }
    }

    /// Reads a word of 4 bytes at an offset that is a multiple of 4.
    pub(crate) fn word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "offset {offset} is outside of the mapping");
        // SAFETY: inside the mapping, as asserted; `bytes` is a reference and so nowhere in it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) };
    }

    /// Reads one byte of each page, which makes all pages present. Returns the sum of the bytes.
    pub(crate) fn touch(&self) -> u64 {
        // SAFETY: inside the mapping.
        (0..self.length).step_by(PAGE).map(|at| u64::from(unsafe { self.start.add(at).read_volatile() })).sum()
    }

    /// Asks the kernel to reclaim all of its pages (madvise(2), MADV_PAGEOUT).
    pub(crate) fn page_out(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, whose content the kernel keeps.
        unsafe { madvise(self.start.cast(), self.length, Advice::LinuxPageOut) }.map_err(io::Error::from)
    }

    /// How many of its pages are in memory.
    pub(crate) fn resident(&self) -> io::Result<usize> {
        Ok(self.residency()?.into_iter().filter(|is_there| *is_there).count())
    }

    /// Which of its pages are in memory (mincore(2)).
    fn residency(&self) -> io::Result<Vec<bool>> {
        let mut pages = vec![0_u8; self.length.div_ceil(PAGE)];
        // SAFETY: the range is this mapping, and there is a byte for each of its pages.
        let returned = unsafe { libc::mincore(self.start.cast(), self.length, pages.as_mut_ptr()) };
        if returned < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
    }

    /// The guest-physical address of each of its pages that is in memory. Other pages stay where they are.
    pub(crate) fn physical_addresses(&self) -> io::Result<Vec<Option<u64>>> {
        let resident = self.residency()?;
        for at in (0..self.length).step_by(PAGE).zip(&resident).filter(|(_, is_there)| **is_there).map(|(at, _)| at) {
            // SAFETY: inside the mapping. The read puts the page into the page table.
            unsafe { self.start.add(at).read_volatile() };
        }
        let mut entries = vec![[0; 8]; resident.len()];
        let pagemap = std::fs::File::open("/proc/self/pagemap")?;
        pagemap.read_exact_at(entries.as_flattened_mut(), self.start as u64 / PAGE as u64 * 8)?;
        let address = |(is_there, entry): (bool, [u8; 8])| match is_there {
            true => frame_address(u64::from_le_bytes(entry)).map(Some).ok_or_else(not_present),
            false => Ok(None),
        };
        resident.into_iter().zip(entries).map(address).collect()
    }

    /// Locks all of it in memory.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping.
        unsafe { mlock_with(self.start.cast(), self.length, MlockFlags::empty()) }.map_err(io::Error::from)
    }

    /// Writes bytes that a device may be reading meanwhile.
    pub(crate) fn fill(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "offset {offset} is outside of the mapping");
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: inside the mapping, as asserted; nobody holds a reference into it.
            unsafe { self.start.add(offset + at).write_volatile(*byte) };
        }
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
        frame_address(u64::from_le_bytes(entry)).ok_or_else(not_present)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

/// The registers of a device, which are unmapped on drop. Each access is one load or store of the register's width, in
/// little-endian order.
pub(crate) struct Bar {
    start: *mut u8,
    length: usize,
}

// SAFETY: the registers belong to no thread; each access is one volatile read or write.
unsafe impl Send for Bar {}

impl Bar {
    /// `length` bytes of `file` from `offset` on: a region of a VFIO device, or a resource of sysfs.
    pub(crate) fn of_file(file: impl AsFd, offset: u64, length: usize) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it is only accessed by the volatile operations below.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)?
        };
        Ok(Self { start: start.cast(), length })
    }

    /// Their length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Their address in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start as u64
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.length,
            "offset {offset:#x} is no register"
        );
        // SAFETY: inside the mapping, as asserted.
        unsafe { self.start.add(offset).cast() }
    }

    pub(crate) fn read8(&self, offset: usize) -> u8 {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    pub(crate) fn read16(&self, offset: usize) -> u16 {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        u16::from_le(unsafe { self.at::<u16>(offset).read_volatile() })
    }

    pub(crate) fn read32(&self, offset: usize) -> u32 {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        u32::from_le(unsafe { self.at::<u32>(offset).read_volatile() })
    }

    pub(crate) fn read64(&self, offset: usize) -> u64 {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        u64::from_le(unsafe { self.at::<u64>(offset).read_volatile() })
    }

    pub(crate) fn write8(&self, offset: usize, value: u8) {
        // SAFETY: inside the mapping, as `at` asserts.
        unsafe { self.at::<u8>(offset).write_volatile(value) }
    }

    pub(crate) fn write16(&self, offset: usize, value: u16) {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        unsafe { self.at::<u16>(offset).write_volatile(value.to_le()) }
    }

    pub(crate) fn write32(&self, offset: usize, value: u32) {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        unsafe { self.at::<u32>(offset).write_volatile(value.to_le()) }
    }

    pub(crate) fn write64(&self, offset: usize, value: u64) {
        // SAFETY: inside the mapping and aligned, as `at` asserts.
        unsafe { self.at::<u64>(offset).write_volatile(value.to_le()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

/// Memory that is read-only, also for the kernel on behalf of this process. It is unmapped on drop.
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

fn not_present() -> io::Error {
    io::Error::other("the page is not present")
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
