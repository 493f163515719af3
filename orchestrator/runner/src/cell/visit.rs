//! A boot that is handed over to somebody before one of its phases, and ends with the visit.

use super::{Boot, Host, Run, no_machine};
use crate::evidence::{Evidence, Stop};
use crate::reach::{Identity, reach_next};
use crate::seed;
use crate::verdict::judge;
use luqual_guest::{Agent, AgentLog, Keys, LinkError};
use luqual_model::{Event, Outcome, Phase, Side};
use luqual_protocol::{Prompt, READY_LINE, Request};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// What somebody who is there wants of a boot.
#[derive(Default)]
pub struct Person<'a> {
    /// To be let into the guest.
    pub visit: Option<Visit<'a>>,
    /// To be told each line of the console.
    pub console: Option<fn(&str)>,
    /// To debug the guest: it waits, paused, at the socket that is told.
    pub gdb: Option<&'a dyn Fn(&Path)>,
}

/// A visit to a guest.
pub struct Visit<'a> {
    /// Before which phase; one in which a guest is talked to.
    pub before: Phase,
    /// What is brought along: where it is in the guest, and its content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Who comes.
    pub visitor: &'a dyn Visitor,
}

/// Somebody who takes over a guest.
pub trait Visitor {
    /// In a guest, until the visitor leaves or the guest is gone. It is asked again in the next kernel if this one is left by a kexec;
    /// what is dropped is over.
    fn visit<'a>(&'a self, agent: &'a Agent, prompt: &'a Prompt) -> Visiting<'a>;
}

/// A visit that goes on.
pub type Visiting<'a> = Pin<Box<dyn Future<Output = Result<(), LinkError>> + 'a>>;

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visited {
    /// The visitor left.
    Left,
    /// The user ended it before.
    Interrupted,
    /// The boot came to an end of its own, as a cell's might, and why.
    Ended(Outcome, String),
}

impl Person<'_> {
    pub(super) fn brought(&self) -> impl Iterator<Item = (String, &[u8])> {
        let files = self.visit.iter().flat_map(|visit| &visit.files);
        files.map(|(path, content)| (path.clone(), content.as_slice()))
    }
}

/// Makes a boot up to the visit that its host has, and ends it after that. Its evidence is in the run's folder itself.
pub async fn visit(boot: &Boot<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> Visited {
    let mut run = Run::new(boot, host, host.folder.to_owned(), 0, events);
    let stop = run.sequence().await.err().unwrap_or(Stop::Complete);
    let (findings, _) = run.end(&stop).await;
    match stop {
        Stop::Visited => Visited::Left,
        Stop::Interrupted => Visited::Interrupted,
        stop => {
            let phase = run.recorder.decided_in();
            let probes = run.checked.into_iter().flat_map(|checked| checked.probes).collect();
            let (source_taint, target_taint) = (run.source_taint, run.target_taint);
            let verdict = judge(&Evidence { phase, stop, probes, findings, source_taint, target_taint });
            Visited::Ended(verdict.outcome, verdict.title)
        }
    }
}

/// By what the next kernel is reached, if the visitor goes there.
pub(super) struct Onward<'a> {
    pub(super) keys: &'a Keys,
    pub(super) log: &'a AgentLog,
    pub(super) now: &'a Identity<'a>,
    pub(super) next: &'a Identity<'a>,
    pub(super) load: &'a Request,
}

/// Ticks that did not come for this long may mean that the visitor has left the kernel: long enough for a host that is busy.
const SILENCE: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Hands the guest over if this is where the visitor is let in: then the boot goes no further. No deadline is on it.
    pub(super) async fn visited(
        &mut self,
        phase: Phase,
        agent: &Agent,
        onward: Option<Onward<'_>>,
    ) -> Result<(), Stop> {
        let Some(visit) = self.host.person.visit.as_ref().filter(|visit| visit.before == phase) else { return Ok(()) };
        let prompt = self.prompt(onward.as_ref().map(|onward| onward.load.clone()));
        let moved = self.lead(visit.visitor.visit(agent, &prompt), onward.as_ref()).await?;
        let Some((agent, hello)) = moved else { return Err(Stop::Visited) };
        self.hop += 1;
        self.target_taint = hello.taint;
        self.watch_ticks(&hello)?;
        self.machine.as_ref().ok_or_else(no_machine)?.console().set_side(Side::Target);
        let prompt = self.prompt(None);
        self.lead(visit.visitor.visit(&agent, &prompt), None).await?;
        Err(Stop::Visited)
    }

    /// One kernel's part of a visit: the next one, if it is there at its end.
    async fn lead(
        &self,
        visit: Visiting<'_>,
        onward: Option<&Onward<'_>>,
    ) -> Result<Option<(Agent, luqual_protocol::Hello)>, Stop> {
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        let ticks = self.ticks.last().ok_or_else(no_machine)?;
        let mut interrupt = self.host.interrupt.clone();
        // A kernel that is left cuts no connection: it is the next one that is heard.
        let moved = async {
            let Some(Onward { keys, log, now, next, .. }) = onward else { return std::future::pending().await };
            let hop = self.hop + 1;
            tokio::select! {
                () = machine.console().saw(READY_LINE, hop as usize + 1) => {}
                () = ticks.stopped(self.recorder.started(), SILENCE) => {}
            }
            reach_next(machine, keys, log, hop, now, next).await
        };
        let visit = async {
            match visit.await {
                Ok(()) => Ok(()),
                // A machine that ends, or a kernel that is left, says more than the connection that ends with it.
                Err(error) if onward.is_none() => {
                    tokio::time::sleep(SILENCE).await;
                    Err(Stop::Agent(crate::reach::chain(&error)))
                }
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = machine.wait_end() => Err(Stop::Machine(end)),
            // A sender that is gone can interrupt nobody.
            Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => Err(Stop::Interrupted),
            left = visit => left.map(|()| None),
            reached = moved => reached.map(Some),
        }
    }

    fn prompt(&self, load: Option<Request>) -> Prompt {
        let of_parts =
            || self.boot.parts.iter().zip(&self.watched).map(|(part, watched)| (part.workload.name, watched));
        let device = |(name, watched): (&str, &Option<super::devices::Watched>)| {
            watched.as_ref().map(|watched| (name.to_owned(), watched.address().to_string()))
        };
        Prompt {
            side: self.side().to_string(),
            hop: self.hop,
            seed: self.seed,
            seeds: of_parts().map(|(name, _)| (name.to_owned(), seed::of_content(self.seed, name))).collect(),
            devices: of_parts().filter_map(device).collect(),
            load,
        }
    }
}
