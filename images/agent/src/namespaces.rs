//! A helper process in namespaces of its own (namespaces(7)), as in a container.
#![expect(unsafe_code, reason = "unshare(2); the block says why it is sound")]

use crate::errno::errno_name;
use crate::{helper, own};
use luqual_protocol::AGENT;
use rustix::process::{getgid, getuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The kinds of namespaces that are made, by the names of their links in /proc/self/ns.
pub(crate) const KINDS: [&str; 6] = ["ipc", "mnt", "net", "pid", "user", "uts"];

/// `luqual-agent helper-isolated`: a helper that is root in its namespaces, and outside of them the user that it was.
pub(crate) fn run() -> Result<(), String> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let all = UnshareFlags::NEWIPC
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWUSER
        | UnshareFlags::NEWUTS;
    // SAFETY: CLONE_FILES, which would take descriptors from other threads, is not among the flags.
    unsafe { unshare_unsafe(all) }.map_err(|errno| format!("unshare: {}", errno_name(errno)))?;
    // A process without privileges may map only itself, and has to give up setgroups(2) (user_namespaces(7)).
    let maps =
        [("uid_map", format!("0 {user} 1")), ("setgroups", "deny".to_owned()), ("gid_map", format!("0 {group} 1"))];
    for (file, text) in maps {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    // Only the children are in the new PID namespace (pid_namespaces(7)).
    own::command().arg(helper::ROLE).status().map(drop).map_err(|error| format!("{AGENT}: {error}"))
}
