//! The error type of the engine: its kind, the message, the causes, and a hint.

use crate::host::cache_folder;
use luqual_config::document::Mistakes;
use luqual_kernels::KernelError;
use luqual_vm::VmError;
use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;

/// Who can fix an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The user: a mistake in the arguments or in a configuration.
    Usage,
    /// The host or luqual failed.
    Harness,
    /// The user ended the command.
    Interrupted,
}

/// An error of the engine, with an optional hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl EngineError {
    fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), hint: None, cause: None }
    }

    /// An error of kind [`ErrorKind::Usage`].
    pub fn usage(message: impl Display) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// An error of kind [`ErrorKind::Harness`].
    pub fn harness(message: impl Display) -> Self {
        Self::new(ErrorKind::Harness, message)
    }

    /// An error of kind [`ErrorKind::Interrupted`].
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds to the hint.
    #[must_use]
    pub(crate) fn and_hint(mut self, more: impl Display) -> Self {
        self.hint = Some(self.hint.map_or_else(|| more.to_string(), |hint| format!("{hint}; {more}")));
        self
    }

    /// Replaces the hint, if there is another one.
    #[must_use]
    fn or_hint(mut self, hint: Option<impl Display>) -> Self {
        self.hint = hint.map(|hint| hint.to_string()).or(self.hint);
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// For `map_err` on an operation on a file of luqual's own, such as a journal, or on a process. The error is
    /// always of kind [`ErrorKind::Harness`].
    pub fn own<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::harness(format!("{what}: {error}"))
    }

    /// For `map_err` on an operation on a path that the user named, by an option, an environment variable or a
    /// configuration file. The error is of kind [`ErrorKind::Usage`], unless the host has run out of something.
    pub fn named(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |error| {
            let kind = if is_of_the_host(&error) { ErrorKind::Harness } else { ErrorKind::Usage };
            Self::new(kind, format!("{}: {error}", path.as_ref().display()))
        }
    }
}

/// Whether an I/O error means that the host has run out of something or is broken, for any path.
pub(crate) fn is_of_the_host(error: &io::Error) -> bool {
    // EIO, ENFILE, EMFILE (errno(3)) have no `ErrorKind` of their own.
    const CODES: [i32; 3] = [5, 23, 24];
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::OutOfMemory];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// Whether a path in a [`KernelError`] is one of luqual's own: in the store, or the bare name of a program.
fn is_own(path: &Path) -> bool {
    path.starts_with(cache_folder()) || path.parent().is_none_or(|parent| parent.as_os_str().is_empty())
}

impl From<KernelError> for EngineError {
    fn from(error: KernelError) -> Self {
        let told = match &error {
            KernelError::File { path, source } if !is_own(path) && !is_of_the_host(source) => Self::usage(&error),
            error if error.is_usage() => Self::usage(error),
            error => Self::harness(error),
        };
        let told = told.or_hint(error.hint());
        Self { cause: Some(Box::new(error)), ..told }.without_echo()
    }
}

impl From<VmError> for EngineError {
    fn from(error: VmError) -> Self {
        let told = match &error {
            // Missing KVM is a mistake if the user required it; a missing QEMU is not.
            VmError::NoKvm(_) => Self::usage(&error),
            VmError::File { path, source } if is_below_a_named_work_folder(path) && !is_of_the_host(source) => {
                Self::usage(&error).hint("set LUQUAL_WORK_DIR to a folder that you can write to")
            }
            error if error.is_usage() => Self::usage(error),
            error => Self::harness(error),
        };
        let told = told.or_hint(error.hint());
        Self { cause: Some(Box::new(error)), ..told }.without_echo()
    }
}

/// Whether the environment variable LUQUAL_WORK_DIR is set and the path is below it.
fn is_below_a_named_work_folder(path: &Path) -> bool {
    std::env::var_os("LUQUAL_WORK_DIR").is_some_and(|named| path.starts_with(named))
}

impl EngineError {
    /// Removes the cause that the message repeats; only deeper causes remain.
    fn without_echo(mut self) -> Self {
        let mut why = Vec::new();
        let mut next = self.cause.as_deref().and_then(Error::source);
        while let Some(error) = next {
            // The message of some errors includes the text of their cause.
            let text = error.to_string();
            if !self.message.contains(&text) {
                why.push(text);
            }
            next = error.source();
        }
        self.cause = why.into_iter().rev().fold(None, |cause, message| Some(Box::new(Why { message, cause }) as _));
        self
    }
}

/// One cause, as text.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Why {
    message: String,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl From<Mistakes> for EngineError {
    fn from(mistakes: Mistakes) -> Self {
        Self::usage(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_file(path: impl Into<std::path::PathBuf>, code: i32) -> ErrorKind {
        let source = io::Error::from_raw_os_error(code);
        EngineError::from(KernelError::File { path: path.into(), source }).kind()
    }

    #[test]
    fn a_path_that_the_user_named_is_the_users_mistake_unless_the_host_has_run_out() {
        // ENOENT, EACCES, ENOTDIR, EISDIR, EROFS.
        for code in [2, 13, 20, 21, 30] {
            let error = EngineError::named("out/x")(io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            assert!(error.to_string().starts_with("out/x: "), "{error}");
        }
        // EIO, ENOMEM, EMFILE, ENOSPC, EDQUOT.
        for code in [5, 12, 24, 28, 122] {
            let error = EngineError::named("out/x")(io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), ErrorKind::Harness, "{error}");
        }
        let own = EngineError::own("events.jsonl")(io::Error::from_raw_os_error(13));
        assert_eq!(own.kind(), ErrorKind::Harness);
    }

    #[test]
    fn a_file_of_the_store_is_not_the_users() {
        assert_eq!(kernel_file("/nowhere/catalog.toml", 2), ErrorKind::Usage);
        assert_eq!(kernel_file("/nowhere/catalog.toml", 28), ErrorKind::Harness);
        assert_eq!(kernel_file(cache_folder().join("kernels/x"), 13), ErrorKind::Harness);
        assert_eq!(kernel_file("make", 2), ErrorKind::Harness, "a process that cannot be started");
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::from_raw_os_error(2);
        let error = EngineError::from(KernelError::File { path: "/x".into(), source });
        assert!(error.source().is_none() && error.to_string().contains("No such file"), "{error}");
        assert_eq!(EngineError::from(VmError::NoKvm("x".into())).kind(), ErrorKind::Usage);
        let missing = EngineError::from(VmError::NoQemu("x".into()));
        assert!(missing.kind() == ErrorKind::Harness && missing.hint_text().unwrap().contains("apt-get"));
    }
}
