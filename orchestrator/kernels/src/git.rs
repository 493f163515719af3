//! Runs the installed git.

use crate::error::{self, KernelError};
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The number of lines of git's message that are shown.
const LINES: usize = 12;

/// Why a git command failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// git could not be started.
    Start(std::io::Error),
    /// git reported an error.
    Git { goal: String, why: String },
}

impl Failed {
    /// Whether git failed because the disk is full; it only says so in its message.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Git { why, .. } if error::says_full(why))
    }

    /// The error for a command on the git tree `tree`.
    pub(crate) fn of(self, tree: &Path) -> KernelError {
        match self {
            Self::Start(error) => KernelError::Git(error),
            Self::Git { goal, why } => {
                KernelError::Commit { tree: tree.to_owned(), why: format!("`git {goal}` failed: {why}") }
            }
        }
    }
}

/// Runs git in `folder`, and returns its output.
pub(crate) fn git(folder: &Path, words: &[&OsStr], input: Option<File>) -> Result<Vec<u8>, Failed> {
    let input = input.map_or_else(Stdio::null, Stdio::from);
    printed(words, plain_git(folder).args(words).stdin(input).output())
}

/// The same, without blocking the event loop.
pub(crate) async fn git_meanwhile(folder: &Path, words: &[&OsStr]) -> Result<Vec<u8>, Failed> {
    let mut command = tokio::process::Command::from(plain_git(folder));
    printed(words, command.args(words).stdin(Stdio::null()).kill_on_drop(true).output().await)
}

fn printed(words: &[&OsStr], ended: std::io::Result<Output>) -> Result<Vec<u8>, Failed> {
    let output = ended.map_err(Failed::Start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let goal = words.first().map_or_else(String::new, |goal| goal.to_string_lossy().into_owned());
    Err(Failed::Git { goal, why: said(&output.stderr) })
}

/// A git command whose environment only has the user's identity on this host, since safe.directory is in the user's
/// configuration.
pub(crate) fn plain_git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    let kept = ["PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME"];
    command
        .current_dir(folder)
        .env_clear()
        .envs(kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

pub(crate) fn said(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim_end().lines().take(LINES).collect::<Vec<_>>().join("\n")
}
