//! A boot that is handed over to somebody before one of its phases, and ends with the visit.

use super::connect::connect_next;
use super::driver::{BootDriver, Line};
use super::guard::Watched;
use super::session::{SessionEnd, SessionFuture};
use super::steps::BootStep;
use super::{Boot, Host};
use crate::judge::{Evidence, Link, Stop, judge};
use crate::lab::{Guest, chain};
use crate::seed;
use luqual_model::Event;
use luqual_protocol::{Hello, Prompt, Request};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Makes a boot up to the visit that its host has, and ends it after that. Its evidence is in the run's folder itself.
pub async fn visit(boot: &Boot<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> SessionEnd {
    let mut driver = BootDriver::new(boot, host, host.folder.to_owned(), 0, events);
    let stop = driver.run().await;
    let (findings, _) = driver.end(&stop).await;
    match stop {
        Stop::SessionClosed => SessionEnd::Left,
        Stop::Interrupted => SessionEnd::Interrupted,
        stop => {
            let phase = driver.guard().decided_in();
            let (source_taint, target_taint) = driver.taints();
            let probes = driver.into_checked().into_iter().flat_map(|checked| checked.probes).collect();
            let verdict = judge(&Evidence { phase, stop, probes, findings, source_taint, target_taint });
            SessionEnd::Ended(verdict.outcome, verdict.title)
        }
    }
}

/// Ticks that did not come for this long may mean that the visitor has left the kernel: long enough for a host that is busy.
const SILENCE: Duration = Duration::from_secs(2);

impl BootDriver<'_> {
    /// Hands the guest over if this is where the visitor is let in: then the boot goes no further. No deadline is on it.
    pub(super) async fn interactive(
        &mut self,
        step: &BootStep,
        guest: &dyn Guest,
        line: &Line<'_>,
    ) -> Result<(), Stop> {
        let Some(visit) = self.host.person.visit.as_ref().filter(|visit| visit.before == step.phase) else {
            return Ok(());
        };
        let agent = || Stop::Host("nobody can talk to this guest".to_owned());
        // A source can be left by whoever visits it.
        let onward = (self.hop == 0).then_some(line);
        let load = onward.and_then(|line| self.load_request(line));
        let prompt = self.prompt(load);
        let visiting = visit.visitor.visit(guest.agent().ok_or_else(agent)?, &prompt);
        let Some((guest, hello)) = self.lead(visiting, onward).await? else { return Err(Stop::SessionClosed) };
        self.arrived(self.hop + 1, &hello)?;
        let prompt = self.prompt(None);
        self.lead(visit.visitor.visit(guest.agent().ok_or_else(agent)?, &prompt), None).await?;
        Err(Stop::SessionClosed)
    }

    /// One kernel's part of a visit: the next one, if it is there at its end.
    async fn lead(
        &self,
        visit: SessionFuture<'_>,
        onward: Option<&Line<'_>>,
    ) -> Result<Option<(Rc<dyn Guest>, Hello)>, Stop> {
        let machine = self.machine()?;
        let ticks = self.ticks.last();
        let link = RefCell::new(Link::default());
        // A kernel that is left cuts no connection: it is the next one that is heard.
        let moved = async {
            let Some(Line { keys, log, identities }) = onward else { return std::future::pending().await };
            let hop = self.hop + 1;
            let silent = async {
                match ticks {
                    Some(ticks) => ticks.stopped(SILENCE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = machine.listens(hop as usize + 1) => {}
                () = silent => {}
            }
            let [Some(now), Some(next)] = [self.hop, hop].map(|hop| identities.get(hop as usize)) else {
                return std::future::pending().await;
            };
            connect_next(machine, keys, log, hop, (now, next), &link).await
        };
        let visit = async {
            match visit.await {
                Ok(()) => Ok(()),
                // A machine that ends, or a kernel that is left, says more than the connection that ends with it.
                Err(error) if onward.is_none() => {
                    tokio::time::sleep(SILENCE).await;
                    Err(Stop::Agent(chain(&error)))
                }
                Err(_) => std::future::pending().await,
            }
        };
        let watched = Watched { machine: Some(machine), ..Watched::default() };
        let body = async {
            tokio::select! {
                biased;
                left = visit => left.map(|()| None),
                reached = moved => reached.map(Some),
            }
        };
        self.guard.unbounded(watched, body).await
    }

    fn prompt(&self, load: Option<Request>) -> Prompt {
        let of_parts = || self.boot.parts.iter().map(|part| part.workload.name).enumerate();
        let device = |(number, name): (usize, &str)| Some((name.to_owned(), self.devices.address(number)?));
        Prompt {
            side: self.side().to_string(),
            hop: self.hop,
            seed: self.seed,
            seeds: of_parts().map(|(_, name)| (name.to_owned(), seed::of_content(self.seed, name))).collect(),
            devices: of_parts().filter_map(device).collect(),
            load,
        }
    }
}
