//! From evidence to outcome. Pure.

mod broken_by;
mod evidence;
mod owed;
mod verdict;

pub use broken_by::BrokenBy;
pub(crate) use evidence::{Evidence, Link, Stop};
pub(crate) use owed::owed;
pub(crate) use verdict::judge;
