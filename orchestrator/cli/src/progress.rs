//! How downloads and builds are shown: bars on a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use luqual_kernels::Progress;
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Shows on standard error, so that standard output can be piped.
pub(crate) struct Shown {
    terminal: bool,
    bar: RefCell<Option<ProgressBar>>,
    step: RefCell<String>,
    total: Cell<Option<u64>>,
    told: Cell<Instant>,
}

/// Without a terminal, a long step is heard of this often.
const EVERY: Duration = Duration::from_secs(20);

impl Shown {
    /// As standard error is.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: RefCell::default(),
            step: RefCell::default(),
            total: Cell::default(),
            told: Cell::new(Instant::now()),
        }
    }
}

impl Progress for Shown {
    fn start(&self, step: &str, total: Option<u64>) {
        *self.step.borrow_mut() = step.to_owned();
        self.total.set(total);
        self.told.set(Instant::now());
        if !self.terminal {
            eprintln!("{step}");
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

    fn at(&self, done: u64) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_position(done);
        } else if self.told.get().elapsed() >= EVERY
            && let Some(total) = self.total.get().filter(|total| *total > 0)
        {
            self.told.set(Instant::now());
            eprintln!("{}: {} %", self.step.borrow(), (done * 100 / total).min(99));
        }
    }

    fn note(&self, line: &str) {
        eprintln!("{line}");
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
