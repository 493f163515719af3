//! Builds commits. All commits of a git tree are built in one clone, which is kept, so that each build is
//! incremental.

use crate::build::configure_and_make;
use crate::catalog::Entry;
use crate::error::KernelError;
use crate::fetch::Fetched;
use crate::git::{Failed, git_meanwhile};
use crate::progress::BuildProgress;
use crate::workplace::can_build;
use luqual_files::digest;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder below `trees` for the clone of `tree`.
pub(crate) fn folder_of(trees: &Path, tree: &Path) -> PathBuf {
    trees.join(&digest::of_bytes(tree.as_os_str().as_encoded_bytes())[..16])
}

/// Builds a commit of `tree` in its clone in `folder`. The caller has to hold the lock of the folder until it has
/// copied the result. The clone only has the files of one commit, and borrows the objects of `tree`.
pub(crate) async fn build(
    entry: &Entry,
    (tree, id): (&Path, &str),
    fetched: &Fetched,
    folder: &Path,
    log: &Path,
    progress: &dyn BuildProgress,
) -> Result<PathBuf, KernelError> {
    fs::create_dir_all(folder).map_err(KernelError::file(folder))?;
    can_build(folder)?;
    let clone = folder.join("tree");
    let failed = |failed: Failed| if failed.is_full() { KernelError::full(folder) } else { failed.of(tree) };
    progress.start(&format!("checking out {}", entry.version), None);
    if !clone.join(".git").is_dir() {
        let options = ["clone", "--quiet", "--shared", "--no-checkout"].map(OsStr::new);
        let words = [&options[..], &[tree.as_os_str(), OsStr::new("tree")]].concat();
        git_meanwhile(folder, &words).await.map_err(failed)?;
    }
    let words = ["checkout", "--quiet", "--force", "--detach", id].map(OsStr::new);
    git_meanwhile(&clone, &words).await.map_err(failed)?;
    progress.end();
    configure_and_make(entry, fetched, &clone, folder, log, progress).await?;
    Ok(clone)
}
