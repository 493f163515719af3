//! What is told while something is done. Whoever listens puts it into words.

use luqual_kernels::{BuildProgress, Kernel};
use luqual_model::Stamped;
use std::path::Path;

/// Hears of what happens.
pub trait Listener {
    /// One thing that happened.
    fn hear(&self, notice: Notice<'_>);
}

/// One thing that happened.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A step of a kernel's download or build begins; `total` is in the step's unit (bytes, compiled files), if it is known.
    StepStarted {
        /// What is done.
        step: &'a str,
        /// How much there is to do.
        total: Option<u64>,
    },
    /// So much of the step is done.
    StepAt(u64),
    /// Something about it that is worth a line.
    StepNote(&'a str),
    /// The step is done.
    StepEnded,
    /// An event of the run, as the journal has it.
    Event(&'a Stamped),
    /// So many working folders are removed, which a killed luqual left behind.
    WorkFoldersRemoved(usize),
    /// Something is not what it was in the earlier run, and is taken all the same.
    Differs(&'a str),
    /// Every cell of the run in that folder has ended.
    NothingLeft(&'a Path),
    /// The guest waits for gdb, paused.
    GdbWaits {
        /// Where gdb is to connect.
        socket: &'a Path,
        /// The kernel before the kexec.
        source: &'a Kernel,
        /// The kernel after it, if there is to be one.
        target: Option<&'a Kernel>,
    },
    /// A file that is left out of a bundle, which it would make too large.
    LeftOut(&'a Path),
    /// Slurm has the job.
    JobSubmitted {
        /// Its id.
        job: &'a str,
        /// How many parts the run has.
        parts: usize,
    },
    /// So many parts of the job's run have ended.
    PartsEnded(usize),
    /// The job is over, or is not waited for any more.
    JobLeft,
    /// A part did not end, and is run again alone.
    PartAgain {
        /// Its number, from 1.
        part: u32,
        /// What its tasks said.
        log: &'a Path,
    },
    /// The user ended the run of a job array.
    ArrayInterrupted {
        /// The job that was cancelled, if one was submitted.
        job: Option<&'a str>,
        /// The run's folder, with which the same command goes on.
        folder: &'a Path,
    },
}

/// The progress of a kernel's build, told as notices.
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
