use crate::Archived;
use cpio::newc::{Builder, trailer};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

impl Archived {
    /// The entry of a file, or of a link, whose content is its target.
    pub fn new(path: &str, mode: u32, content: &[u8]) -> Self {
        let sha256 = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: path.to_owned(), mode, sha256 }
    }
}

/// Writes an initramfs: a newc archive (Documentation/driver-api/early-userspace/buffer-format.rst).
///
/// It is not compressed: a guest reads it once, and unpacks more slowly than it copies.
pub struct Archive<W> {
    to: W,
    inode: u32,
    entries: Vec<Archived>,
}

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const KIND: u32 = 0o170_000;

impl<W: Write> Archive<W> {
    /// Starts an empty archive.
    pub const fn new(to: W) -> Self {
        Self { to, inode: 0, entries: Vec::new() }
    }

    /// Adds a directory. It has to come before its content.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.add(path, DIRECTORY | 0o755, &[])
    }

    /// Adds a file with its permissions.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.add(path, FILE | permissions, content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &[u8]) -> io::Result<()> {
        self.add(path, LINK | 0o777, to)
    }

    /// The files and links so far, in order.
    pub fn entries(&self) -> &[Archived] {
        &self.entries
    }

    /// Writes the trailer and returns the writer.
    pub fn finish(self) -> io::Result<W> {
        trailer(self.to)
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{path}: an initramfs holds no file of 4 GiB or more")))?;
        self.inode += 1;
        if mode & KIND != DIRECTORY {
            self.entries.push(Archived::new(path, mode, content));
        }
        let entry = Builder::new(path.trim_start_matches('/')).ino(self.inode).mode(mode).nlink(1);
        let mut writer = entry.write(&mut self.to, length);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }
}
