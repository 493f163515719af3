//! The packages of a kernel, as a distribution ships them: what luqual reads of them is unpacked into the store, and
//! nothing is installed. They are other people's files: only regular files below the folders of kernels and modules
//! come out of them, each up to a bound.

use crate::error::KernelError;
use crate::installed;
use crate::rpm;
use crate::unpack::{self, deb_data, opened};
use crate::workplace::Workplace;
use luqual_files::digest;
use luqual_model::bounds::{IMAGE, MODULES, PACKAGES};
use rustix::fs::FileType;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// The ends of the names of packages.
const ENDS: [&str; 6] = [".deb", ".rpm", ".tar", ".tar.gz", ".tar.xz", ".tar.zst"];

/// The package files that a name stands for: one, several joined by `+`, or the ones in a folder; `None` if it stands
/// for something else. A name can have a `+` in it, so that only one behind the end of a name joins.
pub(crate) fn files_of(spec: &str) -> Option<Vec<PathBuf>> {
    let path = Path::new(spec);
    if path.is_dir() {
        let mut files: Vec<PathBuf> = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.to_str().is_some_and(is_package));
        files.sort();
        // `make tarzst-pkg` leaves its package in the tree, which is what the user means.
        let is_kernel = || installed::built(path).is_some() || installed::image(path).is_ok();
        return Some(files).filter(|files| !files.is_empty() && !is_kernel());
    }
    let mut names: Vec<String> = Vec::new();
    for part in spec.split('+') {
        match names.last_mut().filter(|last| !is_package(last)) {
            Some(last) => {
                last.push('+');
                last.push_str(part);
            }
            None => names.push(part.to_owned()),
        }
    }
    names.iter().all(|name| is_package(name)).then(|| names.into_iter().map(PathBuf::from).collect())
}

fn is_package(name: &str) -> bool {
    ENDS.iter().any(|end| name.ends_with(end))
}

/// Unpacks the packages below `place`, unless they are there already, and returns the folder.
pub(crate) fn unpacked(files: &[PathBuf], place: &Path) -> Result<PathBuf, KernelError> {
    let mut digests = String::new();
    for file in files {
        digests += &digest::of_file(file).map_err(KernelError::named(file))?;
    }
    let folder = place.join(&digest::of_bytes(digests.as_bytes())[..16]);
    if folder.is_dir() {
        return Ok(folder);
    }
    let work = Workplace::new(place)?;
    let new = work.path().join("new");
    fs::create_dir(&new).map_err(KernelError::file(&new))?;
    let mut unpacking = Unpacking { to: &new, files: 0, bytes: 0 };
    for file in files {
        unpacking.package(file).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => KernelError::file(&new)(error),
            _ => KernelError::NotAKernel { path: file.clone(), why: format!("it cannot be unpacked: {error}") },
        })?;
    }
    match fs::rename(&new, &folder) {
        // Another luqual was faster.
        Err(_) if folder.is_dir() => {}
        renamed => renamed.map_err(KernelError::file(&folder))?,
    }
    Ok(folder)
}

struct Unpacking<'a> {
    to: &'a Path,
    files: usize,
    bytes: u64,
}

impl Unpacking<'_> {
    fn package(&mut self, path: &Path) -> io::Result<()> {
        let file = BufReader::new(luqual_files::open(path)?);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("deb") => deb_data(file, |data| self.files_of(data)),
            Some("rpm") => rpm::entries(opened(rpm::payload(file)?)?, |name, mode, content| {
                self.file(Path::new(name), FileType::from_raw_mode(mode).is_file(), content)
            }),
            _ => self.files_of(opened(file)?),
        }
    }

    /// The files of an archive.
    fn files_of(&mut self, archive: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let (path, is_file) = (entry.path()?.into_owned(), entry.header().entry_type().is_file());
            self.file(&path, is_file, &mut entry)?;
        }
        unpack::to_the_end(archive.into_inner())
    }

    /// Takes an entry of a package, if luqual reads it.
    fn file(&mut self, path: &Path, is_file: bool, content: &mut dyn Read) -> io::Result<()> {
        let Some(name) = wanted(path).filter(|_| is_file) else { return Ok(()) };
        self.files += 1;
        if self.files > MODULES {
            return Err(io::Error::other(format!("it has more than {MODULES} files")));
        }
        let to = self.to.join(&name);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let copied = io::copy(&mut content.take(IMAGE + 1), &mut File::create(&to)?)?;
        self.bytes += copied;
        if copied > IMAGE || self.bytes > PACKAGES {
            return Err(io::Error::other(format!("{} is too large", name.display())));
        }
        Ok(())
    }
}

/// The path of a file that luqual reads: of a kernel, or of its modules. Anything else stays in the package.
fn wanted(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    let places = ["boot", "lib/modules", "usr/lib/modules"];
    places.iter().any(|place| plain.starts_with(place) && plain != Path::new(place)).then_some(plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;
    use tar::{EntryType, Header};

    fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, content: &str) {
        let mut header = Header::new_gnu();
        // The library refuses such names itself.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        if kind == EntryType::Symlink {
            header.set_link_name(content).unwrap();
            header.set_size(0);
        } else {
            header.set_size(content.len() as u64);
        }
        header.set_cksum();
        let content = if kind == EntryType::Symlink { "" } else { content };
        builder.append(&header, content.as_bytes()).unwrap();
    }

    fn data(files: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        files.iter().for_each(|(name, kind, content)| entry(&mut builder, name, *kind, content));
        builder.into_inner().unwrap()
    }

    pub(crate) fn deb(data: &[u8]) -> Vec<u8> {
        let mut builder = ar::Builder::new(Vec::new());
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar", data)] {
            builder.append(&ar::Header::new(name.into(), content.len() as u64), content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_plus_joins_packages_and_can_be_in_a_name() {
        let of = |spec| files_of(spec).map(|files| files.iter().map(|it| it.display().to_string()).collect::<Vec<_>>());
        assert_eq!(
            of("a-1+deb13_1~bpo+1_amd64.deb+b.tar.xz+c.deb").unwrap(),
            ["a-1+deb13_1~bpo+1_amd64.deb", "b.tar.xz", "c.deb"]
        );
        assert_eq!(of("a.deb").unwrap(), ["a.deb"]);
        for other in ["7.3.4", "a.deb+", "a.deb+b", "bzImage+x"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_folder_of_packages_is_one_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().to_str().unwrap();
        assert_eq!(files_of(spec), None);
        for name in ["b.deb", "a.deb", "README"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(files_of(spec).unwrap(), ["a.deb", "b.deb"].map(|name| folder.path().join(name)));
        // What is unpacked or built there already is what the user means.
        for image in ["boot/vmlinuz-1", "arch/x86/boot/bzImage"] {
            let image = folder.path().join(image);
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            fs::write(&image, "").unwrap();
            assert_eq!(files_of(spec), None, "{}", image.display());
            fs::remove_file(&image).unwrap();
            assert!(files_of(spec).is_some());
        }
    }

    #[test]
    fn only_files_of_kernels_come_out_and_nothing_lies_outside() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("store");
        let files = [
            ("./boot/vmlinuz-1", EntryType::Regular, "an image"),
            ("./lib/modules/1/a.ko", EntryType::Regular, "a module"),
            ("/usr/lib/modules/1/config", EntryType::Regular, "a configuration"),
            ("../outside", EntryType::Regular, "x"),
            ("boot/../../outside", EntryType::Regular, "x"),
            ("etc/passwd", EntryType::Regular, "x"),
            ("lib/modules/1/link", EntryType::Symlink, "/etc"),
            ("lib/modules/1/link/b.ko", EntryType::Regular, "through no link"),
            ("boot/config-1", EntryType::Symlink, "/etc/passwd"),
        ];
        let package = root.path().join("a.deb");
        fs::write(&package, deb(&data(&files))).unwrap();
        let packages = [package];
        let folder = unpacked(&packages, &place).unwrap();
        assert_eq!(unpacked(&packages, &place).unwrap(), folder, "it is there");
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        assert_eq!(read("boot/vmlinuz-1").as_deref(), Some("an image"));
        assert_eq!(read("lib/modules/1/a.ko").as_deref(), Some("a module"));
        assert_eq!(read("usr/lib/modules/1/config").as_deref(), Some("a configuration"));
        assert_eq!(read("lib/modules/1/link/b.ko").as_deref(), Some("through no link"));
        assert!(!folder.join("etc").exists() && fs::symlink_metadata(folder.join("boot/config-1")).is_err());
        assert!(!place.join("outside").exists() && !root.path().join("outside").exists());
    }

    #[test]
    fn a_package_of_rpm_is_unpacked_as_any_other() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("kernel-core-1.x86_64.rpm");
        let files = [
            ("./lib/modules/1/vmlinuz", 0o100_755, "an image"),
            ("./lib/modules/1/config", 0o120_777, "/etc/passwd"),
            ("../outside", 0o100_644, "x"),
            ("./etc/x", 0o100_644, "x"),
        ];
        fs::write(&package, rpm::tests::package(&files)).unwrap();
        let spec = package.display().to_string();
        let folder = unpacked(&files_of(&spec).unwrap(), &root.path().join("store")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("lib/modules/1/vmlinuz")).unwrap(), "an image");
        assert!(fs::symlink_metadata(folder.join("lib/modules/1/config")).is_err() && !folder.join("etc").exists());
        assert!(!root.path().join("outside").exists() && !root.path().join("store/outside").exists());
    }

    #[test]
    fn what_is_no_package_is_told_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("store");
        let cut = deb(&data(&[("boot/vmlinuz-1", EntryType::Regular, &"x".repeat(4096))]));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&data(&[("boot/vmlinuz-1", EntryType::Regular, "an image")])).unwrap();
        let packed = packed.finish().unwrap();
        for (content, why) in [
            (b"#!/bin/sh\n".to_vec(), ""),
            (deb(b"no tar")[..8].to_vec(), "no data.tar"),
            (cut[..cut.len() - 3000].to_vec(), ""),
            (deb(&packed[..packed.len() - 4]), ""),
        ] {
            let package = root.path().join("a.deb");
            fs::write(&package, content).unwrap();
            let error = unpacked(&[package], &place).unwrap_err().to_string();
            assert!(error.contains("a.deb") && error.contains(why), "{error}");
        }
        let left = fs::read_dir(&place).unwrap().count();
        assert_eq!(left, 0);
    }
}
