use luqual_model::ARCH;
use std::path::PathBuf;

/// An error with kernels: their sources, builds and images.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A name that is neither in the catalog nor a path.
    #[error("there is no kernel `{name}`")]
    Unknown {
        /// The requested name.
        name: String,
        /// The names in the catalog.
        known: Vec<String>,
    },
    /// A path that the user named and that is missing, cannot be read, or cannot be written.
    #[error("{path}: {source}")]
    Named {
        /// The path.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A source tree that changed while it was copied.
    #[error("{} changed while it was copied for the build; nothing was built or stored", .tree.display())]
    TreeChanged {
        /// The tree.
        tree: PathBuf,
    },
    /// A path that is not a kernel.
    #[error("{path}: {why}")]
    NotAKernel {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The catalog has mistakes.
    #[error("{0}")]
    Catalog(#[from] luqual_config::document::Mistakes),
    /// A download that failed.
    #[error("download {url}: {why}")]
    Download {
        /// The URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// A download whose digest is not the catalog's.
    #[error("{url}: expected the sha256 {expected} of the catalog, and the file has {observed}")]
    WrongDigest {
        /// The URL.
        url: String,
        /// The digest in the catalog.
        expected: String,
        /// The digest of the file.
        observed: String,
    },
    /// A configuration that differs from the requested one.
    #[error("{version}: the kernel's configuration differs from the catalog's:\n  {}", .options.join("\n  "))]
    Options {
        /// The kernel.
        version: String,
        /// One line for each option that differs.
        options: Vec<String>,
    },
    /// A series of patches that cannot be read.
    #[error("{version}: the patches: {why}")]
    Series {
        /// The kernel.
        version: String,
        /// The reason.
        why: String,
        /// The hint.
        hint: String,
    },
    /// A patch that does not apply to this source.
    #[error("{version}: patch {number} of {count} does not apply: {subject}\n{why}")]
    Patch {
        /// The kernel.
        version: String,
        /// The number of the patch, from 1.
        number: usize,
        /// The number of patches.
        count: usize,
        /// The subject of the patch.
        subject: String,
        /// git's message.
        why: String,
    },
    /// A commit of a git tree that cannot be used.
    #[error("{}: {why}", .tree.display())]
    Commit {
        /// The tree.
        tree: PathBuf,
        /// The reason.
        why: String,
    },
    /// Programs for a kernel build are missing.
    #[error("a kernel build needs programs that are not installed: {}", .0.join(", "))]
    Tools(Vec<String>),
    /// A kernel source without live update selftests.
    #[error("the source of {version} has no {folder}")]
    NoSelftests {
        /// The kernel.
        version: String,
        /// The folder where they would be.
        folder: &'static str,
    },
    /// make failed.
    #[error("{version}: `make {goal}` failed; its log is {}:\n{tail}", .log.display())]
    Make {
        /// The kernel.
        version: String,
        /// The goal of make.
        goal: String,
        /// The log with the whole output.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// Too little disk space.
    #[error("{path} has {free} MiB free; a kernel build needs {needed} MiB")]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Free space in MiB.
        free: u64,
        /// Needed space in MiB.
        needed: u64,
    },
    /// A source package with an unexpected layout.
    #[error("{path}: {why}")]
    Package {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// git could not be started.
    #[error("{}", git_in_words(.0))]
    Git(std::io::Error),
    /// A tree of mutants from which a patch could not be removed.
    #[error("the patch `{subject}` could not be removed from {}; the tree was deleted and nothing was stored: {why}", .tree.display())]
    MutantTree {
        /// The tree.
        tree: PathBuf,
        /// The subject of the patch.
        subject: String,
        /// git's message.
        why: String,
    },
    /// A file of luqual's own with unexpected content.
    #[error("{path}: {why}")]
    Unexpected {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A failed operation on a file or folder of luqual's own.
    #[error("{path}: {source}")]
    File {
        /// The path.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
}

/// The errno ENOSPC.
const FULL: i32 = 28;

/// Whether the message of a program says that the disk is full.
pub(crate) fn says_full(text: &str) -> bool {
    text.contains("No space left on device")
}

fn git_in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "git is not installed; luqual needs it for patches and commits".to_owned(),
        _ => format!("git cannot be started: {error}"),
    }
}

impl KernelError {
    /// For `map_err` on an operation on a file that the user named.
    pub(crate) fn named(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Named { path, source }
    }

    /// The error for a full disk at `path`.
    pub(crate) fn full(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), source: std::io::Error::from_raw_os_error(FULL) }
    }

    /// For `map_err` on an operation on a file of luqual's own.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Whether the error is a mistake of the user, not a failure of the host.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::Named { .. }
                | Self::TreeChanged { .. }
                | Self::NotAKernel { .. }
                | Self::Catalog(_)
                | Self::WrongDigest { .. }
                | Self::Options { .. }
                | Self::Series { .. }
                | Self::Patch { .. }
                | Self::Commit { .. }
                | Self::NoSelftests { .. }
        )
    }

    /// Whether the error is due to the kernel's source: another kernel may build on this host.
    pub fn is_of_the_source(&self) -> bool {
        matches!(self, Self::NotAKernel { .. } | Self::Options { .. } | Self::Patch { .. } | Self::Make { .. })
    }

    /// The hint: what the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { known, .. } => {
                format!("give one of {}; or the path of a {}, of a build tree or of packages; or TREE@COMMIT of a git tree", known.join(", "), ARCH.image.name)
            }
            Self::TreeChanged { .. } => {
                "run the same command again, and change the tree only after the build has begun to compile".to_owned()
            }
            Self::Git(_) => "Debian, Ubuntu: apt-get install git".to_owned(),
            Self::MutantTree { .. } => "run the same command again; it makes a new tree".to_owned(),
            Self::NotAKernel { .. } => format!(
                "give a {0}, the folder of a kernel that was built with `make {0}`, or packages: files joined by +, or a \
                 folder of them, packed or unpacked; a distribution can have image, configuration and modules in packages of \
                 their own",
                ARCH.image.name
            ),
            Self::Download { .. } => {
                "run the same command again to resume the download, or name another mirror with --debian-mirror"
                    .to_owned()
            }
            Self::WrongDigest { .. } => {
                "the file was removed; if the mirror is right, correct the sha256 in the catalog".to_owned()
            }
            Self::Options { .. } => {
                "list an option that this kernel does not have under not_applicable in the catalog, with the reason"
                    .to_owned()
            }
            Self::Series { hint, .. } => hint.clone(),
            Self::Patch { .. } => {
                "a series has to apply to the source that the catalog names: rebase it, or remove the patches that the source has already"
                    .to_owned()
            }
            Self::Tools(_) => format!("Debian, Ubuntu: apt-get install {}", crate::tools::PACKAGES),
            Self::NoSpace { .. } => "free disk space, or set XDG_CACHE_HOME to a folder with more".to_owned(),
            Self::File { source, .. } if source.raw_os_error() == Some(FULL) => {
                "the disk is full: free disk space, or set XDG_CACHE_HOME to a folder with more".to_owned()
            }
            Self::NoSelftests { .. } => {
                "use 6.19 or later, which have test programs for LUO; `luqual kernels list` shows them".to_owned()
            }
            Self::Commit { .. } => "give TREE@COMMIT: a git tree on this machine, and any name of a commit that git knows".to_owned(),
            Self::Catalog(_) | Self::Named { .. } | Self::Make { .. } | Self::Package { .. } => return None,
            Self::Unexpected { .. } | Self::File { .. } => return None,
        })
    }
}
