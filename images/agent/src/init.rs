//! Process 1: mounts, starts the other roles, reaps. Its end is a kernel panic, so it does nothing that can fail late.

use crate::holder;
use crate::log::say;
use crate::{modules, network, own};
use luqual_protocol::UNREACHABLE_LINE;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

/// What is mounted: type, path, and whether the guest needs it.
const MOUNTS: [(&str, &str, bool); 6] = [
    ("devtmpfs", "/dev", true),
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("tmpfs", "/run", true),
    // For the terminals of `luqual shell`.
    ("devpts", "/dev/pts", false),
    ("debugfs", "/sys/kernel/debug", false),
];

/// Returns only if the guest cannot start.
pub(crate) fn run() -> Result<(), String> {
    for (kind, place, needed) in MOUNTS {
        let _ = fs::create_dir_all(place);
        match mount(kind, place, kind, MountFlags::empty(), None) {
            // devtmpfs may be there already (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(errno) if needed => return Err(format!("mount {kind} on {place}: {errno}")),
            Err(errno) => say(&format!("luqual-agent: mount {kind} on {place}: {errno}")),
        }
    }
    modules::load();
    if let Err(why) = network::configure() {
        say(&format!("{UNREACHABLE_LINE}{why}"));
    }
    // The tick page is found by its physical address: it must not be moved.
    let _ = fs::write("/proc/sys/vm/compact_unevictable_allowed", "0");
    fs::create_dir_all(holder::FOLDER).map_err(|error| format!("{}: {error}", holder::FOLDER))?;

    // The socket is bound here, before any process can connect to it.
    let holder = UnixListener::bind(holder::SOCKET).map_err(|error| format!("{}: {error}", holder::SOCKET))?;
    start("tick", Stdio::null())?;
    start("hold", Stdio::from(OwnedFd::from(holder)))?;
    let talker = if fs::exists(luqual_protocol::AUTORUN).unwrap_or(false) { "autorun" } else { "serve" };
    start(talker, Stdio::null())?;

    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some((pid, status))) => say(&format!("luqual-agent: process {} ended: {status:?}", pid.as_raw_pid())),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => std::thread::park(),
        }
    }
}

fn start(role: &str, stdin: Stdio) -> Result<(), String> {
    own::command().arg(role).stdin(stdin).spawn().map(drop).map_err(|error| format!("start {role}: {error}"))
}
