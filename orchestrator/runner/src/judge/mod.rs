//! From evidence to outcome. Pure.

mod evidence;
mod owed;
mod verdict;

pub(crate) use evidence::{Evidence, Link, Stop};
pub use owed::{Owed, owed, renewed};
pub(crate) use verdict::judge;
