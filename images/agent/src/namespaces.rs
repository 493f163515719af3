//! Namespaces of one's own (namespaces(7)): what containers are made of.
#![expect(unsafe_code, reason = "unshare(2); the block says why it is sound")]

use crate::workloads::errno_name;
use luqual_protocol::AGENT;
use rustix::process::{getgid, getuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;

/// Those that are made, by their links in /proc/self/ns.
pub(crate) const KINDS: [&str; 6] = ["ipc", "mnt", "net", "pid", "user", "uts"];

/// `luqual-agent peer-apart`: a peer that is root in namespaces of its own, and outside who it was.
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
    // Who has no rights outside maps itself and nobody else, and gives up setgroups(2) (user_namespaces(7)).
    let maps =
        [("uid_map", format!("0 {user} 1")), ("setgroups", "deny".to_owned()), ("gid_map", format!("0 {group} 1"))];
    for (file, text) in maps {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    // A new PID namespace is that of the children (pid_namespaces(7)).
    Command::new(AGENT).arg("peer").status().map(drop).map_err(|error| format!("{AGENT}: {error}"))
}
