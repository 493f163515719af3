//! One error for all commands, one printer, and the exit codes.

use luqual_kernels::KernelError;
use luqual_vm::VmError;
use std::fmt::Display;
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
    /// The user ended it (as shells say it for SIGINT).
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be done, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    /// The user can mend it by asking differently.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string(), causes: Vec::new(), hint: None }
    }

    /// The host has to be mended.
    pub(crate) fn harness(message: impl Display) -> Self {
        Self { exit: Exit::Harness, message: message.to_string(), causes: Vec::new(), hint: None }
    }

    /// With what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do.
    pub(crate) fn hint_text(&self) -> Option<String> {
        self.hint.clone()
    }

    /// For `map_err` on a file operation.
    pub(crate) fn file<P: Display, E: Display>(path: P) -> impl FnOnce(E) -> Self {
        move |error| Self::harness(format!("{path}: {error}"))
    }

    fn with_causes(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            // Messages that have their cause's text in them already say it once.
            let text = error.to_string();
            if !self.message.contains(&text) {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }

    /// To standard error, and the code to exit with.
    pub(crate) fn print(&self) -> Exit {
        eprintln!("error: {}", plain(&self.message));
        for cause in &self.causes {
            eprintln!("  because: {}", plain(cause));
        }
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {}", plain(hint));
        }
        self.exit
    }
}

/// Lines in which nothing moves a terminal's cursor: they may have somebody else's record in them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

impl From<KernelError> for CliError {
    fn from(error: KernelError) -> Self {
        let told = if error.is_usage() { Self::usage(&error) } else { Self::harness(&error) };
        Self { hint: error.hint(), ..told }.with_causes(&error)
    }
}

impl From<VmError> for CliError {
    fn from(error: VmError) -> Self {
        let told = if error.is_usage() { Self::usage(&error) } else { Self::harness(&error) };
        Self { hint: error.hint().map(str::to_owned), ..told }.with_causes(&error)
    }
}

impl From<luqual_config::document::Mistakes> for CliError {
    fn from(mistakes: luqual_config::document::Mistakes) -> Self {
        Self::usage(mistakes)
    }
}
