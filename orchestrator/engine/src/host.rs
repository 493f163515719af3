//! The resources of the host. The tests of this crate have a simulated host with enough of everything: they do not
//! depend on the real one, and do not change files of the user.

use luqual_vm::{MemoryGroups, MemoryLimit};
use std::fs;

#[cfg(not(test))]
pub(crate) use luqual_kernels::cache_folder;
#[cfg(test)]
pub(crate) use tests::cache_folder;

/// Available memory in MiB (Documentation/filesystems/proc.rst, MemAvailable).
pub(crate) fn free_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib >> 10)
}

/// The limit of the control groups of this process, as in a container, if it leaves less than the host has free.
pub(crate) fn tight_limit() -> Option<MemoryLimit> {
    let limit = MemoryGroups::own().limit()?;
    let is_tight = free_memory_mib().is_none_or(|free| limit.free_mib < free);
    (is_tight && !cfg!(test)).then_some(limit)
}

/// The memory in MiB for machines and their working files; `None` if it cannot be read.
pub(crate) fn room_mib() -> Option<u64> {
    if cfg!(test) {
        return None;
    }
    let files = luqual_vm::free_mib(&luqual_vm::work_base()).ok();
    [free_memory_mib(), files, tight_limit().map(|limit| limit.free_mib)].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use tempfile::TempDir;

    thread_local! {
        // Each test has a thread of its own; its folder is removed with the thread.
        static CACHE: TempDir = tempfile::tempdir().unwrap();
    }

    pub(crate) fn cache_folder() -> PathBuf {
        CACHE.with(|folder| folder.path().to_owned())
    }
}
