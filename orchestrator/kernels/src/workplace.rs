//! Folders for builds, a few GB each: removed when the build ends, and swept by the next start if luqual was killed.

use crate::error::KernelError;
use crate::tools;
use rustix::fs::statvfs;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much a build takes at most, in MiB: the tree and what is compiled from it.
const NEEDED_MIB: u64 = 3000;

/// What the names of such folders begin with, and of those whose lock is not taken yet.
const BUILD: &str = ".build-";
const NEW: &str = ".new-";
const LOCK: &str = "lock";

/// No luqual needs so long from the making of such a folder to its lock; earlier ones did not lock them at all.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder that is removed with all that is in it when this is dropped. It is locked as long as it is used.
#[derive(Debug)]
pub(crate) struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// A new folder in `place`, which is made if it is not there. Those that a killed luqual left in it are removed before.
    pub(crate) fn new(place: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(place).map_err(KernelError::file(place))?;
        sweep(place);
        // Made and locked under another name: the sweep of another luqual sees it only once it is locked.
        let made = tempfile::Builder::new().prefix(NEW).tempdir_in(place).map_err(KernelError::file(place))?;
        let lock = made.path().join(LOCK);
        let file = File::create(&lock).map_err(KernelError::file(&lock))?;
        file.try_lock().map_err(|error| KernelError::file(&lock)(error.into()))?;
        let name = made.path().file_name().unwrap_or_default().to_string_lossy();
        let path = place.join(name.replacen(NEW, BUILD, 1));
        fs::rename(made.path(), &path).map_err(KernelError::file(&path))?;
        Ok(Self { path, _lock: file })
    }

    /// The same for the build of a kernel, if there can be one.
    pub(crate) fn for_build(place: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(place).map_err(KernelError::file(place))?;
        sweep(place);
        can_build(place)?;
        Self::new(place)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders in `place` whose luqual is gone. What still runs in one of them (a compiler whose make found nobody to
/// tell any more) ends by itself; what it leaves is taken by the next sweep.
pub(crate) fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_build = name.starts_with(BUILD);
        if !is_build && !name.starts_with(NEW) {
            continue;
        }
        // Held until the folder is gone, so that nobody else sweeps it.
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

/// Whether there can be a build in `place`.
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
