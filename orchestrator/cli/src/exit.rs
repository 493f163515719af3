//! The exit codes.

use std::process::ExitCode;

/// What luqual exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every cell is as expected, or the command did what it is for.
    Ok = 0,
    /// Some cell is not as expected, or none ran.
    NotAsExpected = 1,
    /// A mistake in what was asked for or configured.
    Usage = 2,
    /// The tool or its host failed.
    Harness = 3,
    /// The user ended it, by SIGINT, SIGTERM or SIGHUP.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
