//! A boot that hands the guest to an interactive session before one of its phases, and ends with the session.

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

/// Runs a boot up to the interactive session of `host`, and ends it after the session. The evidence is in the run's
/// folder itself.
pub async fn visit(boot: &Boot<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> SessionEnd {
    let mut driver = BootDriver::new(boot, host, host.folder.to_owned(), 0, events);
    let stop = driver.run().await;
    let (findings, _) = driver.end(&stop).await;
    match stop {
        Stop::SessionClosed => SessionEnd::Left,
        Stop::Interrupted => SessionEnd::Interrupted,
        stop => {
            let phase = driver.guard().decided_in();
            let (side, taints, emulation) = (driver.side_at_end(), driver.taints(), driver.emulation());
            let probes = driver.into_checked().into_iter().flat_map(|checked| checked.probes).collect();
            let (provoked, first_failed, owed) = (Vec::new(), None, None);
            let verdict = judge(&Evidence {
                phase,
                first_failed,
                stop,
                side,
                probes,
                owed,
                findings,
                provoked,
                taints,
                emulation,
            });
            SessionEnd::Ended(verdict.outcome, verdict.title)
        }
    }
}

/// How long ticks may be missing before the user is taken to have left the kernel; a busy host must not reach it.
const SILENCE: Duration = Duration::from_secs(2);

impl BootDriver<'_> {
    /// Hands the guest to the session if it opens before this step; the boot then makes no further steps. There is no
    /// deadline.
    pub(super) async fn interactive(
        &mut self,
        step: &BootStep,
        guest: &dyn Guest,
        line: &Line<'_>,
    ) -> Result<(), Stop> {
        let Some(visit) = self.host.person.visit.as_ref().filter(|visit| visit.before == step.phase) else {
            return Ok(());
        };
        let agent = || Stop::Host("this guest does not accept interactive sessions".to_owned());
        // The user may kexec from the source.
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

    /// Runs the session in one kernel. Returns the next guest if the user has left the kernel with a kexec.
    async fn lead(
        &self,
        visit: SessionFuture<'_>,
        onward: Option<&Line<'_>>,
    ) -> Result<Option<(Rc<dyn Guest>, Hello)>, Stop> {
        let machine = self.machine()?;
        let ticks = self.ticks.last();
        let link = RefCell::new(Link::default());
        // A kernel that is left does not close its connection; the next kernel's console shows it.
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
                // The end of the machine, or the kexec, says more than the end of the connection.
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
