use luqual_model::{ARCH, QemuProgram};
use std::path::PathBuf;

/// An error with QEMU on the host.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// QEMU was not found.
    #[error("{0} was not found")]
    NoQemu(String),
    /// The program did not print the version of a QEMU.
    #[error("{path} did not print the version of a QEMU: {said}")]
    NotQemu {
        /// The program.
        path: PathBuf,
        /// Its output.
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
    /// KVM was required and cannot run a guest.
    #[error("KVM cannot run a guest on this host: {0}")]
    NoKvm(String),
    /// QEMU could not be started, or ended before it was ready.
    #[error("QEMU did not start: {0}")]
    Start(String),
    /// A QMP command failed.
    #[error("QMP: {command}: {why}")]
    Qmp {
        /// The command.
        command: String,
        /// QEMU's answer.
        why: String,
    },
    /// A failed operation on a file or folder of the host.
    #[error("{path}: {source}")]
    File {
        /// The path.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// Too little space for the RAM file: QEMU would be killed when it touches a page without memory.
    #[error("{path} has {free} MiB free; the machine's memory needs {needed} MiB")]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Free space in MiB.
        free: u64,
        /// Needed space in MiB.
        needed: u64,
    },
    /// An error with a path that the user named by `--qemu` or by `LUQUAL_WORK_DIR`.
    #[error(transparent)]
    Named(Box<VmError>),
    /// The path of a Unix socket is too long.
    #[error("{0}: the path of a socket can have at most 107 bytes")]
    LongPath(PathBuf),
}

impl VmError {
    /// For `map_err` on a file operation.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// The same error for a path that the user named.
    pub(crate) fn named(self) -> Self {
        Self::Named(Box::new(self))
    }

    /// Whether the error is a mistake of the user, not a failure of the host.
    pub fn is_usage(&self) -> bool {
        // Missing KVM is a mistake if the user required it; a missing default QEMU is not.
        matches!(self, Self::NoKvm(_) | Self::Named(_) | Self::LongPath(_))
    }

    /// The hint: what the user can do.
    pub fn hint(&self) -> Option<String> {
        let QemuProgram { program, package } = ARCH.qemu;
        let install = format!("(Debian, Ubuntu: apt-get install {package}), or name one with --qemu");
        Some(match self {
            Self::Named(error) => return error.hint(),
            Self::NoQemu(_) => format!("install it {install}"),
            Self::NotQemu { .. } => format!("name a {program} with --qemu"),
            Self::OldQemu { .. } => {
                format!("install QEMU 7.2 or later, as Debian 12 and Ubuntu 24.04 have it {install}")
            }
            Self::NoKvm(_) => "use --accel auto or --accel tcg; everything works without KVM, but is slower".to_owned(),
            Self::NoSpace { .. } | Self::LongPath(_) => {
                "set LUQUAL_WORK_DIR to a folder with a short path and more room".to_owned()
            }
            Self::Start(_) | Self::Qmp { .. } | Self::File { .. } => return None,
        })
    }
}
