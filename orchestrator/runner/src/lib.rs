//! Runs cells: the dispatcher, the cell's state machine, planted faults and the verdict.

mod attempts;
mod cell;
mod dispatch;
mod evidence;
mod fault;
mod reach;
mod recorder;
mod run;
mod schedule;
mod ticks;
mod title;
mod verdict;

pub use attempts::{Attempts, run_cell};
pub use cell::{BootKernel, Cell, Host};
pub use dispatch::{Dispatcher, JOURNAL};
pub use fault::{FAULT_SYNTAX, Fault};
pub use run::run_all;
pub use schedule::{Load, Slots};
