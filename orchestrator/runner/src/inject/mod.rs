//! Injects faults on purpose, to show that luqual finds them.

mod device;
mod fault;
mod guest;

pub use fault::{DeviceFault, FAULT_SYNTAX, Fault};

pub(crate) use device::into_device;
pub(crate) use fault::{InjectionPoint, is_from_outside};
pub(crate) use guest::{deceive, end, into_preserved, kill_when_it_speaks};
