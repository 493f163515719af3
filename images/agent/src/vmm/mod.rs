//! A virtual machine monitor, as small as one can be that lets its machine survive an update of the kernel below it. What of a
//! machine is saved, in which order it is put back and why, stands in [`state`] and in docs/vmm.md.

mod device;
mod linux;
mod machine;
mod process;
mod serial;
mod state;

pub(crate) use process::run;
pub(crate) use state::{State, counter};
