//! A folder that somebody else may have made: what is in it is opened beneath it, without links.

use crate::{read_all, regular};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, linkat, mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// An open folder. Paths are relative to it, of plain names; no part of them can be a symbolic link, and whoever
/// replaces a folder by a link meanwhile gains nothing (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
pub struct Folder {
    folder: OwnedFd,
    path: PathBuf,
}

/// What an entry of a folder is. Nothing is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a device, a FIFO or a socket.
    Other,
}

impl Folder {
    /// Opens the folder at `path`. Links in the path are followed, since the user named it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder, path: path.to_owned() })
    }

    /// The path by which the folder was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading.
    pub fn file(&self, name: &Path) -> io::Result<File> {
        regular(self.beneath(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?.into())
    }

    /// Opens a regular file for reading and writing.
    pub fn writable(&self, name: &Path) -> io::Result<File> {
        regular(self.beneath(name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)?.into())
    }

    /// Reads a regular file of at most `at_most` bytes.
    pub fn read(&self, name: &Path, at_most: u64) -> io::Result<Vec<u8>> {
        read_all(self.file(name)?, at_most)
    }

    /// The folder with that name in it.
    pub fn folder(&self, name: &Path) -> io::Result<Self> {
        let folder = self.beneath(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { folder, path: self.path.join(name) })
    }

    /// The folder with that name in it, which is created if it does not exist.
    pub fn create_folder(&self, name: &OsStr) -> io::Result<Self> {
        match mkdirat(&self.folder, plain(Path::new(name))?, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.folder(Path::new(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// The entries, by name.
    pub fn entries(&self) -> io::Result<Vec<(OsString, Kind)>> {
        let mut entries = names(self.folder.as_fd())?
            .into_iter()
            .map(|name| {
                let about = statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = match FileType::from_raw_mode(about.st_mode) {
                    FileType::RegularFile => Kind::File,
                    FileType::Directory => Kind::Folder,
                    _ => Kind::Other,
                };
                Ok((name, kind))
            })
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        Ok(entries)
    }

    /// The first entry below this folder that is neither a file nor a folder, or that is deeper than `depth`; its path
    /// is relative to the folder.
    pub fn first_other(&self, depth: usize) -> io::Result<Option<PathBuf>> {
        for (name, kind) in self.entries()? {
            let name = PathBuf::from(name);
            let found = match kind {
                Kind::File => None,
                Kind::Folder if depth > 0 => self.folder(&name)?.first_other(depth - 1)?.map(|below| name.join(below)),
                Kind::Folder | Kind::Other => Some(name),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Adds a file of this folder to another: as a hard link on one file system, otherwise as a copy. A file that is
    /// there already is an error, unless it is the same one.
    pub fn give(&self, name: &OsStr, to: &Self) -> io::Result<()> {
        let name = plain(Path::new(name))?;
        let from = self.file(name)?;
        match linkat(&self.folder, name, &to.folder, name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {
                let id = |folder: &OwnedFd| {
                    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|about| (about.st_dev, about.st_ino))
                };
                return if id(&self.folder)? == id(&to.folder)? { Ok(()) } else { Err(Errno::EXIST.into()) };
            }
            // Another file system, or one without hard links.
            Err(_) => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(openat(&to.folder, name, flags, Mode::from_raw_mode(0o666))?);
        io::copy(&mut &from, &mut copy).map(drop)
    }

    /// Removes what has that name in the folder, with all that is below it; a link is removed, and not followed. Whether
    /// there was something.
    pub fn remove(&self, name: &OsStr, depth: usize) -> io::Result<bool> {
        match remove(self.folder.as_fd(), plain(Path::new(name))?.as_os_str(), depth) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn beneath(&self, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || name.as_os_str().is_empty() {
            return Err(leads_out());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.folder, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(|error| match error {
            Errno::LOOP | Errno::XDEV => leads_out(),
            Errno::NOSYS => io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel has no openat2(2), which Linux has since 5.6: luqual does not open somebody's files without it",
            ),
            other => other.into(),
        })
    }
}

fn leads_out() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is, or is reached by, a symbolic link, or it leads out of its folder",
    )
}

/// A name without a `/` that is not `.` or `..`.
fn plain(name: &Path) -> io::Result<&Path> {
    let mut parts = name.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name.as_os_str() => Ok(name),
        _ => Err(leads_out()),
    }
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove(folder: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done.map_err(io::Error::from),
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other("its folders are too deep"));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = openat(folder, name, flags, Mode::empty())?;
    for entry in names(below.as_fd())? {
        remove(below.as_fd(), &entry, depth)?;
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder `run` with a file in a folder, and a file and links to it outside.
    fn made() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let run = outer.path().join("run");
        fs::create_dir_all(run.join("cells/a")).unwrap();
        fs::create_dir_all(outer.path().join("outside/a")).unwrap();
        fs::write(run.join("cells/a/log"), "own").unwrap();
        fs::write(outer.path().join("outside/a/log"), "foreign").unwrap();
        symlink("../outside", run.join("cells-link")).unwrap();
        symlink("../../outside/a", run.join("cells/b")).unwrap();
        symlink("log", run.join("cells/a/same")).unwrap();
        symlink(outer.path().join("outside/a/log"), run.join("cells/a/absolute")).unwrap();
        let folder = Folder::open(&run).unwrap();
        (outer, folder)
    }

    #[test]
    fn what_is_beneath_is_read_and_no_link_is_followed() {
        let (_outer, folder) = made();
        assert_eq!(folder.read(Path::new("cells/a/log"), 9).unwrap(), b"own");
        for name in [
            "cells-link/a/log",
            "cells/b/log",
            "cells/a/same",
            "cells/a/absolute",
            "../outside/a/log",
            "cells/../cells/a/log",
            "/etc/passwd",
            "",
            ".",
        ] {
            let error = folder.file(Path::new(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        assert!(folder.folder(Path::new("cells-link")).is_err() && folder.folder(Path::new("cells")).is_ok());
        assert!(folder.file(Path::new("cells")).is_err());
        assert_eq!(folder.file(Path::new("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_removed_is_in_the_folder() {
        let (outer, folder) = made();
        let outside = outer.path().join("outside/a/log");
        let cells = folder.folder(Path::new("cells")).unwrap();
        for (name, was_there) in [("a", true), ("b", true), ("none", false)] {
            assert_eq!(cells.remove(OsStr::new(name), 9).unwrap(), was_there, "{name}");
        }
        assert!(folder.remove(OsStr::new("cells-link"), 9).unwrap());
        assert_eq!(fs::read(&outside).unwrap(), b"foreign");
        for name in ["..", ".", "../outside", "cells/a", ""] {
            assert!(folder.remove(OsStr::new(name), 9).is_err(), "{name}");
        }
        assert!(outside.exists() && folder.path().join("cells").exists());
        fs::create_dir_all(folder.path().join("deep/1/2/3")).unwrap();
        assert!(folder.remove(OsStr::new("deep"), 2).is_err());
        assert!(folder.remove(OsStr::new("deep"), 4).unwrap());
    }

    #[test]
    fn a_link_anywhere_below_is_found() {
        let (_outer, folder) = made();
        let cells = folder.folder(Path::new("cells")).unwrap();
        assert_eq!(cells.first_other(9).unwrap(), Some("a/absolute".into()));
        for name in ["absolute", "same"] {
            fs::remove_file(folder.path().join("cells/a").join(name)).unwrap();
        }
        assert_eq!(cells.first_other(9).unwrap(), Some("b".into()));
        fs::remove_file(folder.path().join("cells/b")).unwrap();
        assert_eq!(cells.first_other(9).unwrap(), None);
        assert_eq!(cells.first_other(0).unwrap(), Some("a".into()), "deeper than what luqual makes");
    }

    #[test]
    fn a_file_is_given_once_and_replaces_none() {
        let (outer, folder) = made();
        let from = folder.folder(Path::new("cells/a")).unwrap();
        let to = folder.create_folder(OsStr::new("to")).unwrap();
        for _ in 0..2 {
            from.give(OsStr::new("log"), &to).unwrap();
            assert_eq!(fs::read(to.path().join("log")).unwrap(), b"own");
        }
        assert!(from.give(OsStr::new("same"), &to).is_err());
        fs::remove_file(to.path().join("log")).unwrap();
        fs::write(to.path().join("log"), "another's").unwrap();
        assert_eq!(from.give(OsStr::new("log"), &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(to.path().join("log")).unwrap(), b"another's");
        assert!(folder.create_folder(OsStr::new("cells-link")).is_err(), "a link is no folder");
        assert_eq!(fs::read_dir(outer.path().join("outside")).unwrap().count(), 1);
    }
}
