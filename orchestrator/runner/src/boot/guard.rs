//! Guards everything that a boot waits for: with the deadline of the phase, the end of the machine, and the end of
//! the run by the user. It also announces, times and records the phases.

use crate::judge::{Link, Stop};
use crate::lab::Machine;
use crate::observe::{MachineTime, Ticks, Withheld};
use luqual_config::Deadlines;
use luqual_model::{CellId, Event, Phase, PhaseEnd, PhaseRecord};
use std::cell::{OnceCell, RefCell};
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// Guards one boot.
pub(crate) struct Guard {
    boot: CellId,
    events: mpsc::UnboundedSender<Event>,
    deadlines: Deadlines,
    interrupt: watch::Receiver<bool>,
    started: Instant,
    /// The phases with the part that each belongs to; `None` belongs to all parts.
    phases: Vec<(Option<usize>, PhaseRecord)>,
    entered: Phase,
}

/// A phase, its hop, and its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) phase: Phase,
    /// The number of kexecs before it.
    pub(crate) hop: u32,
    /// The part of the phase; `None` for all parts.
    pub(crate) part: Option<usize>,
}

/// What a wait is raced with, and what a deadline reports.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watched<'a> {
    /// The machine; its end ends the phase.
    pub(crate) machine: Option<&'a dyn Machine>,
    /// The ticks, by which a deadline reports whether the guest runs.
    pub(crate) ticks: Option<&'a Ticks>,
    /// The link, by which a deadline reports why no connection was made.
    pub(crate) link: Option<&'a RefCell<Link>>,
    /// The time of a machine that the wait itself starts.
    pub(crate) time: Option<&'a OnceCell<MachineTime>>,
    /// How long after the machine's end a reply may still arrive that was sent before it.
    pub(crate) last_words: Duration,
}

/// The shortest time by which a deadline is extended, which is more than the error of what it is known from.
const GRAIN: Duration = Duration::from_millis(250);

/// How long to wait for the machine's end after a connection to its guest was lost; a lost connection is often the
/// first sign.
const SIGN: Duration = Duration::from_secs(2);

impl<'a> Watched<'a> {
    /// What a wait for a guest that runs is raced with.
    pub(crate) fn running(machine: &'a dyn Machine, ticks: Option<&'a Ticks>, last_words: Duration) -> Self {
        Self { machine: Some(machine), ticks, last_words, ..Self::default() }
    }

    /// The time in which the machine could not run since its start.
    fn withheld(&self) -> Withheld {
        let started = || self.time.and_then(OnceCell::get).cloned();
        let time = self.machine.map(|machine| machine.time()).or_else(started);
        time.map(|time| time.withheld()).unwrap_or_default()
    }
}

impl Guard {
    pub(crate) fn new(
        boot: CellId,
        events: mpsc::UnboundedSender<Event>,
        deadlines: Deadlines,
        interrupt: watch::Receiver<bool>,
    ) -> Self {
        let (started, phases) = (Instant::now(), Vec::new());
        Self { boot, events, deadlines, interrupt, started, phases, entered: Phase::Boot }
    }

    /// The start of the boot.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Microseconds since the start of the boot.
    pub(crate) fn now_us(&self) -> u64 {
        crate::observe::micros(self.started.elapsed())
    }

    /// The last phase that could decide the outcome.
    pub(crate) fn decided_in(&self) -> Phase {
        self.entered
    }

    /// The phases of one part, with those of all parts.
    pub(crate) fn phases_of(&self, part: usize) -> Vec<PhaseRecord> {
        let own = self.phases.iter().filter(|(whose, _)| whose.is_none_or(|whose| whose == part));
        own.map(|(_, phase)| phase.clone()).collect()
    }

    /// Runs one phase, and announces and records it.
    pub(crate) async fn phase<T>(
        &mut self,
        at: At,
        watched: Watched<'_>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        self.entered = at.phase;
        let begun = self.begin(at);
        let limit = (at.phase, self.deadlines.of(at.phase));
        let done = race(limit, self.interrupt.clone(), watched, body).await;
        self.end(at, begun, &done);
        done
    }

    /// Guards a wait that belongs to a phase, under the phase's deadline, without a record of its own.
    pub(crate) async fn within<T>(
        &self,
        phase: Phase,
        watched: Watched<'_>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        race((phase, self.deadlines.of(phase)), self.interrupt.clone(), watched, body).await
    }

    /// Guards a wait without a deadline, which the user ends.
    pub(crate) async fn unbounded<T>(
        &self,
        watched: Watched<'_>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        race((self.entered, Duration::MAX), self.interrupt.clone(), watched, body).await
    }

    /// Runs a phase that an interrupted boot runs too, and that does not decide the outcome.
    pub(crate) async fn last_phase<T>(
        &mut self,
        at: At,
        limit: Duration,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let begun = self.begin(at);
        let withheld = Withheld::default();
        let late = Stop::Deadline { phase: at.phase, seconds: limit.as_secs(), silent_ms: None, link: None, withheld };
        let done = timeout(limit, body).await.unwrap_or(Err(late));
        self.end(at, begun, &done);
        done
    }

    fn begin(&self, At { phase, hop, .. }: At) -> u64 {
        // A closed channel means that the listener has ended; the boot still ends in order.
        let _ = self.events.send(Event::PhaseStarted { cell: self.boot.clone(), phase, hop });
        self.now_us()
    }

    fn end<T>(&mut self, At { phase, hop, part }: At, started_us: u64, done: &Result<T, Stop>) {
        let end = match done {
            Ok(_) => PhaseEnd::Done,
            Err(stop) => PhaseEnd::Failed(stop.in_words()),
        };
        let duration_us = self.now_us() - started_us;
        self.phases.push((part, PhaseRecord { phase, hop, started_us, duration_us, end: end.clone() }));
        let _ = self.events.send(Event::PhaseEnded { cell: self.boot.clone(), phase, hop, duration_us, end });
    }
}

/// Races `body` with the interrupt, the machine's end and the deadline. The first to end decides. If several end at
/// once, the user comes before the machine, and the machine before `body`.
async fn race<T>(
    (phase, limit): (Phase, Duration),
    mut interrupt: watch::Receiver<bool>,
    watched: Watched<'_>,
    body: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    let mut body = pin!(body);
    let end = async {
        match watched.machine {
            Some(machine) => machine.wait_end().await,
            None => pending().await,
        }
    };
    let before = watched.withheld();
    let late = async {
        // An infinite deadline does not overflow.
        match Instant::now().checked_add(limit) {
            Some(_) => sleep(limit).await,
            None => pending().await,
        }
        // Time in which the machine could not run does not count, but is not waited for without end.
        let mut added = Duration::ZERO;
        loop {
            let withheld = watched.withheld().since(&before);
            let missing = withheld.total().min(limit).saturating_sub(added);
            if missing < GRAIN {
                return withheld;
            }
            sleep(missing).await;
            added += missing;
        }
    };
    tokio::select! {
        biased;
        // A closed channel cannot interrupt.
        Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => Err(Stop::Interrupted),
        end = end => match last_words(&watched, body).await {
            Some(done) => done,
            None => Err(Stop::Machine(end)),
        },
        done = &mut body => match (done, watched.machine) {
            // A guest without a connection powers its machine off after a failure of its agent.
            (Err(Stop::Agent(why)), Some(machine)) if watched.last_words.is_zero() => {
                let end = timeout(SIGN, machine.wait_end()).await;
                Err(end.map_or(Stop::Agent(why), Stop::Machine))
            }
            (done, _) => done,
        },
        withheld = late => {
            let silent_ms = watched.ticks.and_then(Ticks::silent_us).map(|us| us / 1000);
            let link = watched.link.map(|link| link.borrow().clone());
            Err(Stop::Deadline { phase, seconds: limit.as_secs(), silent_ms, link, withheld })
        }
    }
}

/// Waits for a reply that was sent before the machine's end and arrives after it.
async fn last_words<T>(watched: &Watched<'_>, body: impl Future<Output = Result<T, Stop>>) -> Option<Result<T, Stop>> {
    if watched.last_words.is_zero() {
        return None;
    }
    let done = timeout(watched.last_words, body).await.ok()?;
    // A failure that the agent reports is the reason; any other error only follows from the machine's end.
    Some(done).filter(|done| matches!(done, Ok(_) | Err(Stop::Agent(_))))
}
