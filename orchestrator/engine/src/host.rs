//! What there is of this host. The tests of this crate have a host of their own, with room enough: they neither depend on this one
//! nor change anything of the user's.

use std::fs;

#[cfg(not(test))]
pub(crate) use luqual_kernels::cache_folder;
#[cfg(test)]
pub(crate) use tests::cache_folder;

/// Memory that the host can give away, in MiB (Documentation/filesystems/proc.rst, MemAvailable).
pub(crate) fn free_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib >> 10)
}

/// How much of it machines can have with their working files, in MiB; `None` where that cannot be measured.
pub(crate) fn room_mib() -> Option<u64> {
    if cfg!(test) {
        return None;
    }
    let files = luqual_vm::free_mib(&luqual_vm::work_base()).ok();
    [free_memory_mib(), files].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use tempfile::TempDir;

    thread_local! {
        // Each test has a thread, and its folder ends with it.
        static CACHE: TempDir = tempfile::tempdir().unwrap();
    }

    pub(crate) fn cache_folder() -> PathBuf {
        CACHE.with(|folder| folder.path().to_owned())
    }
}
