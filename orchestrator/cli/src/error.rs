//! The errors of commands, and one printer.

use crate::exit::Exit;
use crate::output;
use luqual_engine::{EngineError, ErrorKind};
use luqual_model::plain::lines as plain;
use std::error::Error;
use std::fmt::Display;

/// Why a command could not be done.
#[derive(Debug)]
pub(crate) struct CliError(EngineError);

impl CliError {
    /// The user can fix it by asking differently.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self(EngineError::usage(message))
    }

    /// The host has to be fixed.
    pub(crate) fn harness(message: impl Display) -> Self {
        Self(EngineError::harness(message))
    }

    /// With what to do.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Display) -> Self {
        Self(self.0.hint(hint))
    }

    /// To standard error, and what to exit with.
    pub(crate) fn print(&self) -> Exit {
        let exit = match self.0.kind() {
            // Whoever ended it knows that.
            ErrorKind::Interrupted => return Exit::Interrupted,
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Harness => Exit::Harness,
        };
        let mut text = format!("error: {}\n", plain(&self.0.to_string()));
        let mut cause = self.0.source();
        while let Some(error) = cause {
            text.push_str(&format!("  because: {}\n", plain(&error.to_string())));
            cause = error.source();
        }
        if let Some(hint) = self.0.hint_text() {
            text.push_str(&format!("  hint: {}\n", plain(hint)));
        }
        output::tell(text);
        exit
    }
}

impl<E: Into<EngineError>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}
