//! From the run record to what people and machines read.

mod display;
mod grid;
mod html;
mod json;
#[cfg(test)]
mod samples;
mod terminal;

pub use display::Display;
pub use html::html;
pub use json::{ReadError, json, read};
pub use terminal::{grid, summary};
