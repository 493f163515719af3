//! What all boots of a run share.

use super::session::InteractiveOptions;
use super::vmcore::CoresTaken;
use crate::inject::Fault;
use crate::lab::Lab;
use crate::seed::Seed;
use luqual_config::Deadlines;
use luqual_model::{Append, Vmcore};
use std::path::Path;
use tokio::sync::watch;

/// How often a cell is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// How often anyway, from 1.
    pub repeat: u32,
    /// How often more while it is not as expected.
    pub retries: u32,
}

/// What all cells of a run share.
pub struct Host<'a> {
    /// Starts the machines.
    pub lab: &'a dyn Lab,
    /// The folder of the run.
    pub folder: &'a Path,
    /// The deadlines of the phases on this host.
    pub deadlines: Deadlines,
    /// Whether RAM file and initramfs are copied into each cell's folder at its end.
    pub keep: bool,
    /// For which machines the memory is kept as an ELF core.
    pub vmcore: Option<Vmcore>,
    /// The disk space that the cores of the run take so far.
    pub cores_taken: CoresTaken,
    /// What is added to the command lines of the kernels.
    pub append: Append,
    /// A fault to inject into each cell.
    pub fault: Option<Fault>,
    /// How often each cell is run.
    pub attempts: Attempts,
    /// The source of the attempts' seeds.
    pub seed: Seed,
    /// Whether each boot waits a random time around preserve.
    pub waits: bool,
    /// Whether each boot is deterministic, which means that the host has no connection to the guest.
    pub deterministic: bool,
    /// The interactive options.
    pub person: InteractiveOptions<'a>,
    /// Becomes true when the user ends the run.
    pub interrupt: watch::Receiver<bool>,
}

impl<'a> Host<'a> {
    /// A host for boots outside of a run: one attempt each, with the default deadlines; only logs are kept.
    pub fn once(lab: &'a dyn Lab, folder: &'a Path, interrupt: watch::Receiver<bool>) -> Self {
        Self {
            lab,
            folder,
            deadlines: Deadlines::default().stretched(lab.accel().deadline_factor()),
            keep: false,
            vmcore: None,
            cores_taken: CoresTaken::default(),
            append: Append::default(),
            fault: None,
            attempts: Attempts { repeat: 1, retries: 0 },
            seed: Seed::OfRun(rand::random()),
            waits: false,
            deterministic: false,
            person: InteractiveOptions::default(),
            interrupt,
        }
    }

    /// Whether the user has ended the run.
    pub(crate) fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }
}
