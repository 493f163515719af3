//! Ends another role of the agent, so that the tool can be seen to notice.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// `luqual-agent kill ROLE`: SIGKILL to the process of that role.
pub(crate) fn run() -> Result<(), String> {
    let role = std::env::args().nth(2).ok_or("usage: luqual-agent kill ROLE")?;
    let processes = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let pid = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| role_of(&line) == Some(role.as_bytes())))
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("no process has the role {role}"))?;
    kill_process(pid, Signal::KILL).map_err(|errno| format!("kill {role}: {errno}"))
}

/// The role in a /proc/PID/cmdline of the agent.
fn role_of(command_line: &[u8]) -> Option<&[u8]> {
    let mut words = command_line.split(|byte| *byte == 0);
    (words.next() == Some(luqual_protocol::AGENT.as_bytes())).then(|| words.next()).flatten()
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
