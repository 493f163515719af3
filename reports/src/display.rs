//! A run while it goes on: live on a terminal, a line per cell elsewhere.

use crate::brief::Brief;
use crate::words::{line, name, standing};
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use luqual_model::{CellId, CellRecord, Event, Phase, Stamped, plain};
use std::io::IsTerminal;
use std::time::Duration;

/// Shows events on standard error.
pub struct Display {
    /// The line that moves; absent where nothing can.
    bar: Option<ProgressBar>,
    planned: usize,
    done: usize,
    /// What runs now, in the order in which it began.
    running: Vec<Running>,
    /// What is done beside the cells, such as a kernel's build.
    beside: Option<String>,
}

struct Running {
    cell: CellId,
    name: String,
    phase: Phase,
}

impl Display {
    /// As standard error is.
    pub fn new() -> Self {
        Self::on(std::io::stderr().is_terminal())
    }

    /// With no line that moves, where others write to standard error too.
    pub fn plain() -> Self {
        Self::on(false)
    }

    fn on(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed}, left {left}  {wide_msg}")
            {
                bar.set_style(style.with_key("left", left));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, planned: 0, done: 0, running: Vec::new(), beside: None }
    }

    /// Shows what an event changes.
    pub fn event(&mut self, stamped: &Stamped) {
        match &stamped.event {
            Event::RunStarted { run } => {
                self.planned = run.planned.len();
                if let Some(bar) = &self.bar {
                    bar.set_length(self.planned as u64);
                }
            }
            Event::RunResumed { left, again } => {
                self.planned = *left;
                if !again.is_empty() {
                    self.say(runs_again(again.len()));
                }
                if let Some(bar) = &self.bar {
                    bar.set_length(self.planned as u64);
                }
            }
            Event::CellStarted { cell, key } => {
                let name = line(&name(key));
                self.running.push(Running { cell: cell.clone(), name, phase: Phase::Boot });
                self.message();
            }
            Event::BootStarted { boot, .. } => {
                self.running.push(Running { cell: boot.clone(), name: boot.to_string(), phase: Phase::Boot });
                self.message();
            }
            Event::BootEnded { boot, why } => {
                self.running.retain(|running| running.cell != *boot);
                self.message();
                if let Some(why) = why {
                    self.say(not_well(boot, why));
                }
            }
            Event::PhaseStarted { cell, phase, .. } => {
                if let Some(running) = self.running.iter_mut().find(|running| running.cell == *cell) {
                    running.phase = *phase;
                }
                self.message();
            }
            Event::CellFinished { record } => {
                self.done += 1;
                self.running.retain(|running| running.cell != record.id);
                self.message();
                self.say(self.line(record));
                if let Some(bar) = &self.bar {
                    bar.set_position(self.done as u64);
                }
            }
            Event::RunFinished { .. } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
            }
            Event::KernelAdded { .. } | Event::PhaseEnded { .. } | Event::ConsoleFinding { .. } => {}
        }
    }

    /// Shows what is done beside the cells, or that it is over.
    pub fn beside(&mut self, what: Option<String>) {
        self.beside = what;
        self.message();
    }

    /// Shows a line above the one that moves.
    pub fn say(&self, line: String) {
        let line = plain::lines(&line);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn message(&self) {
        if let Some(bar) = &self.bar {
            let running = self.running.iter().map(|Running { name, phase, .. }| format!("{name}: {phase}"));
            bar.set_message(self.beside.iter().cloned().chain(running).collect::<Vec<_>>().join(" | "));
        }
    }

    fn line(&self, record: &CellRecord) -> String {
        let name = line(&name(&record.plan.key));
        let seconds = record.duration_us as f64 / 1e6;
        let blackout = record
            .blackout
            .map_or_else(String::new, |blackout| format!(", blackout {} ms", blackout.duration_us / 1000));
        let (done, planned) = (self.done, self.planned);
        let word = Brief::of(record).word();
        format!("[{done}/{planned}] {name}  {word}{}  {seconds:.1} s{blackout}", standing(record))
    }
}

/// How long the rest takes: nobody knows before something has ended.
fn left(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    // The bar shows nothing of what cannot be written.
    let _ = to.write_str(&remaining(state.pos(), state.eta()));
}

fn remaining(ended: u64, guess: Duration) -> String {
    if ended == 0 { "?".to_owned() } else { format!("{:#}", HumanDuration(guess)) }
}

/// Why a boot is not what its cells are judged by, which may be a console's line.
fn not_well(boot: &CellId, why: &str) -> String {
    line(&format!("{boot} did not end as expected; each of its cells runs again alone: {why}"))
}

/// What a resumed run does with cells that say nothing about a kernel.
fn runs_again(count: usize) -> String {
    let (cells, run) = if count == 1 { ("cell", "runs") } else { ("cells", "run") };
    format!("{count} {cells} ended as harness-failed, which says nothing about a kernel, and {run} again")
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cells, record};

    #[test]
    fn nothing_is_left_that_nobody_knows() {
        assert_eq!(remaining(0, Duration::ZERO), "?");
        assert_eq!(remaining(1, Duration::from_secs(30)), "30s");
    }

    #[test]
    fn what_a_kernel_said_of_a_boot_moves_no_cursor() {
        let told = not_well(&CellId("a_b".into()), "panic\u{1b}[2J\r");
        assert_eq!(told, "a_b did not end as expected; each of its cells runs again alone: panic [2J ");
        let mut moving = cells()[0].clone();
        moving.plan.key.source = "7\u{1b}[2J".into();
        assert!(!Display::on(false).line(&moving).contains('\u{1b}'));
    }

    #[test]
    fn a_line_per_cell() {
        let mut display = Display::on(false);
        display.event(&Stamped { at_us: 0, event: Event::RunStarted { run: Box::new(record().run) } });
        display.done = 1;
        assert_eq!(
            display.line(&cells()[0]),
            "[1/9] 7.2.12 → 7.3.4 memfd.basic on q35-intel  survived  3.2 s, blackout 912 ms"
        );
    }
}
