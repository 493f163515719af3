//! What all boots of a run share.

use super::session::InteractiveOptions;
use super::vmcore::CoresTaken;
use crate::inject::Fault;
use crate::lab::Lab;
use crate::seed::Seed;
use luqual_config::Deadlines;
use luqual_model::Vmcore;
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
    /// Where machines are started.
    pub lab: &'a dyn Lab,
    /// The folder of the run.
    pub folder: &'a Path,
    /// How long phases may take here.
    pub deadlines: Deadlines,
    /// Whether RAM file and initramfs are copied into each cell's folder at its end.
    pub keep: bool,
    /// Of which machines the memory is kept as an ELF core.
    pub vmcore: Option<Vmcore>,
    /// How much of that there is already.
    pub cores_taken: CoresTaken,
    /// A fault to inject into each cell.
    pub fault: Option<Fault>,
    /// How often each cell is run.
    pub attempts: Attempts,
    /// Where the seeds of attempts come from.
    pub seed: Seed,
    /// Whether each waits around preserve, by its seed.
    pub waits: bool,
    /// Whether each does the same every time, instruction by instruction; nobody talks to it then.
    pub deterministic: bool,
    /// What somebody who is there wants of it.
    pub person: InteractiveOptions<'a>,
    /// Turns true when the user ends the run.
    pub interrupt: watch::Receiver<bool>,
}

impl<'a> Host<'a> {
    /// For boots outside of a run: one attempt each, with the usual deadlines, of which nothing is kept but the logs.
    pub fn once(lab: &'a dyn Lab, folder: &'a Path, interrupt: watch::Receiver<bool>) -> Self {
        Self {
            lab,
            folder,
            deadlines: Deadlines::default().stretched(lab.accel().deadline_factor()),
            keep: false,
            vmcore: None,
            cores_taken: CoresTaken::default(),
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
