//! Replies other than `Done`, and the check whether a source that refused has kept its state.

use super::connect::ask;
use super::driver::BootDriver;
use super::guard::Watched;
use crate::judge::Stop;
use crate::lab::Guest;
use luqual_model::{Capability, KernelInfo, Phase, Refusal, Side};
use luqual_protocol::{Next, NotDone, Reply, Request};

impl BootDriver<'_> {
    /// The stop that follows from a reply other than `Done`.
    pub(super) async fn not_done(&self, phase: Phase, reply: Reply, next: Next, guest: &dyn Guest) -> Stop {
        let intact = match next {
            Next::LookAgain(requests) => match self.is_intact(&requests, guest).await {
                Ok(intact) => intact,
                // The end of the machine or of the run during this check is the stop.
                Err(stop) => return stop,
            },
            Next::GoOn | Next::Stop => Ok(()),
        };
        if self.host.deterministic
            && let Ok(machine) = self.machine()
        {
            // A guest without a connection writes its remaining replies, and powers its machine off by itself.
            let end = async { Ok(machine.wait_end().await) };
            let _ = self.guard.within(Phase::Teardown, Watched::default(), end).await;
        }
        match reply {
            Reply::NotDone { why, .. } => match why {
                NotDone::Refused { call, errno, about } => {
                    let side = self.side_in(phase);
                    Stop::Refused { refused: Refusal { call, errno, about }, side, intact }
                }
                // Preserve is the first that a workload is asked for.
                NotDone::Missing { what } if phase == Phase::Preserve && self.hop == 0 => Stop::Requirement(what),
                NotDone::Missing { what } => Stop::Lacks { what, side: self.side_in(phase) },
                NotDone::Failed { message } => Stop::Agent(message),
            },
            other => Stop::Agent(format!("the agent sent a reply of the wrong kind: {other:?}")),
        }
    }

    /// Checks after a refusal whether the source still has its state. The inner error says what was lost; `Err` is
    /// another stop, which replaces the refusal.
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

/// Whether the reply of a repeated verify says that the state is intact; an error says what is not.
fn says_intact(reply: Reply) -> Result<(), String> {
    let Reply::Done { said, .. } = reply else { return Err(format!("{reply:?}")) };
    match said.probes.iter().find(|probe| !probe.passed) {
        Some(probe) => Err(format!("{}: expected {}, observed {}", probe.name, probe.expected, probe.observed)),
        None => Ok(()),
    }
}

/// The stop for a source without /dev/liveupdate. If the source is built with LUO, this is a refusal.
pub(super) fn no_luo_device(source: &KernelInfo) -> Stop {
    if source.capabilities.as_ref().is_some_and(|there| there.contains(&Capability::Luo)) {
        let about = "/dev/liveupdate, though the kernel is built with LUO".to_owned();
        let refused = Refusal { call: "open".to_owned(), errno: "ENOENT".to_owned(), about };
        return Stop::Refused { refused, side: Side::Source, intact: Ok(()) };
    }
    Stop::Requirement(format!("the source {} has no /dev/liveupdate (LUO)", source.name))
}
