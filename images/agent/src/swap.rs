//! Swap on a compressed disk in memory (Documentation/admin-guide/blockdev/zram.rst).
#![expect(unsafe_code, reason = "swapon(2) and swapoff(2); each block says why it is sound")]

use crate::errno::last_errno;
use crate::mapping::PAGE;
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const DISK: &CStr = c"/dev/zram0";

/// Swap for the whole guest. It is turned off when this is dropped.
pub(crate) struct Swap(());

impl Swap {
    /// Turns on this many bytes of swap.
    pub(crate) fn on(bytes: u64) -> Result<Self, String> {
        set("disksize", &bytes.to_string())?;
        let swap = Self(());
        let path = DISK.to_string_lossy();
        let disk = File::options().write(true).open(&*path).map_err(|error| format!("{path}: {error}"))?;
        disk.write_all_at(&header(bytes), 0).map_err(|error| format!("{path}: {error}"))?;
        // SAFETY: a NUL-terminated path.
        let returned = unsafe { libc::swapon(DISK.as_ptr(), 0) };
        if returned == 0 { Ok(swap) } else { Err(format!("swapon: {}", last_errno())) }
    }

    /// swapoff(2): the kernel reads everything that is in it back into memory.
    pub(crate) fn off(&self) -> Result<(), Errno> {
        // SAFETY: a NUL-terminated path.
        let returned = unsafe { libc::swapoff(DISK.as_ptr()) };
        if returned == 0 { Ok(()) } else { Err(last_errno()) }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // swapoff(2) fails if the swap is off already.
        let _ = self.off();
        let _ = set("reset", "1");
    }
}

fn set(file: &str, text: &str) -> Result<(), String> {
    let path = format!("/sys/block/zram0/{file}");
    fs::write(&path, text).map_err(|error| format!("{path}: {error}"))
}

/// The first page of a swap area of this many bytes: version 1 (include/linux/swap.h, union swap_header).
fn header(bytes: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let last_page = (bytes / PAGE as u64 - 1) as u32;
    page[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_ne_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_number_of_pages() {
        let page = header(8 << 20);
        assert_eq!(page[1024..1036], [1, 0, 0, 0, 0xff, 7, 0, 0, 0, 0, 0, 0]);
        assert!(page.ends_with(b"SWAPSPACE2"));
    }
}
