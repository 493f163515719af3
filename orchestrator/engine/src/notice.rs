//! Notices of the engine's progress. The listener puts them into words.

use luqual_kernels::{BuildProgress, Kernel};
use luqual_model::Stamped;
use luqual_vm::MemoryLimit;
use std::path::Path;

/// Gets the notices.
pub trait Listener {
    /// Gets one notice.
    fn hear(&self, notice: Notice<'_>);
}

/// One notice.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A step of a kernel's download or build begins; `total` is in the step's unit (bytes, compiled files), if it is known.
    StepStarted {
        /// The step, in words.
        step: &'a str,
        /// The total amount.
        total: Option<u64>,
    },
    /// The amount of the step that is done.
    StepAt(u64),
    /// A note about the step.
    StepNote(&'a str),
    /// The step has ended.
    StepEnded,
    /// An event of the run, as the journal has it.
    Event(&'a Stamped),
    /// So many machines run at once at most, since the memory of this process is limited.
    Limited {
        /// The limit.
        limit: &'a MemoryLimit,
        /// The machines at once.
        machines: u64,
    },
    /// This number of working folders, which killed processes of luqual left behind, was removed.
    WorkFoldersRemoved(usize),
    /// Something differs from the earlier run, and is used anyway.
    Differs(&'a str),
    /// Every cell of the run in that folder has ended.
    NothingLeft(&'a Path),
    /// The guest waits for gdb, paused.
    GdbWaits {
        /// The socket for gdb.
        socket: &'a Path,
        /// The kernel before the kexec.
        source: &'a Kernel,
        /// The kernel after the kexec, if there is a target.
        target: Option<&'a Kernel>,
    },
    /// A file that would make the bundle too large, and was left out.
    LeftOut(&'a Path),
    /// Slurm has accepted the job.
    JobSubmitted {
        /// Its id.
        job: &'a str,
        /// The number of parts.
        parts: usize,
    },
    /// This number of parts has ended.
    PartsEnded(usize),
    /// luqual no longer waits for the job.
    JobLeft,
    /// A part did not end, and runs again alone.
    PartAgain {
        /// Its number, from 1.
        part: u32,
        /// The log of its tasks.
        log: &'a Path,
    },
    /// The user interrupted the run of a job array.
    ArrayInterrupted {
        /// The job that was cancelled, if one was submitted.
        job: Option<&'a str>,
        /// The run's folder, with which the same command resumes the run.
        folder: &'a Path,
    },
}

/// Converts the progress of a kernel's build into notices.
pub struct Building<'a>(pub &'a dyn Listener);

impl BuildProgress for Building<'_> {
    fn start(&self, step: &str, total: Option<u64>) {
        self.0.hear(Notice::StepStarted { step, total });
    }

    fn at(&self, done: u64) {
        self.0.hear(Notice::StepAt(done));
    }

    fn note(&self, line: &str) {
        self.0.hear(Notice::StepNote(line));
    }

    fn end(&self) {
        self.0.hear(Notice::StepEnded);
    }
}
