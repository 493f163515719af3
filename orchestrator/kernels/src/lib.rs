//! Kernels: the catalog, builds, the artifact store, and the facts of an image.

mod build;
mod catalog;
mod clone;
mod commits;
mod config;
mod error;
mod fetch;
mod git;
pub mod image;
mod installed;
mod kernel;
mod lock;
mod modules;
mod mutants;
mod packages;
mod patches;
mod payload;
mod predict;
mod progress;
mod recipe;
mod selftests;
mod store;
pub mod tools;
mod unpack;
mod workplace;

pub use catalog::{Base, Catalog, Entry, Source};
pub use commits::{Commit, GitTree};
pub use config::KernelConfig;
pub use error::KernelError;
pub use kernel::Kernel;
pub use mutants::{Mutant, Tree, mutants};
pub use patches::Series;
pub use predict::predict;
pub use progress::BuildProgress;
pub use selftests::{Selftests, not_a_program};
pub use store::{Store, cache_folder};
