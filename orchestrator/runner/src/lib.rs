//! Runs cells: boots as values, the driver that executes their steps, injected faults, the host's observations, and
//! the verdict.
//!
//! Bottom-up: [`seed`] and [`requirements`]; [`judge`], from evidence to outcome; [`lab`], the machine and the guest;
//! [`observe`], what the host sees; [`inject`]; [`journal`]; [`boot`], one attempt; [`run`], a whole run.

mod boot;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod inject;
mod journal;
mod judge;
mod lab;
mod observe;
mod requirements;
mod run;
mod seed;

pub use boot::{
    Attempts, Boot, BootCell, BootKernel, CoresTaken, Host, InteractiveOptions, InteractiveSession, Program,
    SessionEnd, SessionFuture, SessionHandler, visit,
};
pub use inject::{DeviceFault, FAULT_SYNTAX, Fault};
pub use journal::{CutOff, Dispatcher, JOURNAL, has_begun};
pub use judge::BrokenBy;
pub use lab::{File, Guest, Lab, Machine, QemuLab, Start, Waiting, unchanged_images};
pub use observe::{LateLog, MachineTime, Ticks, Withheld};
pub use requirements::capability;
pub use run::{Arrival, Load, Slots, group_cells, run_all, run_boot};
pub use seed::{Seed, drawn};
