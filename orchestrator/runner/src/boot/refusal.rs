//! What a reply says that is not what was asked for; and whether a source that said no has kept what it had.

use super::connect::ask;
use super::driver::BootDriver;
use super::guard::Watched;
use crate::judge::Stop;
use crate::lab::Guest;
use luqual_model::{Phase, Refusal};
use luqual_protocol::{Next, Reply, Request};

impl BootDriver<'_> {
    /// What a reply says that is not what was asked for.
    pub(super) async fn not_done(&self, phase: Phase, reply: Reply, next: Next, guest: &dyn Guest) -> Stop {
        let intact = match next {
            Next::LookAgain(requests) => match self.is_intact(&requests, guest).await {
                Ok(intact) => intact,
                // A machine that ends, or a run that is ended, meanwhile is told as that.
                Err(stop) => return stop,
            },
            Next::GoOn | Next::Stop => Ok(()),
        };
        if self.host.deterministic
            && let Ok(machine) = self.machine()
        {
            // It says what it has to say, and powers its machine off: all of that is the boot's own.
            let end = async { Ok(machine.wait_end().await) };
            let _ = self.guard.within(Phase::Teardown, Watched::default(), end).await;
        }
        match reply {
            Reply::Refused { call, errno, about } => {
                let side = self.side_in(phase);
                Stop::Refused { refused: Refusal { call, errno, about }, side, intact }
            }
            Reply::Missing { what } => Stop::Requirement(what),
            Reply::Failed { message } => Stop::Agent(message),
            other => Stop::Agent(format!("the agent answered out of turn: {other:?}")),
        }
    }

    /// After a refusal: does the source still hold what it had? `Err` is a stop that says more than that.
    async fn is_intact(&self, requests: &[Request], guest: &dyn Guest) -> Result<Result<(), String>, Stop> {
        for request in requests {
            let asked = self.guard.within(Phase::Verify, self.watched(), ask(guest, request)).await;
            let intact = match asked {
                Ok(reply) => says_intact(reply),
                Err(Stop::Agent(why)) => Err(why),
                Err(Stop::Deadline { .. }) => Err("no answer".to_owned()),
                Err(stop) => return Err(stop),
            };
            if intact.is_err() {
                return Ok(intact);
            }
        }
        Ok(Ok(()))
    }
}

/// Whether a workload that was looked at once more, after something was refused, has all that it had.
fn says_intact(reply: Reply) -> Result<(), String> {
    let Reply::Done { said, .. } = reply else { return Err(format!("{reply:?}")) };
    match said.probes.iter().find(|probe| !probe.passed) {
        Some(probe) => Err(format!("{}: expected {}, observed {}", probe.name, probe.expected, probe.observed)),
        None => Ok(()),
    }
}
