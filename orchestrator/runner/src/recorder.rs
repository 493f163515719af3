//! Phases with their deadlines: each is announced, raced, timed and written down in one place.

use crate::evidence::Stop;
use crate::ticks::Ticks;
use luqual_config::Deadlines;
use luqual_model::{CellId, Event, Phase, PhaseEnd, PhaseRecord};
use luqual_vm::Machine;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Writes down the phases of one boot.
pub(crate) struct Recorder {
    cell: CellId,
    events: mpsc::UnboundedSender<Event>,
    deadlines: Deadlines,
    interrupt: watch::Receiver<bool>,
    started: Instant,
    /// Each with the part whose turn it was; those without one are everybody's.
    phases: Vec<(Option<usize>, PhaseRecord)>,
    part: Option<usize>,
    entered: Phase,
}

impl Recorder {
    pub(crate) fn new(
        cell: CellId,
        events: mpsc::UnboundedSender<Event>,
        deadlines: Deadlines,
        interrupt: watch::Receiver<bool>,
    ) -> Self {
        let started = Instant::now();
        Self { cell, events, deadlines, interrupt, started, phases: Vec::new(), part: None, entered: Phase::Boot }
    }

    /// When the boot started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Microseconds since then.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The last phase in which something could be decided.
    pub(crate) fn decided_in(&self) -> Phase {
        self.entered
    }

    /// The phases that one part went through.
    pub(crate) fn phases_of(&self, part: usize) -> Vec<PhaseRecord> {
        let own = self.phases.iter().filter(|(whose, _)| whose.is_none_or(|whose| whose == part));
        own.map(|(_, phase)| phase.clone()).collect()
    }

    /// Whose turn it is from now on.
    pub(crate) fn for_part(&mut self, part: Option<usize>) {
        self.part = part;
    }

    /// Runs one phase until its body ends, its deadline passes, or the user ends the run.
    pub(crate) async fn phase<T>(
        &mut self,
        phase: Phase,
        hop: u32,
        watched: Option<(&Machine, Option<&Ticks>)>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        self.entered = phase;
        let limit = self.deadlines.of(phase);
        let mut interrupt = self.interrupt.clone();
        let started = self.started;
        let raced = async {
            tokio::select! {
                // A sender that is gone can interrupt nobody.
                Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => Err(Stop::Interrupted),
                done = body => done,
                () = tokio::time::sleep(limit) => {
                    let silent_us = watched.and_then(|(_, ticks)| ticks?.silent_us(started.elapsed()));
                    let silent_ms = silent_us.map(|us| us / 1000);
                    Err(Stop::Deadline { phase, seconds: limit.as_secs(), silent_ms })
                }
            }
        };
        self.write_down(phase, hop, raced).await
    }

    /// A phase that also an interrupted cell goes through, and that decides nothing.
    pub(crate) async fn last_phase<T>(
        &mut self,
        phase: Phase,
        hop: u32,
        limit: Duration,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let late = Stop::Deadline { phase, seconds: limit.as_secs(), silent_ms: None };
        let raced = async { tokio::time::timeout(limit, body).await.unwrap_or(Err(late)) };
        self.write_down(phase, hop, raced).await
    }

    async fn write_down<T>(
        &mut self,
        phase: Phase,
        hop: u32,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let started_us = self.now_us();
        let _ = self.events.send(Event::PhaseStarted { cell: self.cell.clone(), phase, hop });
        let done = body.await;
        let end = match &done {
            Ok(_) => PhaseEnd::Done,
            Err(stop) => PhaseEnd::Failed(stop.in_words()),
        };
        let duration_us = self.now_us() - started_us;
        let record = PhaseRecord { phase, hop, started_us, duration_us, end: end.clone() };
        self.phases.push((self.part, record));
        let _ = self.events.send(Event::PhaseEnded { cell: self.cell.clone(), phase, hop, duration_us, end });
        done
    }
}
