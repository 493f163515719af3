//! The guest's memory, which is a file of the host.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The RAM file, open for reading and writing.
#[derive(Clone, Debug)]
pub struct Ram {
    file: Arc<File>,
    size: u64,
}

impl Ram {
    /// Opens the RAM file of a q35 machine with `size` bytes of memory.
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { file: Arc::new(file), size })
    }

    /// The size of the machine's memory, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads at a guest-physical address.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.offset(address, bytes.len())?)
    }

    /// Writes at a guest-physical address.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset(address, bytes.len())?)
    }

    fn offset(&self, address: u64, length: usize) -> io::Result<u64> {
        offset(self.size, address, length as u64)
            .ok_or_else(|| io::Error::other(format!("guest address {address:#x}+{length:#x} is not memory")))
    }
}

/// The offset of a guest-physical range in the RAM file of a q35 machine; `None` if the range is not contiguous
/// memory.
///
/// QEMU hw/i386/pc_q35.c (pc_q35_init): memory that reaches 0xb0000000 is split at 2 GiB, and the rest starts at 4
/// GiB.
fn offset(size: u64, address: u64, length: u64) -> Option<u64> {
    const HOLE_STARTS: u64 = 0xb000_0000;
    const LOW_WITH_HOLE: u64 = 0x8000_0000;
    const HIGH: u64 = 1 << 32;
    let low = if size >= HOLE_STARTS { LOW_WITH_HOLE } else { size };
    let end = address.checked_add(length)?;
    if end <= low {
        Some(address)
    } else if address >= HIGH && end <= HIGH + (size - low) {
        Some(address - HIGH + low)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn small_memory_is_in_one_piece() {
        assert_eq!(offset(GIB, 0x1000, 4096), Some(0x1000));
        assert_eq!(offset(GIB, GIB - 4096, 4096), Some(GIB - 4096));
        assert_eq!(offset(GIB, GIB - 4095, 4096), None);
        assert_eq!(offset(GIB, 4 * GIB, 1), None);
        assert_eq!(offset(GIB, u64::MAX, 2), None);
    }

    #[test]
    fn large_memory_goes_on_at_4_gib() {
        assert_eq!(offset(4 * GIB, 2 * GIB - 1, 1), Some(2 * GIB - 1));
        assert_eq!(offset(4 * GIB, 2 * GIB, 1), None);
        assert_eq!(offset(4 * GIB, 4 * GIB, 1), Some(2 * GIB));
        assert_eq!(offset(4 * GIB, 6 * GIB - 1, 1), Some(4 * GIB - 1));
        assert_eq!(offset(4 * GIB, 6 * GIB, 1), None);
    }

    #[test]
    fn what_is_written_is_read_at_the_same_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(GIB).unwrap();
        let ram = Ram::open(file.path(), GIB).unwrap();
        ram.write(0x1234, b"abc").unwrap();
        let mut bytes = [0; 3];
        ram.read(0x1234, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
        assert!(ram.read(GIB, &mut bytes).is_err());
    }
}
