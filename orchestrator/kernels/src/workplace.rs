//! Working folders of builds, a few GB each. They are removed at the end of the build, or by the next start if luqual
//! was killed.

use crate::error::KernelError;
use crate::tools;
use rustix::fs::statvfs;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest disk space of a build in MiB: the tree and the compiled files.
const NEEDED_MIB: u64 = 3000;

/// The prefix of such folders, and of those that are not locked yet.
const BUILD: &str = ".build-";
const NEW: &str = ".new-";
const LOCK: &str = "lock";

/// The age after which an unlocked folder is abandoned. Older versions of luqual did not lock them.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder that is locked while it is used, and removed with its content when this is dropped.
#[derive(Debug)]
pub(crate) struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Creates a folder in `place`, which is created if necessary. Folders of killed processes are removed first.
    pub(crate) fn new(place: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(place).map_err(KernelError::file(place))?;
        sweep(place);
        // The folder is locked before it gets its name, so that the sweep of another luqual only sees it locked.
        let made = tempfile::Builder::new().prefix(NEW).tempdir_in(place).map_err(KernelError::file(place))?;
        let lock = made.path().join(LOCK);
        let file = File::create(&lock).map_err(KernelError::file(&lock))?;
        file.try_lock().map_err(|error| KernelError::file(&lock)(error.into()))?;
        let name = made.path().file_name().unwrap_or_default().to_string_lossy();
        let path = place.join(name.replacen(NEW, BUILD, 1));
        fs::rename(made.path(), &path).map_err(KernelError::file(&path))?;
        Ok(Self { path, _lock: file })
    }

    /// The same for the build of a kernel, after a check of tools and disk space.
    pub(crate) fn for_build(place: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(place).map_err(KernelError::file(place))?;
        sweep(place);
        can_build(place)?;
        Self::new(place)
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders in `place` whose luqual has ended. A compiler that still runs in one ends by itself; the next
/// sweep removes its files.
pub(crate) fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_build = name.starts_with(BUILD);
        if !is_build && !name.starts_with(NEW) {
            continue;
        }
        // Held until the folder is removed, so that no other sweep touches it.
        let lock = File::open(path.join(LOCK));
        let is_abandoned = match &lock {
            Ok(lock) if is_build => lock.try_lock().is_ok(),
            Ok(_) | Err(_) => is_old(&path),
        };
        if is_abandoned {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_old(folder: &Path) -> bool {
    let changed = fs::symlink_metadata(folder).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age >= ABANDONED))
}

/// Checks that tools and disk space for a build in `place` exist.
pub(crate) fn can_build(place: &Path) -> Result<(), KernelError> {
    let missing = tools::missing();
    if !missing.is_empty() {
        return Err(KernelError::Tools(missing));
    }
    let free = free_mib(place)?;
    if free < NEEDED_MIB {
        return Err(KernelError::NoSpace { path: place.to_owned(), free, needed: NEEDED_MIB });
    }
    Ok(())
}

fn free_mib(path: &Path) -> Result<u64, KernelError> {
    let stat = statvfs(path).map_err(|errno| KernelError::file(path)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_a_killed_build_left_is_swept_and_what_is_used_is_not() {
        let place = tempfile::tempdir().unwrap();
        let used = Workplace::new(place.path()).unwrap();
        fs::write(used.path().join("object"), "x").unwrap();
        // A process that is killed removes nothing, and the kernel lets go of its lock.
        let killed = place.path().join(".build-killed");
        fs::create_dir_all(killed.join("linux/kernel")).unwrap();
        File::create(killed.join(LOCK)).unwrap();
        // As luqual before there were locks: another one may still build in it.
        let unlocked = place.path().join(".build-unlocked");
        fs::create_dir(&unlocked).unwrap();
        let kernel = place.path().join("7.3.4-0123456789abcdef");
        fs::create_dir(&kernel).unwrap();
        File::create(kernel.join(LOCK)).unwrap();

        sweep(place.path());
        assert!(!killed.exists());
        assert!(used.path().join("object").exists() && unlocked.exists() && kernel.exists());

        let days_ago = SystemTime::now() - 2 * ABANDONED;
        File::open(&unlocked).unwrap().set_modified(days_ago).unwrap();
        File::open(&kernel).unwrap().set_modified(days_ago).unwrap();
        sweep(place.path());
        assert!(!unlocked.exists() && kernel.exists());

        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
