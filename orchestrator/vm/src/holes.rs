//! Makes holes in files where they are zero.

use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The size of a piece in bytes; it is a hole if it is zero. It is a multiple of every file system's block size.
const PIECE: usize = 64 << 10;

/// Frees the disk space of all zero pieces, if the file system can. Returns the file's size on disk in bytes.
pub(crate) fn dig(path: &Path) -> io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let mut filled = 0;
        while filled < PIECE {
            match file.read(&mut piece[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        if filled == 0 {
            return Ok(file.metadata()?.blocks() * 512);
        }
        if piece[..filled].iter().all(|byte| *byte == 0) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&file, flags, offset, filled as u64) {
                Ok(()) => {}
                // The file then keeps its size on disk.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    return Ok(file.metadata()?.blocks() * 512);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        offset += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_what_it_was_and_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut bytes = vec![0; 40 * PIECE + 100];
        bytes[5 * PIECE + 7] = 1;
        bytes[20 * PIECE..21 * PIECE].fill(2);
        fs::write(&path, &bytes).unwrap();
        let taken = dig(&path).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        let before = bytes.len() as u64;
        // A file system without holes keeps it whole.
        assert!(taken <= 4 * PIECE as u64 || taken >= before, "{taken}");
        assert_eq!(fs::metadata(&path).unwrap().len(), before);
    }
}
