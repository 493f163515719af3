//! The private working folder of a run: RAM files, sockets, initramfs images. It has no evidence.

use crate::error::VmError;
use rustix::fs::{FlockOperation, flock, statvfs};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed on drop. If luqual is killed, the next start removes it.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    /// The number of machine folders so far; their names are these numbers, to be short.
    made: AtomicU32,
    /// Held while the folder is used; the kernel releases it when the process ends.
    _lock: File,
}

/// The environment variable with the folder for working folders.
const BASE: &str = "LUQUAL_WORK_DIR";
const LOCK: &str = "lock";
const NEW: &str = ".new-";

impl WorkFolder {
    /// Creates a folder under `LUQUAL_WORK_DIR`, else in /dev/shm, else in the folder for temporary files. First
    /// removes folders of killed processes, and returns their number.
    pub fn create() -> Result<(Self, usize), VmError> {
        let made = Self::create_in(&base());
        if std::env::var_os(BASE).is_some() { made.map_err(VmError::named) } else { made }
    }

    fn create_in(base: &Path) -> Result<(Self, usize), VmError> {
        let swept = sweep(base);
        let name = format!("{}{:08x}", prefix(), rand::random::<u32>());
        // The folder is locked before it gets its name, so that the sweep of another luqual only sees it locked.
        let (unlocked, path) = (base.join(format!("{NEW}{name}")), base.join(name));
        DirBuilder::new().mode(0o700).create(&unlocked).map_err(VmError::file(&unlocked))?;
        let lock = unlocked.join(LOCK);
        let file = File::create(&lock).map_err(VmError::file(&lock))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| VmError::file(&lock)(errno.into()))?;
        fs::rename(&unlocked, &path).map_err(VmError::file(&path))?;
        Ok((Self { path, made: AtomicU32::new(0), _lock: file }, swept))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a folder for one machine in it. An error if there is no space for a RAM file of `memory_mib` MiB.
    pub fn cell(&self, memory_mib: u64) -> Result<CellFolder, VmError> {
        let free = free_mib(&self.path)?;
        if free < memory_mib {
            return Err(VmError::NoSpace { path: self.path.clone(), free, needed: memory_mib });
        }
        let path = self.path.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        // sun_path has 108 bytes with the NUL (unix(7)).
        if path.join(crate::args::LONGEST_SOCKET).as_os_str().len() > 107 {
            return Err(VmError::LongPath(path));
        }
        fs::create_dir(&path).map_err(VmError::file(&path))?;
        Ok(CellFolder { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The folder of one machine: its RAM file, its sockets, its initramfs. It is removed with its content when this is
/// dropped, since a RAM file that stays takes the space of a later machine.
#[derive(Debug)]
pub struct CellFolder {
    path: PathBuf,
}

impl CellFolder {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder on another thread, since freeing a GiB of memory takes a tenth of a second. A drop removes
    /// it on the same thread; so does a runtime that ends before the removal began.
    pub async fn remove(self) {
        // An error means that the thread panicked or never ran; then the drop removed the folder.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for CellFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The folder in which working folders are created.
pub fn base() -> PathBuf {
    if let Some(path) = std::env::var_os(BASE) {
        return path.into();
    }
    let shm = Path::new("/dev/shm");
    // Containers often have a /dev/shm of 64 MiB.
    if free_mib(shm).is_ok_and(|free| free >= 2048) { shm.to_owned() } else { std::env::temp_dir() }
}

/// The space in MiB that an unprivileged user can still write below `path`.
pub fn free_mib(path: &Path) -> Result<u64, VmError> {
    let stat = statvfs(path).map_err(|errno| VmError::file(path)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

fn prefix() -> String {
    format!("luqual-{}-", rustix::process::getuid().as_raw())
}

/// Removes folders whose luqual has ended. Returns their number.
fn sweep(base: &Path) -> usize {
    let (prefix, new) = (prefix(), format!("{NEW}{}", prefix()));
    let Ok(entries) = fs::read_dir(base) else { return 0 };
    let abandoned = |entry: &fs::DirEntry| match entry.file_name().to_str() {
        _ if !is_ours(&entry.path()) => false,
        Some(name) if name.starts_with(&prefix) => is_unlocked(&entry.path()),
        Some(name) if name.starts_with(&new) => is_old(&entry.path()),
        _ => false,
    };
    entries.flatten().filter(abandoned).filter(|entry| fs::remove_dir_all(entry.path()).is_ok()).count()
}

/// Whether a folder belongs to this user; in a folder that everyone can write to, the name proves nothing.
fn is_ours(folder: &Path) -> bool {
    let uid = rustix::process::getuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
}

fn is_unlocked(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // The folder got its name with its lock, so that its removal was interrupted.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether a folder without a lock is older than a minute, so that its luqual has ended.
fn is_old(folder: &Path) -> bool {
    let made = fs::metadata(folder).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() >= 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's folder with files in it, as a machine that ended leaves it.
    fn used(base: &Path) -> CellFolder {
        let work = WorkFolder { path: base.to_owned(), made: AtomicU32::new(0), _lock: tempfile::tempfile().unwrap() };
        let folder = work.cell(0).unwrap();
        // The test's base is removed by the test.
        std::mem::forget(work);
        fs::write(folder.path().join("ram"), "memory").unwrap();
        fs::write(folder.path().join("initrd"), "archive").unwrap();
        folder
    }

    #[tokio::test]
    async fn a_machines_folder_goes_however_its_end_is_cut_off() {
        let base = tempfile::tempdir().unwrap();
        let left = || fs::read_dir(base.path()).unwrap().count();

        // A copy fails, so the function that holds the folder returns early.
        let copy = |folder: CellFolder| fs::copy(folder.path().join("ram"), "/nowhere/ram");
        assert!(copy(used(base.path())).is_err());
        assert_eq!(left(), 0);

        // The deadline of the teardown passes while something else is awaited.
        let folder = used(base.path());
        let ending = async move {
            std::future::pending::<()>().await;
            folder.remove().await;
        };
        assert!(tokio::time::timeout(std::time::Duration::ZERO, ending).await.is_err());
        assert_eq!(left(), 0);

        used(base.path()).remove().await;
        assert_eq!(left(), 0);
    }

    #[test]
    fn only_folders_that_nobody_holds_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let held = base.path().join(format!("{}held", prefix()));
        let left = base.path().join(format!("{}left", prefix()));
        let other = base.path().join("luqual-other");
        for folder in [&held, &left, &other] {
            fs::create_dir(folder).unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        let half_removed = base.path().join(format!("{}half", prefix()));
        fs::create_dir_all(half_removed.join("vm")).unwrap();
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, base.path().join(format!("{}link", prefix()))).unwrap();
        let being_made = base.path().join(format!("{NEW}{}made", prefix()));
        fs::create_dir(&being_made).unwrap();
        let lock = File::open(held.join(LOCK)).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert_eq!(sweep(base.path()), 2);
        assert!(held.exists() && other.exists() && elsewhere.exists() && being_made.exists());
        assert!(!left.exists() && !half_removed.exists());
        drop(lock);
        assert_eq!(sweep(base.path()), 1);
    }
}
