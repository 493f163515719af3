//! How downloads, builds and job arrays are shown: bars on a terminal, else a line now and then.

use crate::output::tell;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The steps of a download or a build, on standard error, so that standard output can be piped.
pub(crate) struct Steps {
    terminal: bool,
    bar: RefCell<Option<ProgressBar>>,
    step: RefCell<String>,
    total: Cell<Option<u64>>,
    done: Cell<u64>,
    told: Cell<Instant>,
}

/// Without a terminal, a long step is heard of this often.
const EVERY: Duration = Duration::from_secs(20);

impl Default for Steps {
    /// As standard error is.
    fn default() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: RefCell::default(),
            step: RefCell::default(),
            total: Cell::default(),
            done: Cell::default(),
            told: Cell::new(Instant::now()),
        }
    }
}

impl Steps {
    /// One begins; `total` is in its unit, if it is known. Beside a run, whose line moves, it has no line of its own.
    pub(crate) fn start(&self, step: &str, total: Option<u64>, beside_run: bool) {
        *self.step.borrow_mut() = step.to_owned();
        self.total.set(total.filter(|total| *total > 0));
        self.done.set(0);
        self.told.set(Instant::now());
        if !self.terminal {
            tell(format_args!("{step}\n"));
            return;
        }
        if beside_run {
            return;
        }
        let bytes = step.starts_with("downloading") || step.starts_with("unpacking");
        let template = match (total, bytes) {
            (Some(_), true) => "{msg} {wide_bar} {bytes}/{total_bytes} {eta}",
            (Some(_), false) => "{msg} {wide_bar} {percent}% {elapsed}",
            (None, _) => "{spinner} {msg} {elapsed}",
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_message(step.to_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.borrow_mut() = Some(bar);
    }

    /// So much of it is done.
    pub(crate) fn at(&self, done: u64) {
        self.done.set(done);
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_position(done);
        } else if !self.terminal && self.told.get().elapsed() >= EVERY && self.total.get().is_some() {
            self.told.set(Instant::now());
            tell(format_args!("{}\n", self.words()));
        }
    }

    /// The step, and how much of it is done if that is known.
    pub(crate) fn words(&self) -> String {
        let step = self.step.borrow();
        match self.total.get() {
            Some(total) => format!("{step}: {} %", (self.done.get() * 100 / total).min(99)),
            None => step.clone(),
        }
    }

    /// It is done.
    pub(crate) fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// How many parts of a job array have ended: a line that moves on a terminal, else one line for each change.
pub(crate) struct Parts {
    parts: usize,
    bar: Option<ProgressBar>,
    told: Cell<usize>,
}

impl Parts {
    pub(crate) fn begin(job: &str, parts: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(parts as u64);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} of {len} parts ended  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(format!("job {job}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            tell(format_args!("job {job} was submitted\n"));
        }
        Self { parts, bar, told: Cell::new(0) }
    }

    pub(crate) fn at(&self, ended: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(ended as u64);
        } else if self.told.replace(ended) != ended {
            tell(format_args!("{ended} of {} parts ended\n", self.parts));
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
