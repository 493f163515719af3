//! From evidence to outcome. Pure.

mod evidence;
mod owed;
mod verdict;

pub(crate) use evidence::{Evidence, Link, Stop};
pub(crate) use owed::owed;
pub(crate) use verdict::judge;
