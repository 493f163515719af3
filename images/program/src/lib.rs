//! The account that the program gives, for the monitor that runs it and for whoever checks it; the program is `program.rs`.

#![no_std]

mod account;
/// The device that a machine can own.
pub mod edu;

pub use account::*;
