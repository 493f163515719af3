//! Locks between processes, by flock(2). The kernel releases them when their process ends, in any way.

use crate::error::KernelError;
use crate::progress::BuildProgress;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// The lock file of a folder of the store, beside the folder.
pub(crate) fn beside(folder: &Path) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Locks the file at `path` until the returned file is closed. If another process has the lock, tells `progress` what
/// that process `does`, and waits.
pub(crate) async fn take(path: &Path, does: &str, progress: &dyn BuildProgress) -> Result<File, KernelError> {
    let file = File::create(path).map_err(KernelError::file(path))?;
    wait_for(file, path, does, progress).await
}

/// The same for an open file.
pub(crate) async fn wait_for(
    file: File,
    path: &Path,
    does: &str,
    progress: &dyn BuildProgress,
) -> Result<File, KernelError> {
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress.note(&format!("another luqual {does}; this one waits for it")),
        Err(TryLockError::Error(error)) => return Err(KernelError::file(path)(error)),
    }
    let (locked, wait) = oneshot::channel();
    // A thread outside of the runtime, since the runtime waits for its own threads at its end, and the user could not
    // end this wait.
    std::thread::spawn(move || {
        let taken = file.lock().map(|()| file);
        let _ = locked.send(taken);
    });
    let ended = || std::io::Error::other("the thread that waited for the lock ended");
    wait.await.map_err(|_| ended()).and_then(|taken| taken).map_err(KernelError::file(path))
}

/// Locks the file if it is not locked; otherwise `None`.
pub(crate) fn try_take(path: &Path) -> Option<File> {
    let file = File::create(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::Notes;
    use std::time::Duration;

    #[test]
    fn a_wait_for_a_lock_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("kernel"));
        let held = try_take(&path).unwrap();
        let notes = Notes::default();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (path, notes) = (&path, &notes);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let limit = Duration::from_millis(20);
                let waited = runtime
                    .block_on(async { tokio::time::timeout(limit, take(path, "builds it", notes)).await.is_err() });
                drop(runtime);
                done.send(waited).unwrap();
            });
            let waited = is_done.recv_timeout(Duration::from_secs(5));
            // Before anything is asserted, so that a thread that hangs does not hang the test.
            drop(held);
            assert_eq!(waited, Ok(true), "the runtime did not end");
        });
        assert_eq!(notes.taken(), ["another luqual builds it; this one waits for it"]);
    }

    #[tokio::test]
    async fn who_waits_gets_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("kernel"));
        let held = try_take(&path).unwrap();
        let notes = Notes::default();
        let release = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(take(&path, "builds it", &notes), release);
        let taken = taken.unwrap();
        assert!(try_take(&path).is_none());
        drop(taken);
        assert!(try_take(&path).is_some());
    }
}
