//! TOML with positions, the matrix, and what it selects. All mistakes of a file are reported at once.
//!
//! The modules from the bottom up: `document`, `filter`, `names`, `deadlines`; `machine`, `pairs`, `expect`, `program`,
//! `policy`, which read one kind of table each; `matrix`, which reads a whole file; `propose`, which writes one.

mod deadlines;
pub mod document;
mod expect;
mod filter;
mod machine;
pub mod matrix;
mod names;
mod pairs;
mod policy;
mod program;
mod propose;

pub use deadlines::Deadlines;
pub use expect::Expectations;
pub use filter::{FILTER_SYNTAX, Filter, FilterError, KernelPattern, Named, Subject};
pub use luqual_model::matches;
pub use machine::{DEFAULT_MACHINE, machine_as_toml, own_machine, own_machines, parse_memory};
pub use names::{KnownNames, is_path};
pub use pairs::{Budget, Matrix, Pairs};
pub use program::{Origin, Program};
pub use propose::{Observed, propose};
