//! The limits that control groups set to this process and its children, as in a container: how much memory is left,
//! and whether one was killed for memory. Both versions are known (Documentation/admin-guide/cgroup-v2.rst,
//! cgroup-v1/memory.rst). Quotas of processors are in `std::thread::available_parallelism()`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The control groups of memory of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryGroups {
    /// Their folders: of each hierarchy the process's own group first, then each ancestor.
    folders: Vec<PathBuf>,
}

/// The limit of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The folder of the group.
    pub group: PathBuf,
    /// The limit in MiB.
    pub limit_mib: u64,
    /// What is left of it in MiB, where files that are only cached count as free.
    pub free_mib: u64,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, limit_mib, free_mib } = self;
        write!(f, "the control group {} is limited to {limit_mib} MiB, {free_mib} of them free", group.display())
    }
}

impl MemoryGroups {
    /// The groups of this process; none if they cannot be read.
    pub fn own() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// The groups by the text of /proc/PID/cgroup (cgroups(7)) and of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
    fn of(cgroup: &str, mountinfo: &str) -> Self {
        let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut folders = Vec::new();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let is_second = controllers.is_empty();
            if !is_second && !controllers.split(',').any(|name| name == "memory") {
                continue;
            }
            if let Some(mount) = mounts.iter().find(|mount| mount.is_second == is_second) {
                folders.extend(mount.folders(path));
            }
        }
        Self { folders }
    }

    /// The limit of which the least is left.
    pub fn limit(&self) -> Option<MemoryLimit> {
        self.limit_by(&|path| fs::read_to_string(path).ok())
    }

    fn limit_by(&self, read: &dyn Fn(&Path) -> Option<String>) -> Option<MemoryLimit> {
        self.folders.iter().filter_map(|folder| limit_of(folder, read)).min_by_key(|limit| limit.free_mib)
    }

    /// How many processes of the group were killed for memory so far; of the whole host if the group does not say.
    pub fn kills(&self) -> u64 {
        self.kills_by(&|path| fs::read_to_string(path).ok())
    }

    fn kills_by(&self, read: &dyn Fn(&Path) -> Option<String>) -> u64 {
        let of = |path: &Path| number(&read(path)?, "oom_kill");
        // The kernel counts a kill in the group of the process, whatever group was full (mm/oom_kill.c,
        // __oom_kill_process()).
        let own = self
            .folders
            .iter()
            .find_map(|it| of(&it.join("memory.events")).or_else(|| of(&it.join("memory.oom_control"))));
        own.or_else(|| of(Path::new("/proc/vmstat"))).unwrap_or_default()
    }
}

/// A mount of a hierarchy that can limit memory.
struct Mount<'a> {
    /// Whether it is of version 2.
    is_second: bool,
    /// The group that is at the mount point.
    root: &'a str,
    point: PathBuf,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        let is_second = kind == "cgroup2";
        let is_first = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        // The kernel writes a space as \040 (fs/proc_namespace.c, mangle()).
        (is_first || is_second).then(|| Self { is_second, root, point: point.replace("\\040", " ").into() })
    }

    /// The folders of a group and of its ancestors up to the mount point.
    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(""));
        // In a namespace of groups, a path can lead above its root.
        let below = if path.contains("..") { Path::new("") } else { below };
        below.ancestors().map(|below| self.point.join(below)).collect()
    }
}

fn limit_of(folder: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<MemoryLimit> {
    let bytes = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
    let of_second = [bytes("memory.max"), bytes("memory.high")].into_iter().flatten().min();
    // Version 1 writes "no limit" as the largest number of whole pages (mm/page_counter.c).
    let limit = of_second.or_else(|| bytes("memory.limit_in_bytes")).filter(|limit| *limit < 1 << 62)?;
    let used = bytes("memory.current").or_else(|| bytes("memory.usage_in_bytes")).unwrap_or_default();
    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
    // Of version 1 only what begins with "total_" has the groups below.
    let cached =
        |name: &str| number(&stat, &format!("total_{name}")).or_else(|| number(&stat, name)).unwrap_or_default();
    let used = used.saturating_sub(cached("inactive_file") + cached("active_file"));
    let free_mib = limit.saturating_sub(used) >> 20;
    Some(MemoryLimit { group: folder.to_owned(), limit_mib: limit >> 20, free_mib })
}

/// The number in the line `NAME NUMBER`.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const MIB: u64 = 1 << 20;

    /// The memory hierarchy of version 1, mounted beside an empty one of version 2 (systemd's hybrid layout).
    const HYBRID: &str = "\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str =
        "25 24 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    /// In a container of Docker with version 1 and without a namespace of groups.
    const DOCKER: &str =
        "1185 1180 0:32 /docker/0a1b /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n";

    fn folders(cgroup: &str, mountinfo: &str) -> Vec<String> {
        MemoryGroups::of(cgroup, mountinfo).folders.iter().map(|it| it.display().to_string()).collect()
    }

    #[test]
    fn a_group_and_all_above_it_are_found() {
        let unified = "0::/user.slice/user-0.slice/run-r1.scope\n";
        assert_eq!(
            folders(unified, UNIFIED),
            [
                "/sys/fs/cgroup/user.slice/user-0.slice/run-r1.scope",
                "/sys/fs/cgroup/user.slice/user-0.slice",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup/",
            ]
        );
        let hybrid = "5:devices:/\n4:memory:/a/b\n1:cpu:/\n0::/\n";
        let memory = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/"];
        assert_eq!(folders(hybrid, HYBRID), [&memory[..], &["/sys/fs/cgroup/unified/"]].concat());
        // In a container: with a namespace of groups, and without.
        assert_eq!(folders("0::/\n", UNIFIED), ["/sys/fs/cgroup/"]);
        assert_eq!(folders("0::/../../x\n", UNIFIED), ["/sys/fs/cgroup/"]);
        assert_eq!(folders("9:memory:/docker/0a1b\n", DOCKER), ["/sys/fs/cgroup/memory/"]);
        let below = folders("9:memory:/docker/0a1b/c\n", DOCKER);
        assert_eq!(below, ["/sys/fs/cgroup/memory/c", "/sys/fs/cgroup/memory/"]);
        assert!(folders("", "").is_empty() && folders("garbage\n", "garbage - x\n").is_empty());
        let space = UNIFIED.replace("/sys/fs/cgroup ", "/my\\040groups ");
        assert_eq!(folders("0::/\n", &space), ["/my groups/"]);
    }

    fn limit(cgroup: &str, mountinfo: &str, files: &[(&str, String)]) -> Option<MemoryLimit> {
        let files: BTreeMap<&str, &String> = files.iter().map(|(path, text)| (*path, text)).collect();
        let read = |path: &Path| files.get(path.to_str().unwrap()).map(|text| (*text).clone());
        MemoryGroups::of(cgroup, mountinfo).limit_by(&read)
    }

    #[test]
    fn the_tightest_limit_of_all_above_counts() {
        let bytes = |mib: u64| format!("{}\n", mib * MIB);
        let stat =
            format!("anon {}\nfile {}\ninactive_file {}\nactive_file {}\n", 90 * MIB, 70 * MIB, 30 * MIB, 20 * MIB);
        let mut files = vec![
            ("/sys/fs/cgroup/a/b/memory.max", "max\n".to_owned()),
            ("/sys/fs/cgroup/a/b/memory.high", "max\n".to_owned()),
            ("/sys/fs/cgroup/a/b/memory.current", bytes(100)),
            ("/sys/fs/cgroup/a/memory.max", bytes(600)),
            ("/sys/fs/cgroup/a/memory.current", bytes(150)),
            ("/sys/fs/cgroup/a/memory.stat", stat),
        ];
        let found = |files: &[(&str, String)]| limit("0::/a/b\n", UNIFIED, files);
        let group = PathBuf::from("/sys/fs/cgroup/a");
        assert_eq!(found(&files), Some(MemoryLimit { group: group.clone(), limit_mib: 600, free_mib: 500 }));
        // From memory.high on the kernel slows the group down until it has less.
        files.push(("/sys/fs/cgroup/a/memory.high", bytes(400)));
        assert_eq!(found(&files).map(|it| (it.group, it.free_mib)), Some((group, 300)));
        files[0].1 = bytes(120);
        assert_eq!(found(&files).map(|it| (it.limit_mib, it.free_mib)), Some((120, 20)));
        // Full.
        files[0].1 = bytes(90);
        assert_eq!(found(&files).map(|it| it.free_mib), Some(0));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn version_1_has_its_own_names_and_its_own_word_for_no_limit() {
        let no_limit = "9223372036854771712\n".to_owned();
        let mut files = vec![
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", no_limit.clone()),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", no_limit),
        ];
        let found = |files: &[(&str, String)]| limit("4:memory:/a\n0::/\n", HYBRID, files);
        assert_eq!(found(&files), None);
        files[0].1 = format!("{}\n", 600 * MIB);
        files.push(("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", format!("{}\n", 200 * MIB)));
        let stat = format!("inactive_file {MIB}\ntotal_inactive_file {}\ntotal_active_file {}\n", 40 * MIB, 10 * MIB);
        files.push(("/sys/fs/cgroup/memory/a/memory.stat", stat));
        let told = found(&files).unwrap();
        assert_eq!(
            told.to_string(),
            "the control group /sys/fs/cgroup/memory/a is limited to 600 MiB, 450 of them free"
        );
    }

    #[test]
    fn a_kill_for_memory_is_counted_where_the_process_was() {
        let kills = |files: &[(&str, &str)]| {
            let files: BTreeMap<&str, &str> = files.iter().copied().collect();
            let read = |path: &Path| files.get(path.to_str().unwrap()).map(|text| (*text).to_owned());
            MemoryGroups::of("0::/a\n", UNIFIED).kills_by(&read)
        };
        let events = "low 0\nhigh 0\nmax 71\noom 1\noom_kill 3\noom_group_kill 0\n";
        let host = ("/proc/vmstat", "nr_free_pages 1\noom_kill 9\n");
        assert_eq!(kills(&[("/sys/fs/cgroup/a/memory.events", events), host]), 3);
        let first = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(kills(&[("/sys/fs/cgroup/a/memory.oom_control", first), host]), 2);
        // The root group of version 2 has no such file.
        assert_eq!((kills(&[host]), kills(&[])), (9, 0));
    }
}
