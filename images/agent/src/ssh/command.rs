//! The start and the end of a command that an SSH client runs.

use crate::own;
use luqual_protocol::AGENT;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

/// Starts a command line with these as its standard input, output and error.
pub(super) fn spawn_on(
    [stdin, stdout, stderr]: [Stdio; 3],
    command: &str,
    environment: Vec<(String, String)>,
) -> Result<Child, String> {
    let words = shlex::split(command).ok_or_else(|| format!("`{command}`: a quote is not closed"))?;
    let (program, arguments) = words.split_first().ok_or("no command was given")?;
    // The host starts the agent that runs here, whatever became of its file.
    let file = if program == AGENT { own::FILE } else { program };
    Command::new(file)
        .arg0(program)
        .args(arguments)
        .envs(environment)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}

/// Tells the client why a command was not started. Returns the exit status that a shell gives in this case.
pub(super) async fn not_started(outgoing: &ChannelWriteHalf<Msg>, why: &str) -> u32 {
    let _ = outgoing.extended_data_bytes(1, format!("luqual-agent: {why}\n")).await;
    127
}

/// Closes the channel with the exit status of its command.
pub(super) async fn end(outgoing: &ChannelWriteHalf<Msg>, status: u32) {
    let _ = outgoing.eof().await;
    let _ = outgoing.exit_status(status).await;
    let _ = outgoing.close().await;
}

/// The exit code, or 128 plus the signal's number, as a shell reports it.
pub(super) fn exit_status(status: ExitStatus) -> u32 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(255).cast_unsigned()
}
