//! The one guard around everything that a boot waits for: the phase's deadline, the machine's end, and the end of the run by the user.
//! It also announces, times and records the phases.

use crate::judge::{Link, Stop};
use crate::lab::Machine;
use crate::observe::Ticks;
use luqual_config::Deadlines;
use luqual_model::{CellId, Event, Phase, PhaseEnd, PhaseRecord};
use std::cell::RefCell;
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
    /// Each with the part whose turn it was; those without one are everybody's.
    phases: Vec<(Option<usize>, PhaseRecord)>,
    entered: Phase,
}

/// Which phase something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) phase: Phase,
    /// How many kexecs were made before it.
    pub(crate) hop: u32,
    /// Whose turn it is; `None` is everybody's.
    pub(crate) part: Option<usize>,
}

/// What is raced, and what a deadline is told with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watched<'a> {
    /// Its end ends the phase.
    pub(crate) machine: Option<&'a dyn Machine>,
    /// By which a deadline says whether the guest lives.
    pub(crate) ticks: Option<&'a Ticks>,
    /// By which a deadline says why nobody was reached.
    pub(crate) link: Option<&'a RefCell<Link>>,
    /// For how long after the machine's end an answer may still come that was given before it.
    pub(crate) last_words: Duration,
}

/// How long a machine may take to be seen to end after a connection to its guest has: that is often the first sign.
const SIGN: Duration = Duration::from_secs(2);

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

    /// When the boot started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Microseconds since then.
    pub(crate) fn now_us(&self) -> u64 {
        crate::observe::micros(self.started.elapsed())
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

    /// Runs one phase: it is announced and recorded.
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

    /// Guards what belongs to a phase and is not one itself, under that phase's deadline.
    pub(crate) async fn within<T>(
        &self,
        phase: Phase,
        watched: Watched<'_>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        race((phase, self.deadlines.of(phase)), self.interrupt.clone(), watched, body).await
    }

    /// Guards what only a person ends: there is no deadline.
    pub(crate) async fn unbounded<T>(
        &self,
        watched: Watched<'_>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        race((self.entered, Duration::MAX), self.interrupt.clone(), watched, body).await
    }

    /// A phase that an interrupted boot goes through as well, and that decides nothing.
    pub(crate) async fn last_phase<T>(
        &mut self,
        at: At,
        limit: Duration,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let begun = self.begin(at);
        let late = Stop::Deadline { phase: at.phase, seconds: limit.as_secs(), silent_ms: None, link: None };
        let done = timeout(limit, body).await.unwrap_or(Err(late));
        self.end(at, begun, &done);
        done
    }

    fn begin(&self, At { phase, hop, .. }: At) -> u64 {
        // A closed channel means that nobody listens any more; the boot still ends in order.
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

/// The race that everything is in. What ends it first says how it ended; at once, the user before the machine, and the machine before
/// what is waited for.
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
    let late = async {
        // A deadline that is none does not overflow.
        match Instant::now().checked_add(limit) {
            Some(_) => sleep(limit).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        // A sender that is gone can interrupt nobody.
        Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => Err(Stop::Interrupted),
        end = end => match last_words(&watched, body).await {
            Some(done) => done,
            None => Err(Stop::Machine(end)),
        },
        done = &mut body => match (done, watched.machine) {
            // A guest that goes on alone powers its machine off for that very reason.
            (Err(Stop::Agent(why)), Some(machine)) if watched.last_words.is_zero() => {
                let end = timeout(SIGN, machine.wait_end()).await;
                Err(end.map_or(Stop::Agent(why), Stop::Machine))
            }
            (done, _) => done,
        },
        () = late => {
            let silent_ms = watched.ticks.and_then(Ticks::silent_us).map(|us| us / 1000);
            let link = watched.link.map(|link| link.borrow().clone());
            Err(Stop::Deadline { phase, seconds: limit.as_secs(), silent_ms, link })
        }
    }
}

/// What was done before the machine's end, and is only heard of after it.
async fn last_words<T>(watched: &Watched<'_>, body: impl Future<Output = Result<T, Stop>>) -> Option<Result<T, Stop>> {
    if watched.last_words.is_zero() {
        return None;
    }
    let done = timeout(watched.last_words, body).await.ok()?;
    // What the agent says of itself is a reason; anything else is not more than the end.
    Some(done).filter(|done| matches!(done, Ok(_) | Err(Stop::Agent(_))))
}
