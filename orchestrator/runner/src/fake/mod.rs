//! A machine and a guest that do what a script says: with the clock of a test each deadline, each end of a machine and each lost message
//! takes milliseconds. What is tested with them is this tool; nothing that they do says anything about a kernel.

mod guest;
mod machine;
mod script;

#[cfg(test)]
pub(crate) use guest::pages;
pub use script::{Play, Script};

use crate::lab::{Lab, Machine, Start, Waiting};
use luqual_model::{Accel, KernelInfo, QemuVersion};
use machine::FakeMachine;
use std::cell::Cell;
use std::rc::Rc;

/// Starts machines that are not there.
pub struct FakeLab {
    script: Rc<Script>,
    target: KernelInfo,
    /// How many are there now.
    running: Rc<Cell<usize>>,
}

impl FakeLab {
    /// Each machine follows the script; after a kexec its kernel is `target`, and after two the source again.
    pub fn new(script: Script, target: KernelInfo) -> Self {
        Self { script: Rc::new(script), target, running: Rc::default() }
    }

    /// How many machines are there now.
    pub fn running(&self) -> usize {
        self.running.get()
    }
}

impl Lab for FakeLab {
    fn qemu(&self) -> QemuVersion {
        QemuVersion(99, 0, 0)
    }

    fn accel(&self) -> Accel {
        Accel::Tcg
    }

    fn start<'a>(&'a self, start: Start<'a>) -> Waiting<'a, Result<Box<dyn Machine>, String>> {
        Box::pin(async move {
            if let Some(why) = &self.script.does_not_start {
                return Err(why.clone());
            }
            let machine = FakeMachine::start(self.script.clone(), &start, self.target.clone(), self.running.clone());
            machine.map(|machine| Box::new(machine) as Box<dyn Machine>).map_err(|error| error.to_string())
        })
    }
}
