use std::path::PathBuf;

/// What can go wrong around QEMU, on the host.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no QEMU.
    #[error("{0} was not found")]
    NoQemu(String),
    /// There is a QEMU, and it does not say which.
    #[error("{path} does not say its version: {said}")]
    NotQemu {
        /// The program.
        path: PathBuf,
        /// What it said instead.
        said: String,
    },
    /// QEMU is too old.
    #[error("{path} is version {version}; luqual needs 7.2 or later")]
    OldQemu {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// KVM was asked for and does not run guests.
    #[error("KVM does not run guests here: {0}")]
    NoKvm(String),
    /// QEMU could not be started, or ended before it could be used.
    #[error("QEMU did not start: {0}")]
    Start(String),
    /// QEMU did not do what it was told by QMP.
    #[error("QMP: {command}: {why}")]
    Qmp {
        /// The command.
        command: String,
        /// What it answered.
        why: String,
    },
    /// A file or folder on the host.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too little room for the RAM file: QEMU would be killed when it touches what is not there.
    #[error("{path} has {free} MiB free, the machine's memory needs {needed} MiB")]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// MiB that are free.
        free: u64,
        /// MiB that are needed.
        needed: u64,
    },
    /// What is wrong with a path that the user named: by `--qemu`, or by `LUQUAL_WORK_DIR`.
    #[error(transparent)]
    Named(Box<VmError>),
    /// Paths of Unix sockets are short.
    #[error("{0}: a socket's path can have 107 bytes at most")]
    LongPath(PathBuf),
}

impl VmError {
    /// For `map_err` on a file operation.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// The same of a path that the user named.
    pub(crate) fn named(self) -> Self {
        Self::Named(Box::new(self))
    }

    /// Whether the user asked for something that cannot be, as against a host that failed.
    pub fn is_usage(&self) -> bool {
        // A KVM that was asked for and is not there is a mistake of the command line; a QEMU that nobody named is not.
        matches!(self, Self::NoKvm(_) | Self::Named(_) | Self::LongPath(_))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Named(error) => return error.hint(),
            Self::NoQemu(_) => "install it (Debian, Ubuntu: apt-get install qemu-system-x86), or name one with --qemu",
            Self::NotQemu { .. } => "name a qemu-system-x86_64 with --qemu",
            Self::OldQemu { .. } => "Debian 12 and Ubuntu 24.04 have a newer one",
            Self::NoKvm(_) => "use --accel auto or --accel tcg: everything works without KVM, more slowly",
            Self::NoSpace { .. } | Self::LongPath(_) => {
                "set LUQUAL_WORK_DIR to a folder with a short path and more room"
            }
            Self::Start(_) | Self::Qmp { .. } | Self::File { .. } => return None,
        })
    }
}
