//! The agent's own executable. It is the file that runs, also if another one has taken its name since (proc(5)): nothing that comes
//! to stand in its place is started, or handed to the next kernel.

use luqual_protocol::AGENT;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The path of this process's executable.
pub(crate) const FILE: &str = "/proc/self/exe";

/// A command that starts the agent; the role is its first argument.
pub(crate) fn command() -> Command {
    let mut command = Command::new(FILE);
    command.arg0(AGENT);
    command
}
