//! Runs cells: the dispatcher, the cell's state machine, planted faults and the verdict.

mod cell;
mod dispatch;
mod evidence;
mod fault;
mod reach;
mod recorder;
mod ticks;
mod verdict;

pub use cell::{BootKernel, Cell, Host, run_cell};
pub use dispatch::Dispatcher;
pub use fault::{FAULT_SYNTAX, Fault};
