//! Virtual machines: a monitor, as small as one can be whose machine survives an update of the kernel below it, and the orchestrator
//! that brings machines through an update. [`state`] and docs/vmm.md say what of a machine is saved, in which order it is restored,
//! and why.

mod device;
mod error;
mod linux;
mod machine;
pub(crate) mod monitor;
pub(crate) mod orchestrator;
mod serial;
mod state;

pub(crate) use state::State;
