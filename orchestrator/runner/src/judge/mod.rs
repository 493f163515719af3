//! From evidence to outcome. Pure.

mod evidence;
mod signature;
mod verdict;

pub(crate) use evidence::{Evidence, Link, Stop};
pub(crate) use verdict::judge;
