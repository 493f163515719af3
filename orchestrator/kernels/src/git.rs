//! git, as it is installed.

use crate::error::{self, KernelError};
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How many of its lines are shown.
const LINES: usize = 12;

/// Why it did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It is not there, or not at all usable.
    Start(std::io::Error),
    /// It said no.
    Git { goal: String, why: String },
}

impl Failed {
    /// Whether the disk is full that git wrote to; it says so in words alone.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Git { why, .. } if error::says_full(why))
    }

    /// What is told of it, where something was asked of the git tree `tree`.
    pub(crate) fn of(self, tree: &Path) -> KernelError {
        match self {
            Self::Start(error) => KernelError::Git(error),
            Self::Git { goal, why } => {
                KernelError::Commit { tree: tree.to_owned(), why: format!("`git {goal}` failed: {why}") }
            }
        }
    }
}

/// What it prints.
pub(crate) fn git(folder: &Path, words: &[&OsStr], input: Option<File>) -> Result<Vec<u8>, Failed> {
    let input = input.map_or_else(Stdio::null, Stdio::from);
    printed(words, plain_git(folder).args(words).stdin(input).output())
}

/// The same where other things go on meanwhile.
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

/// git, of whose environment only the user's identity on this machine is left: safe.directory is in the user's files.
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
