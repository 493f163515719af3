//! Faults that are planted in a boot while it runs.

use super::{Run, host, no_machine};
use crate::evidence::Stop;
use crate::fault::{Fault, Victim};
use crate::reach::ask;
use luqual_guest::Agent;
use luqual_model::Phase;
use luqual_protocol::{Located, Place, Reply, Request};
use luqual_vm::Machine;

impl Run<'_> {
    /// A planted flip, between preserve and kexec.
    pub(super) async fn flip(&self, agent: &Agent) -> Result<(), Stop> {
        let (place, offset) = match &self.host.plant {
            Some(Fault::Flip { memfd, page, offset }) => (Place::Memfd { memfd: memfd.clone(), page: *page }, *offset),
            Some(Fault::FlipUnpreserved) => (Place::Unpreserved, 0),
            Some(Fault::Kill { .. }) | None => return Ok(()),
        };
        // Where a fault is planted, every cell has a boot of its own.
        let workload = self.boot.parts.first().map_or_else(String::new, |part| part.workload.name.to_owned());
        let request = Request::Locate { workload: workload.clone(), place: place.clone() };
        let address = match ask(agent, &request).await? {
            Reply::Located(Located { address: Some(address) }) => address + offset,
            Reply::Located(Located { address: None }) => {
                return Err(Stop::Requirement(format!("{workload} has no {place} in which a fault could be planted")));
            }
            reply => return Err(self.not_done(Phase::Preserve, reply, agent, 1).await),
        };
        let ram = self.machine.as_ref().ok_or_else(no_machine)?.ram();
        let mut byte = [0];
        ram.read(address, &mut byte).map_err(host("the RAM file"))?;
        ram.write(address, &[byte[0] ^ 1]).map_err(host("the RAM file"))
    }
}

pub(super) async fn plant_kill(plant: Option<&Fault>, now: Phase, machine: &Machine, agent: Option<&Agent>) {
    match (plant, agent) {
        (Some(Fault::Kill { victim: Victim::Qemu, phase }), _) if *phase == now => machine.kill(),
        (Some(Fault::Kill { victim: Victim::Agent, phase }), Some(agent)) if *phase == now => {
            agent.kill_role("serve").await;
        }
        (Some(Fault::Kill { victim: Victim::Holder, phase }), Some(agent)) if *phase == now => {
            agent.kill_role("hold").await;
        }
        _ => {}
    }
}

/// Pending for ever unless QEMU is to be killed while it boots.
pub(super) async fn kill_when_it_speaks(machine: &Machine, plant: Option<&Fault>) {
    if !matches!(plant, Some(Fault::Kill { victim: Victim::Qemu, phase: Phase::Boot })) {
        return std::future::pending().await;
    }
    machine.console().spoke().await;
    machine.kill();
}
