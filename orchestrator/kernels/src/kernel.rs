//! A kernel that can be booted.

use luqual_model::KernelInfo;
use std::path::PathBuf;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What is known of it.
    pub info: KernelInfo,
    /// Its bzImage.
    pub image: PathBuf,
    /// The vmlinux that it was made of, if that is there.
    pub symbols: Option<PathBuf>,
}
