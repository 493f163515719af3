//! Opens files that somebody else may have made: regular ones only, up to a bound, and beneath a folder without links.
//!
//! A FIFO waits for its other end, a device has no end, and a symbolic link in a folder of somebody's leads out of it.

pub mod digest;
mod folder;

pub use folder::{Folder, Kind};

use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, openat};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file for reading; symbolic links are followed, since the user named the path. Anything else is an
/// error of kind [`io::ErrorKind::InvalidInput`].
pub fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, the open of a FIFO waits for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    regular(openat(CWD, path, flags, Mode::empty())?.into())
}

/// Reads a regular file of at most `at_most` bytes.
pub fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, at_most)
}

/// Reads a regular file of at most `at_most` bytes of UTF-8.
pub fn read_text(path: &Path, at_most: u64) -> io::Result<String> {
    String::from_utf8(read(path, at_most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// Reads a file to its end, but not more than `at_most` bytes.
pub fn read_all(file: File, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(at_most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > at_most {
        let why = format!("it is larger than {}", size(at_most));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

/// The file, if it is a regular one, with reads that wait.
fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        let why = if kind.is_dir() { "it is a folder" } else { "it is not a regular file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkfifoat;
    use std::fs;

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("file"), 4).unwrap(), b"text");
        assert_eq!(read_text(&at("link"), 4).unwrap(), "text", "the user named the path");
        for (path, why) in [
            (at("fifo"), "it is not a regular file"),
            ("/dev/zero".into(), "it is not a regular file"),
            (folder.path().to_owned(), "it is a folder"),
        ] {
            let error = open(&path).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::InvalidInput, why), "{path:?}");
        }
        // ENXIO.
        assert!(open(&at("socket")).is_err());
        assert_eq!(open(&at("nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_over_the_bound_is_an_error_and_not_a_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::FileTooLarge, "it is larger than 4 bytes")
        );
        // A file without blocks on the disk.
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path, 1 << 20).unwrap_err().to_string().ends_with("1 MiB"));
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
