//! The guest's memory, which is in files of the host.

use luqual_model::ARCH;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The RAM files, open for reading and writing.
#[derive(Clone, Debug)]
pub struct Ram {
    /// Each with its size, one behind the other.
    files: Arc<[(File, u64)]>,
    size: u64,
}

impl Ram {
    /// Opens the RAM files of a machine in a folder: their names in the order of the addresses, with the size of each in
    /// MiB.
    pub fn open(folder: &Path, files: &[(String, u64)]) -> io::Result<Self> {
        let open = |(name, mib): &(String, u64)| {
            let file = File::options().read(true).write(true).open(folder.join(name))?;
            Ok((file, mib << 20))
        };
        let files: Arc<[(File, u64)]> = files.iter().map(open).collect::<io::Result<_>>()?;
        let size = files.iter().map(|(_, size)| size).sum();
        Ok(Self { files, size })
    }

    /// The memory of a test: one file with `size` bytes.
    pub fn of_file(path: &Path, size: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { files: Arc::new([(file, size)]), size })
    }

    /// The size of the machine's memory, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads at a guest-physical address.
    pub fn read(&self, address: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        let mut offset = self.offset(address, bytes.len())?;
        while !bytes.is_empty() {
            let (file, at, length) = self.piece(offset, bytes.len())?;
            let (now, rest) = bytes.split_at_mut(length);
            file.read_exact_at(now, at)?;
            (bytes, offset) = (rest, offset + length as u64);
        }
        Ok(())
    }

    /// Writes at a guest-physical address.
    pub fn write(&self, address: u64, mut bytes: &[u8]) -> io::Result<()> {
        let mut offset = self.offset(address, bytes.len())?;
        while !bytes.is_empty() {
            let (file, at, length) = self.piece(offset, bytes.len())?;
            let (now, rest) = bytes.split_at(length);
            file.write_all_at(now, at)?;
            (bytes, offset) = (rest, offset + length as u64);
        }
        Ok(())
    }

    /// The file with an offset of all files together, the offset in it, and how much of `length` bytes it has.
    fn piece(&self, mut offset: u64, length: usize) -> io::Result<(&File, u64, usize)> {
        for (file, size) in self.files.iter() {
            if offset < *size {
                let has = usize::try_from(size - offset).unwrap_or(usize::MAX);
                return Ok((file, offset, length.min(has)));
            }
            offset -= size;
        }
        Err(io::Error::other("the files have less than the machine's memory"))
    }

    fn offset(&self, address: u64, length: usize) -> io::Result<u64> {
        (ARCH.machine.ram_offset)(self.size, address, length as u64)
            .ok_or_else(|| io::Error::other(format!("guest address {address:#x}+{length:#x} is not memory")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_is_written_is_read_at_the_same_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(GIB).unwrap();
        let ram = Ram::of_file(file.path(), GIB).unwrap();
        ram.write(0x1234, b"abc").unwrap();
        let mut bytes = [0; 3];
        ram.read(0x1234, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
        assert!(ram.read(GIB, &mut bytes).is_err());
    }

    #[test]
    fn a_range_can_go_over_from_one_file_to_the_next() {
        const MIB: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let files = [("ram", 1), ("ram-2", 2)].map(|(name, mib)| (name.to_owned(), mib));
        for (name, mib) in &files {
            File::create(folder.path().join(name)).unwrap().set_len(mib << 20).unwrap();
        }
        let ram = Ram::open(folder.path(), &files).unwrap();
        assert_eq!(ram.size(), 3 << 20);
        ram.write(MIB as u64 - 2, b"abcd").unwrap();
        let mut bytes = [0; 6];
        ram.read(MIB as u64 - 3, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0abcd\0");
        let first = std::fs::read(folder.path().join("ram")).unwrap();
        let second = std::fs::read(folder.path().join("ram-2")).unwrap();
        assert!(first.ends_with(b"ab") && second.starts_with(b"cd"));
        assert!(ram.read((3 << 20) - 1, &mut bytes).is_err());
    }
}
