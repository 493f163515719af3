//! The account that the bare-metal program of a virtual machine writes, for the monitor that runs the program and for the checks of
//! a workload. The program itself is in `bare/`.

#![no_std]

mod account;
/// The device that a machine can have.
pub mod edu;

pub use account::*;
