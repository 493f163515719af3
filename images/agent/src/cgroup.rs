//! Memory control groups (Documentation/admin-guide/cgroup-v2.rst).

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::PathBuf;

/// Where the hierarchy is mounted.
const ROOT: &str = "/run/cgroup";

/// A memory control group. Dropping this removes it if no process is in it.
pub(crate) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes a group without limits.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        fs::create_dir_all(ROOT).map_err(|error| format!("{ROOT}: {error}"))?;
        match mount("cgroup2", ROOT, "cgroup2", MountFlags::empty(), None) {
            // Another workload of the boot has mounted it.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => return Err(format!("mount cgroup2 on {ROOT}: {errno}")),
        }
        let group = Self(PathBuf::from(ROOT).join(name));
        let children = format!("{ROOT}/cgroup.subtree_control");
        fs::write(&children, "+memory")
            .map_err(|error| format!("{children}: {error}; is it switched off by cgroup_disable=memory?"))?;
        fs::create_dir_all(&group.0).map_err(|error| format!("{}: {error}", group.0.display()))?;
        Ok(group)
    }

    /// Sets memory.max: a number of bytes, or `max`.
    pub(crate) fn limit(&self, max: &str) -> Result<(), String> {
        self.write("memory.max", max)
    }

    /// Moves a process into it. What the process was charged for before stays where it is.
    pub(crate) fn add(&self, process: u32) -> Result<(), String> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// The memory in KiB that is charged to it.
    pub(crate) fn charged_kib(&self) -> Result<u64, String> {
        let path = self.0.join("memory.current");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bytes: u64 = text.trim().parse().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(bytes >> 10)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.0.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
