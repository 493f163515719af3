//! Other people's programs run apart from the agent. They are root, as they expect to be, but can neither see nor change its files,
//! processes, sockets and mounts, nor start another kernel:
//!
//! * namespaces of their own (namespaces(7)): mounts, PIDs, network, IPC, host name;
//! * a root of their own, a tmpfs with the program alone: the initramfs with the agent and the kernels is out of reach. /proc and
//!   /sys are read-only, and /dev has [`DEVICES`] alone;
//! * [`KEPT`] of the capabilities (capabilities(7)): none to mount, trace, load modules or kernels, make device files or reboot.
//!
//! Two processes are around a program: `program`, which makes the namespaces, and in them `program-init`, process 1 there. It lives
//! as long as any process that the program has left behind, and all of them end with it.
#![expect(unsafe_code, reason = "unshare(2); the block says why it is sound")]

use crate::errno::errno_name;
use crate::own;
use luqual_ktap::End;
use luqual_protocol::AGENT;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_move, mount_remount};
use rustix::process::{
    DumpableBehavior, Signal, WaitOptions, chroot, set_dumpable_behavior, set_parent_process_death_signal, wait,
};
use rustix::thread::{
    CapabilitySet, UnshareFlags, capability_is_in_bounding_set, remove_capability_from_bounding_set, set_no_new_privs,
    unshare_unsafe,
};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The role of the process that makes the namespaces.
pub(crate) const ROLE: &str = "program";
/// The role of process 1 in them.
pub(crate) const INIT_ROLE: &str = "program-init";

/// The files in /dev that a program has, if the kernel has them. Each is the kernel's own, and its permissions cannot be changed.
const DEVICES: [&str; 10] = ["null", "zero", "full", "random", "urandom", "kmsg", "liveupdate", "kvm", "iommu", "vfio"];

/// What root may do as a program: with its own files and processes, and to lock memory and raise limits.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_RESOURCE);

/// The command that runs a program. The program prints to the command's standard output, and how it ended is reported on its
/// standard error.
pub(crate) fn command(path: &str, arguments: &[&str]) -> Command {
    let mut command = own::command();
    command.arg(ROLE).arg(path).args(arguments);
    command
}

/// `luqual-agent program PATH …`: makes the namespaces. The next process is the first in that of PIDs.
pub(crate) fn run() -> Result<(), String> {
    let all =
        UnshareFlags::NEWIPC | UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS;
    // SAFETY: CLONE_FILES, which would take descriptors from other threads, is not among the flags.
    unsafe { unshare_unsafe(all) }.map_err(said("unshare"))?;
    let status = own::command().arg(INIT_ROLE).args(std::env::args_os().skip(2)).status();
    status.map(drop).map_err(|error| format!("{AGENT}: {error}"))
}

/// `luqual-agent program-init PATH …`: makes the root, runs the program in it, reports how it ended, and waits for what it has left.
pub(crate) fn init() -> Result<(), String> {
    // Whoever kills the process outside kills all in here.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(said("prctl"))?;
    // Nobody in here reads or writes the memory of this process, or its executable, by /proc/1.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(said("prctl"))?;
    let words: Vec<String> = std::env::args().skip(2).collect();
    let (path, arguments) = words.split_first().ok_or("no program was named")?;
    make_root(path)?;
    drop_capabilities().map_err(said("prctl"))?;
    let output = || std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| format!("its output: {error}"));
    let mut program = Command::new(path);
    program.args(arguments).stdin(Stdio::null()).stdout(output()?).stderr(output()?);
    let mut child: Child = program.spawn().map_err(|error| error.to_string())?;
    let status = child.wait().map_err(|error| format!("wait: {error}"))?;
    report(status);
    while matches!(wait(WaitOptions::empty()), Ok(_) | Err(Errno::INTR)) {}
    Ok(())
}

fn said(what: &str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {}", errno_name(errno))
}

/// The folder on which the root is made, and which it hides.
const PLACE: &str = "/run";

fn make_root(program: &str) -> Result<(), String> {
    let at = |path: &str| format!("{PLACE}{path}");
    let failed = |path: &str| {
        let path = path.to_owned();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let content = fs::read(program).map_err(failed(program))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(said("mount /"))?;
    let own = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", PLACE, "tmpfs", own, Some(c"mode=0755")).map_err(said("mount a tmpfs"))?;
    let folder = Path::new(program).parent().and_then(Path::to_str).unwrap_or_default();
    for path in ["/dev/shm", "/proc", "/sys", "/tmp", "/run", folder] {
        fs::create_dir_all(at(path)).map_err(failed(path))?;
    }
    for path in ["/dev/shm", "/tmp"] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o1777)).map_err(failed(path))?;
    }
    fs::write(at(program), content).map_err(failed(program))?;
    fs::set_permissions(at(program), fs::Permissions::from_mode(0o755)).map_err(failed(program))?;
    for name in DEVICES {
        let path = format!("/dev/{name}");
        let Ok(about) = fs::metadata(&path) else { continue };
        match about.is_dir() {
            true => fs::create_dir(at(&path)).map_err(failed(&path))?,
            false => fs::write(at(&path), "").map_err(failed(&path))?,
        }
        mount_bind(&path, at(&path)).map_err(said(&path))?;
        make_read_only(&at(&path), MountFlags::NOSUID | MountFlags::NOEXEC)?;
    }
    for (kind, path) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, at(path), kind, own | MountFlags::NOEXEC, None).map_err(said(path))?;
        make_read_only(&at(path), own | MountFlags::NOEXEC)?;
    }
    // The initramfs cannot be unmounted, nor can pivot_root(2) replace it: the new root is moved over it (switch_root(8)).
    std::env::set_current_dir(PLACE).map_err(failed(PLACE))?;
    mount_move(".", "/").map_err(said("mount --move"))?;
    chroot(".").map_err(said("chroot"))?;
    std::env::set_current_dir("/").map_err(failed("/"))
}

fn make_read_only(path: &str, flags: MountFlags) -> Result<(), String> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | flags, "").map_err(said(path))
}

/// The bounding set limits what a root program has after execve(2); this process keeps its own.
fn drop_capabilities() -> Result<(), Errno> {
    set_no_new_privs(true)?;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !KEPT.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reports how the program ended.
fn report(status: ExitStatus) {
    match (status.code(), status.signal()) {
        (Some(code), _) => eprintln!("exit {code}"),
        (None, signal) => eprintln!("signal {}", signal.unwrap_or_default()),
    }
}

/// Reads that report; `None` if it says that the program was not run.
pub(crate) fn ended(report: &str) -> Option<End> {
    let (how, number) = report.trim_end().split_once(' ')?;
    let number = number.parse().ok()?;
    match how {
        "exit" => Some(End::Exit(number)),
        "signal" => Some(End::Signal(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_a_program_ended() {
        assert_eq!(ended("exit 3\n"), Some(End::Exit(3)));
        assert_eq!(ended("signal 11\n"), Some(End::Signal(11)));
        for text in ["", "exit", "exit x", "luqual-agent: mount: EPERM", "killed 9"] {
            assert_eq!(ended(text), None, "{text}");
        }
    }

    #[test]
    fn a_program_keeps_no_capability_over_the_system() {
        for lost in [
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::SYS_PTRACE,
            CapabilitySet::SYS_RAWIO,
            CapabilitySet::SYS_MODULE,
            CapabilitySet::SYS_BOOT,
            CapabilitySet::SYS_CHROOT,
            CapabilitySet::MKNOD,
            CapabilitySet::DAC_READ_SEARCH,
            CapabilitySet::NET_ADMIN,
        ] {
            assert!(!KEPT.intersects(lost), "{lost:?}");
        }
    }
}
