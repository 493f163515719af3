//! From the run record to what people and machines read.

mod diff;
mod display;
mod grid;
mod html;
mod json;
mod junit;
mod kcidb;
mod ktap;
mod markdown;
mod qualification;
#[cfg(test)]
mod samples;
mod standing;
mod terminal;

pub use diff::diff;
pub use display::Display;
pub use html::html;
pub use json::{ReadError, json, read};
pub use junit::junit;
pub use kcidb::kcidb;
pub use ktap::ktap;
pub use markdown::markdown;
pub use qualification::Qualification;
pub use terminal::{grid, summary};
