//! TOML with positions, the matrix, and what it selects. All mistakes of a file are reported at once.

mod deadlines;
pub mod document;
mod expect;
mod filter;
pub mod matrix;
mod program;
mod propose;

pub use deadlines::Deadlines;
pub use expect::Expectations;
pub use filter::{FILTER_SYNTAX, Filter, FilterError, KernelPattern, Named, Subject};
pub use luqual_model::matches;
pub use matrix::Budget;
pub use program::{Origin, Program};
pub use propose::{Observed, propose};
