//! What the host sees of a guest without asking it: ticks, preserved memory, frames, devices, nested virtual machines.

mod device_trace;
mod devices;
mod frames;
mod host_view;
mod machine_time;
mod memory;
mod nested_vm;
mod poll;
mod printk;
mod ticks;
mod witness;

pub use machine_time::{MachineTime, Withheld};
pub use printk::LateLog;
pub(crate) use printk::{KernelOfLog, LogReader};
pub use ticks::Ticks;

pub(crate) use devices::{Devices, Watched, observed};
pub(crate) use host_view::overrule;
pub(crate) use memory::{Look, Memory};
pub(crate) use nested_vm::NestedVms;
pub(crate) use ticks::{blackout, micros};
pub(crate) use witness::Deaf;
