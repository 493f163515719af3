//! What the engine tells while it works, in words on standard error.

use crate::gdb;
use crate::output::tell;
use crate::progress::{Parts, Steps};
use luqual_engine::{Listener, Notice};
use luqual_model::Event;
use luqual_reports::Display;
use std::cell::{Cell, RefCell};

/// Tells each thing as it comes.
#[derive(Default)]
pub(crate) struct Words {
    steps: Steps,
    parts: RefCell<Option<Parts>>,
    run: RefCell<Option<Display>>,
    /// Whether others write to standard error too, so that no line can move there.
    plain: Cell<bool>,
}

impl Words {
    /// A kernel's build beside a run is shown in the run's line.
    fn show_beside(&self, is_on: bool) {
        if let Some(display) = self.run.borrow_mut().as_mut() {
            display.beside(is_on.then(|| self.steps.words()));
        }
    }

    /// Without lines that move, since a console or a debugger is shown beside them.
    pub(crate) fn be_plain(&self, plain: bool) {
        self.plain.set(plain);
    }
}

impl Listener for Words {
    fn hear(&self, notice: Notice<'_>) {
        match notice {
            Notice::StepStarted { step, total } => {
                self.steps.start(step, total, self.run.borrow().is_some());
                self.show_beside(true);
            }
            Notice::StepAt(done) => {
                self.steps.at(done);
                self.show_beside(true);
            }
            Notice::StepNote(line) => match self.run.borrow().as_ref() {
                Some(display) => display.say(line.to_owned()),
                None => tell(format_args!("{line}\n")),
            },
            Notice::StepEnded => {
                self.steps.end();
                self.show_beside(false);
            }
            Notice::Event(stamped) => {
                let mut run = self.run.borrow_mut();
                if matches!(stamped.event, Event::RunStarted { .. } | Event::RunResumed { .. }) {
                    *run = Some(if self.plain.get() { Display::plain() } else { Display::new() });
                }
                if let Some(display) = run.as_mut() {
                    display.event(stamped);
                }
            }
            Notice::Limited { limit, machines } => {
                let s = if machines == 1 { "" } else { "s" };
                tell(format_args!("note: {limit}: at most {machines} machine{s} at once\n"));
            }
            Notice::WorkFoldersRemoved(count) => {
                tell(format_args!("removed {count} working folder(s) that a killed luqual left behind\n"));
            }
            Notice::Differs(what) => tell(format_args!("warning: {what}\n")),
            Notice::NothingLeft(folder) => {
                let folder = folder.display();
                tell(format_args!("{folder}: every cell of the run has ended; there is nothing left to run\n"));
            }
            Notice::GdbWaits { socket, source, target } => tell(gdb::what_to_type(socket, source, target)),
            Notice::LeftOut(path) => {
                tell(format_args!(
                    "warning: the file is too large for a bundle and was left out: {}\n",
                    path.display()
                ));
            }
            Notice::JobSubmitted { job, parts } => *self.parts.borrow_mut() = Some(Parts::begin(job, parts)),
            Notice::PartsEnded(ended) => self.parts.borrow().iter().for_each(|parts| parts.at(ended)),
            Notice::JobLeft => drop(self.parts.take()),
            Notice::PartAgain { part, log } => {
                tell(format_args!("part {part} did not end (see {}); it runs again alone\n", log.display()));
            }
            Notice::ArrayInterrupted { job, folder } => {
                let what =
                    job.map_or_else(|| "no job was submitted".to_owned(), |job| format!("job {job} was cancelled"));
                let folder = folder.to_string_lossy();
                let folder = shlex::try_quote(&folder).unwrap_or_default();
                tell(format_args!("{what}; run the same command with --report-dir {folder} to resume\n"));
            }
        }
    }
}
