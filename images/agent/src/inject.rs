//! Faults that are injected on purpose, to see that the tool notices them.

use luqual_protocol::AGENT;
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::fs;
use std::process::Command;

/// `luqual-agent kill ROLE`: kills the process of that role.
pub(crate) fn kill() -> Result<(), String> {
    let role = std::env::args().nth(2).ok_or("usage: luqual-agent kill ROLE")?;
    let has_role = |(_, line): &(Pid, Vec<u8>)| role_of(line) == Some(role.as_bytes());
    let (pid, _) = processes()?.find(has_role).ok_or_else(|| format!("no process has the role {role}"))?;
    kill_process(pid, Signal::KILL).map_err(|errno| format!("kill {role}: {errno}"))
}

/// `luqual-agent panic`: the kernel panics (Documentation/admin-guide/sysrq.rst, c).
pub(crate) fn panic() -> Result<(), String> {
    let trigger = "/proc/sysrq-trigger";
    fs::write(trigger, "c").map_err(|error| format!("{trigger}: {error}"))?;
    Err("the kernel did not panic on request".to_owned())
}

/// `luqual-agent oom`: the kernel kills a process to get memory (Documentation/admin-guide/sysrq.rst, f).
pub(crate) fn oom() -> Result<(), String> {
    let mut victim = Command::new(AGENT).arg("victim").spawn().map_err(|error| format!("{AGENT} victim: {error}"))?;
    // It dies rather than any other (Documentation/filesystems/proc.rst, 3.1).
    let score = format!("/proc/{}/oom_score_adj", victim.id());
    fs::write(&score, "1000").map_err(|error| format!("{score}: {error}"))?;
    let trigger = "/proc/sysrq-trigger";
    fs::write(trigger, "f").map_err(|error| format!("{trigger}: {error}"))?;
    victim.wait().map(drop).map_err(|error| format!("the victim: {error}"))
}

/// `luqual-agent oom-unseen`: the same, and the console shows nothing of it
/// (Documentation/admin-guide/sysctl/kernel.rst, printk).
pub(crate) fn oom_unseen() -> Result<(), String> {
    let levels = "/proc/sys/kernel/printk";
    fs::write(levels, "1").map_err(|error| format!("{levels}: {error}"))?;
    oom()
}

/// `luqual-agent victim`: waits until it is killed.
pub(crate) fn victim() -> Result<(), String> {
    loop {
        std::thread::park();
    }
}

/// `luqual-agent hang`: stops every process, this one last. No signal stops init.
pub(crate) fn hang() -> Result<(), String> {
    let own = getpid();
    for (pid, _) in processes()?.filter(|(pid, line)| *pid != own && !line.is_empty()) {
        // A process may have ended meanwhile.
        let _ = kill_process(pid, Signal::STOP);
    }
    kill_process(own, Signal::STOP).map_err(|errno| format!("stop: {errno}"))
}

/// The file that makes every comparison of a memfd's content say that nothing changed.
const DECEIVED: &str = "/run/luqual/deceived";

/// `luqual-agent deceive`: from now on the guest's comparisons of contents find nothing.
pub(crate) fn deceive() -> Result<(), String> {
    fs::write(DECEIVED, "").map_err(|error| format!("{DECEIVED}: {error}"))
}

/// Whether the guest's comparisons of contents find nothing.
pub(crate) fn is_deceived() -> bool {
    fs::exists(DECEIVED).unwrap_or(false)
}

/// Every process with its command line, which is empty for kernel threads.
fn processes() -> Result<impl Iterator<Item = (Pid, Vec<u8>)>, String> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?.flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    Ok(pids.filter_map(|pid| Some((pid, fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).ok()?))))
}

/// The role in the /proc/PID/cmdline of an agent's process.
fn role_of(command_line: &[u8]) -> Option<&[u8]> {
    let mut words = command_line.split(|byte| *byte == 0);
    (words.next() == Some(AGENT.as_bytes())).then(|| words.next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_the_agents_first_argument() {
        assert_eq!(role_of(b"/bin/luqual-agent\0serve\0"), Some(&b"serve"[..]));
        assert_eq!(role_of(b"/bin/other\0serve\0"), None);
    }
}
