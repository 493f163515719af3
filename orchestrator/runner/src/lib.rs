//! Runs cells: the dispatcher, the cell's state machine, planted faults and the verdict.

mod attempts;
mod cell;
mod dispatch;
mod evidence;
mod eye;
mod fault;
mod frames;
mod need;
mod poll;
mod reach;
mod recorder;
mod run;
mod schedule;
mod seed;
mod share;
mod ticks;
mod title;
mod verdict;

pub use attempts::{Attempts, run_boot};
pub use cell::{Boot, BootKernel, CoresTaken, Host, Part, Person, Program, Visit, Visited, Visiting, Visitor, visit};
pub use dispatch::{CutOff, Dispatcher, JOURNAL, has_begun};
pub use fault::{DeviceFault, FAULT_SYNTAX, Fault};
pub use need::ability;
pub use run::run_all;
pub use schedule::{Load, Slots};
pub use seed::{Seed, drawn};
pub use share::boots;
