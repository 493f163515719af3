//! A kernel that can be booted.

use luqual_model::{KernelInfo, KernelModule};
use std::path::PathBuf;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel's description.
    pub info: KernelInfo,
    /// The path of its image.
    pub image: PathBuf,
    /// The path of its vmlinux, if it exists.
    pub symbols: Option<PathBuf>,
    /// The path of its System.map, if it exists.
    pub map: Option<PathBuf>,
    /// The modules that a guest may load, in their order.
    pub modules: Vec<KernelModule>,
}
