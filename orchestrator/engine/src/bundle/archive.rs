//! The file format of a bundle: a gzipped tar (POSIX.1-1988, ustar) of regular files. The same content gives the same
//! bytes. The reader trusts nothing in it.

use crate::error::is_of_the_host;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use luqual_model::bounds::{BUNDLE, BUNDLE_FILES};
use luqual_model::{ARCH, Capability, CellId};
use luqual_runner::JOURNAL;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// The version of the format. It rises with every incompatible change.
pub(super) const VERSION: u32 = 1;

/// The name of the file with [`About`].
pub(super) const ABOUT: &str = "bundle.json";
/// The folder of the kernels, each in a folder named by the digest of its image.
pub(super) const KERNELS: &str = "kernels";
/// The folder of the boot's evidence.
pub(super) const LOGS: &str = "logs";
/// The folder of programs, by digest.
pub(super) const PROGRAMS: &str = "programs";

/// The head of a bundle; the rest is a run's folder.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    /// [`VERSION`].
    pub(super) bundle: u32,
    /// The cell of the bundle; others can have shared its boot.
    pub(super) cell: CellId,
}

/// A module of a kernel, in the list of them. Its digest stands in the record.
#[derive(Serialize, Deserialize)]
pub(super) struct PackedModule {
    /// The module's name.
    pub(super) name: String,
    /// The capabilities that need it.
    pub(super) needed_by: BTreeSet<Capability>,
}

/// The path of a kernel image in a bundle, by digest.
pub(super) fn image_of(digest: &str) -> String {
    format!("{KERNELS}/{digest}/{}", ARCH.image.name)
}

/// The path of the list of a kernel's modules, in the order in which they are loaded: each is a [`PackedModule`].
pub(super) fn modules_of(digest: &str) -> String {
    format!("{KERNELS}/{digest}/modules.json")
}

/// The path of a kernel's module.
pub(super) fn module_of(digest: &str, name: &str) -> String {
    format!("{KERNELS}/{digest}/{name}.ko")
}

/// The allowed top-level names, and whether each is a file or a folder.
const TOP: [(&str, Kind); 5] = [
    (ABOUT, Kind::File),
    (JOURNAL, Kind::File),
    (KERNELS, Kind::Folder),
    (LOGS, Kind::Folder),
    (PROGRAMS, Kind::Folder),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// Writes a bundle, which cannot exceed the reader's limits.
pub(super) struct Packer<W: Write> {
    builder: Builder<GzEncoder<W>>,
    /// The remaining size, in bytes.
    left: u64,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(to: W) -> Self {
        Self::of_at_most(to, BUNDLE)
    }

    fn of_at_most(to: W, largest: u64) -> Self {
        Self { builder: Builder::new(GzEncoder::new(to, Compression::default())), left: largest }
    }

    /// Whether a file of `size` bytes fits into the limit.
    pub(super) fn has_room_for(&self, size: u64) -> bool {
        taken(size).is_some_and(|taken| taken <= self.left)
    }

    /// Adds a file with that content; owner and times are not stored.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        let left = taken(size).and_then(|taken| self.left.checked_sub(taken));
        self.left = left.ok_or_else(|| io::Error::other(format!("{name} is too large for a bundle")))?;
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.builder.append(&header, content)
    }

    /// Adds a file of the host.
    pub(super) fn add_file(&mut self, name: &str, file: &Path) -> io::Result<()> {
        self.add(name, &luqual_files::read(file, BUNDLE)?)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.builder.into_inner()?.finish()
    }
}

/// The size of a file in the archive: a header of 512 bytes, and the content in blocks of 512 bytes. `None` on
/// overflow.
fn taken(size: u64) -> Option<u64> {
    size.checked_add(1024)
}

/// Why a bundle cannot be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotUnpacked {
    /// The bundle is invalid; the text says why.
    Refused(String),
    /// The host has no space or cannot write.
    Host(String),
}

impl From<String> for NotUnpacked {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

/// Unpacks a bundle into an empty folder.
pub(super) fn unpack(from: File, into: &Path) -> Result<(), NotUnpacked> {
    unpack_at_most(from, into, BUNDLE)
}

fn unpack_at_most(from: File, into: &Path, largest: u64) -> Result<(), NotUnpacked> {
    let no_archive = |error: io::Error| format!("it is not a gzipped tar: {error}");
    // One more byte shows whether the archive is larger than the limit.
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(from)).take(largest + 1));
    let mut left = largest;
    // Raw entries have the names and sizes of their headers. Extension entries would change these, and are refused.
    for (number, entry) in archive.entries().map_err(no_archive)?.raw(true).enumerate() {
        let mut entry = entry.map_err(no_archive)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |why: &str| Err(NotUnpacked::Refused(format!("its entry `{}` {why}", name.escape_debug())));
        if entry.header().entry_type() != EntryType::Regular {
            return refused("is not a regular file");
        }
        let Some(place) = place(&name) else { return refused("is not a file that a bundle can have") };
        if number >= BUNDLE_FILES {
            return Err(format!("it has more than {BUNDLE_FILES} files").into());
        }
        let taken = taken(entry.size()).filter(|taken| *taken <= left);
        let Some(taken) = taken else { return Err(format!("it unpacks to more than {} MiB", largest >> 20).into()) };
        left -= taken;
        let path = into.join(place);
        let failed = |error: io::Error| NotUnpacked::Host(format!("{}: {error}", path.display()));
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return refused("occurs twice"),
            file => BufWriter::new(file.map_err(failed)?),
        };
        let size = entry.size();
        let copied =
            io::copy(&mut entry, &mut file).and_then(|copied| file.flush().map(|()| copied)).map_err(|error| {
                // A read error is the bundle's fault, unless the host has failed.
                if is_of_the_host(&error) { failed(error) } else { no_archive(error).into() }
            })?;
        if copied != size {
            return refused("is truncated");
        }
    }
    // The checksum of gzip is at the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(no_archive)?;
    Ok(())
}

/// The relative path of an entry: only below one of the known folders, with plain names. `None` if it is not allowed.
pub(super) fn place(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)))
        && name.split('/').all(|word| !word.is_empty() && word != "." && !word.contains('\0'));
    let mut words = name.split('/');
    let top = words.next()?;
    let (_, kind) = TOP.iter().find(|(known, _)| *known == top)?;
    let below = words.count();
    let fits = match kind {
        Kind::File => below == 0,
        Kind::Folder => (1..=2).contains(&below),
    };
    (is_plain && fits).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packer = Packer::new(Vec::new());
        files.iter().for_each(|(name, content)| packer.add(name, content).unwrap());
        packer.finish().unwrap()
    }

    /// An archive of headers that nobody honest writes.
    fn forged(forge: impl Fn(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        forge(&mut builder);
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_ustar();
        // As it is: set_path() would refuse what is to be refused here.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o777);
        header.set_cksum();
        header
    }

    fn unpacked(bytes: &[u8], largest: u64) -> (tempfile::TempDir, Result<(), String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b");
        fs::write(&file, bytes).unwrap();
        let into = folder.path().join("deep/into");
        fs::create_dir_all(&into).unwrap();
        let done = unpack_at_most(File::open(&file).unwrap(), &into, largest).map_err(|why| match why {
            NotUnpacked::Refused(why) => why,
            NotUnpacked::Host(why) => panic!("{why}"),
        });
        // Whatever was in it, nothing is beside the folder.
        assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        (folder, done)
    }

    fn refused(bytes: &[u8]) -> String {
        unpacked(bytes, 1 << 20).1.unwrap_err()
    }

    #[test]
    fn what_was_packed_is_unpacked_and_is_the_same_each_time() {
        let files: [(&str, &[u8]); 3] =
            [("bundle.json", b"{}"), ("kernels/ab/bzImage", b"kernel"), ("logs/console.log", b"")];
        let bytes = packed(&files);
        assert!(bytes == packed(&files));
        let (folder, done) = unpacked(&bytes, 1 << 20);
        done.unwrap();
        for (name, content) in files {
            assert_eq!(fs::read(folder.path().join("deep/into").join(name)).unwrap(), content);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "/etc/passwd",
            "../x",
            "logs/../../x",
            "logs/..",
            "logs//x",
            "./bundle.json",
            "logs/./x",
            "logs/a/b/c",
            "logs",
            "bundle.json/x",
            "kernels",
            "other",
            "",
            "run.json",
        ] {
            assert_eq!(place(name), None, "{name}");
            let bytes = forged(|builder| builder.append(&header(EntryType::Regular, name, 0), io::empty()).unwrap());
            assert!(refused(&bytes).contains("is not a file that a bundle can have"), "{name}");
        }
        assert_eq!(place("kernels/ab/vmlinux"), Some(PathBuf::from("kernels/ab/vmlinux")));
    }

    #[test]
    fn only_plain_files_are_taken() {
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Directory,
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
            EntryType::GNULongName,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
            EntryType::GNUSparse,
        ] {
            let bytes = forged(|builder| {
                let mut header = header(kind, "logs/x", 0);
                header.as_ustar_mut().unwrap().linkname[..11].copy_from_slice(b"/etc/passwd");
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            });
            assert_eq!(refused(&bytes), "its entry `logs/x` is not a regular file", "{kind:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut packer = Packer::of_at_most(Vec::new(), 3000);
        assert!(packer.has_room_for(1976) && !packer.has_room_for(1977) && !packer.has_room_for(u64::MAX));
        packer.add("logs/a", &[1; 1000]).unwrap();
        assert!(!packer.has_room_for(0));
        assert_eq!(packer.add("logs/b", b"").unwrap_err().to_string(), "logs/b is too large for a bundle");
    }

    #[test]
    fn a_changed_byte_is_seen_and_so_is_one_that_is_missing() {
        let bytes = packed(&[("logs/a", b"a long line of a console")]);
        for place in [bytes.len() - 8, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            assert!(refused(&bytes).contains("not a gzipped tar"), "{place}");
        }
        assert!(refused(&bytes[..bytes.len() - 1]).contains("not a gzipped tar"));
    }

    #[test]
    fn bombs_are_refused() {
        // A megabyte of zeros is a kilobyte of gzip.
        let large = packed(&[("logs/a", &[0; 600 << 10]), ("logs/b", &[0; 600 << 10])]);
        assert!(large.len() < 4096);
        assert_eq!(refused(&large), "it unpacks to more than 1 MiB");
        let claimed =
            forged(|builder| builder.append(&header(EntryType::Regular, "logs/a", 7 << 30), io::empty()).unwrap());
        assert_eq!(refused(&claimed), "it unpacks to more than 1 MiB");
        let names: Vec<String> = (0..=BUNDLE_FILES).map(|number| format!("logs/{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert!(unpacked(&packed(&many), 1 << 30).1.unwrap_err().contains("more than 1000 files"));
        assert!(unpacked(&packed(&many[1..]), 1 << 30).1.is_ok());
    }

    #[test]
    fn what_is_damaged_is_told() {
        assert_eq!(refused(&packed(&[("logs/a", b"1"), ("logs/a", b"2")])), "its entry `logs/a` occurs twice");
        assert!(refused(b"not an archive").starts_with("it is not a gzipped tar: "));
        let whole =
            packed(&[("logs/a", &(0..200_000).map(|n: u32| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<u8>>())]);
        assert!(unpacked(&whole[..whole.len() / 2], 1 << 20).1.is_err());
        let short = forged(|builder| builder.append(&header(EntryType::Regular, "logs/a", 4000), &b"1"[..]).unwrap());
        assert!(unpacked(&short, 1 << 20).1.is_err());
    }
}
