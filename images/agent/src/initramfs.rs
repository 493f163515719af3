//! The initramfs of the next kernel, made of this one's files: it is as large after a hundred kexecs as after one. The agent in it
//! is the one that runs, whatever became of its file. What was put in is told to the host, which compares it with its own files.

use crate::own;
use luqual_protocol::{AGENT, AUTORUN, Archive, Archived, KERNELS, Kernel, Request};
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Archives the root file system with these kernels and no others. Returns its files too.
pub(crate) fn next(carry: &[Kernel]) -> Result<(File, Vec<Archived>), String> {
    let made = memfd_create("initramfs", MemfdFlags::CLOEXEC).map_err(io::Error::from).and_then(|file| {
        let (archive, files) = write(Path::new("/"), Path::new(own::FILE), carry, BufWriter::new(File::from(file)))?;
        Ok((archive.into_inner().map_err(io::IntoInnerError::into_error)?, files))
    });
    made.map_err(|error| format!("the next kernel's initramfs: {error}"))
}

fn write<W: Write>(root: &Path, own: &Path, carry: &[Kernel], to: W) -> io::Result<(W, Vec<Archived>)> {
    let mut archive = Archive::new(to);
    let device = fs::symlink_metadata(root)?.dev();
    add(&mut archive, (root, own), root, &|name, about| {
        // Mounted file systems are left out, and so are kernels that nobody loads: they are the largest part.
        let is_kernel = about.is_file() && Path::new(name).starts_with(KERNELS);
        about.dev() == device && (!is_kernel || carry.iter().any(|kernel| kernel.path() == name))
    })?;
    let files = archive.entries().to_vec();
    Ok((archive.finish()?, files))
}

/// Adds the entries of a folder, ordered by name. A directory that is not wanted is added empty, as a mount point.
fn add<W: Write>(
    archive: &mut Archive<W>,
    (root, own): (&Path, &Path),
    folder: &Path,
    is_wanted: &dyn Fn(&str, &Metadata) -> bool,
) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    for path in entries.collect::<io::Result<BTreeSet<PathBuf>>>()? {
        let in_guest = Path::new("/").join(path.strip_prefix(root).map_err(io::Error::other)?);
        let name =
            in_guest.to_str().ok_or_else(|| io::Error::other(format!("{}: the name is not UTF-8", path.display())))?;
        let about = fs::symlink_metadata(&path)?;
        if about.is_dir() {
            archive.directory(name)?;
        }
        if !is_wanted(name, &about) {
            continue;
        }
        if about.is_dir() {
            add(archive, (root, own), &path, is_wanted)?;
        } else if about.is_symlink() {
            archive.link(name, fs::read_link(&path)?.as_os_str().as_bytes())?;
        } else if about.is_file() {
            let content = fs::read(if name == AGENT { own } else { &path })?;
            let content = if name == AUTORUN { requests_after_kexec(&content) } else { &content };
            archive.file(name, about.permissions().mode() & 0o7777, content)?;
        }
    }
    Ok(())
}

/// The requests of an autorun file that are for the next kernel: those behind the first kexec.
fn requests_after_kexec(requests: &[u8]) -> &[u8] {
    let mut rest = requests;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        if matches!(serde_json::from_slice(line), Ok(Request::Kexec)) {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_next_initramfs_has_the_same_files_and_only_the_kernels_that_are_carried() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name.trim_start_matches('/'));
        fs::create_dir_all(at(KERNELS)).unwrap();
        fs::create_dir(at("/bin")).unwrap();
        let contents = [
            ("/bin/agent", "an agent"),
            ("/luqual/host_key", "a key"),
            (Kernel::Source.path(), "a source"),
            (Kernel::Target.path(), "a target"),
        ];
        for (name, content) in contents {
            fs::write(at(name), content).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        symlink("/bin/agent", at("/init")).unwrap();

        let own = root.path().join("own");
        let written = |carry: &[Kernel]| write(root.path(), &own, carry, Vec::new()).unwrap().0;
        let expected = |kernels: &[(&str, &str)]| {
            let mut archive = Archive::new(Vec::new());
            archive.directory("/bin").unwrap();
            archive.file("/bin/agent", 0o640, b"an agent").unwrap();
            archive.link("/init", b"/bin/agent").unwrap();
            archive.directory("/luqual").unwrap();
            archive.file("/luqual/host_key", 0o640, b"a key").unwrap();
            archive.directory(KERNELS).unwrap();
            kernels.iter().for_each(|(name, content)| archive.file(name, 0o640, content.as_bytes()).unwrap());
            archive.finish().unwrap()
        };
        assert!(written(&[]) == expected(&[]));
        assert!(written(&[Kernel::Source]) == expected(&contents[2..3]));
        assert!(written(&[Kernel::Target, Kernel::Source]) == expected(&contents[2..]));
    }

    #[test]
    fn the_next_kernel_gets_the_requests_after_the_first_kexec() {
        let (kexec, log) = ("{\"request\":\"kexec\"}\n", "{\"request\":\"kernel-log\"}\n");
        let all = [log, kexec, log, kexec, log].concat();
        let then = requests_after_kexec(all.as_bytes());
        assert_eq!(then, [log, kexec, log].concat().as_bytes());
        assert_eq!(requests_after_kexec(requests_after_kexec(then)), b"");
    }
}
