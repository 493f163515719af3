//! TOML with positions, the matrix, and what it selects. All mistakes of a file are reported at once.

mod deadlines;
pub mod document;
pub mod matrix;

pub use deadlines::Deadlines;
