//! Injects faults that end a process or a kernel, or change preserved state.

use super::fault::{Fault, Victim, deceives_guest, flipped};
use crate::judge::Stop;
use crate::lab::{Guest, Machine};
use luqual_model::Phase;
use luqual_protocol::{Located, Reply, Request};
use luqual_vm::Ram;

/// Flips a bit of the preserved state through the RAM file, or changes the state of a virtual machine, if that is the
/// fault. Returns the guest's reply if the guest could not do it.
pub(crate) async fn into_preserved(
    fault: &Fault,
    workload: &str,
    ram: &Ram,
    guest: &dyn Guest,
) -> Result<Option<Reply>, Stop> {
    let workload = || workload.to_owned();
    if let Fault::Machine(item) = *fault {
        let reply = guest.ask(&Request::Inject { workload: workload(), item }).await.map_err(Stop::Agent)?;
        return Ok(Some(reply).filter(|reply| !matches!(reply, Reply::Done { .. })));
    }
    if let Fault::Guest { .. } = fault {
        let Some(request) = fault.request(&workload()) else { return Ok(None) };
        return match guest.ask(&request).await.map_err(Stop::Agent)? {
            Reply::Done { .. } => Ok(None),
            // Without the fault, the cell says nothing.
            reply => Err(Stop::Host(format!("`{fault}` was not injected: {reply:?}"))),
        };
    }
    let Some((place, offset)) = flipped(fault) else { return Ok(None) };
    let request = Request::Locate { workload: workload(), place: place.clone() };
    let address = match guest.ask(&request).await.map_err(Stop::Agent)? {
        Reply::Located(Located { address: Some(address) }) => address + offset,
        Reply::Located(Located { address: None }) => {
            let workload = workload();
            return Err(Stop::Requirement(format!("{workload} has no {place} into which a fault could be injected")));
        }
        reply => return Ok(Some(reply)),
    };
    let mut byte = [0];
    ram.read(address, &mut byte).map_err(Stop::host("the RAM file"))?;
    ram.write(address, &[byte[0] ^ 1]).map_err(Stop::host("the RAM file"))?;
    Ok(None)
}

/// Makes the guest's comparisons of contents find nothing, if that is the fault.
pub(crate) async fn deceive(fault: Option<&Fault>, guest: &dyn Guest) -> Result<(), Stop> {
    if !deceives_guest(fault) {
        return Ok(());
    }
    guest.inject("deceive").await.map_err(|why| Stop::Host(format!("`deceive` was not injected: {why}")))
}

/// Ends a process or a kernel, if that is the fault and its phase has come; also an error if it could not be
/// injected. A guest that ends may not be able to reply, so the caller has to race this with the machine's end.
pub(crate) async fn end(
    fault: Option<&Fault>,
    now: Phase,
    machine: &dyn Machine,
    guest: Option<&dyn Guest>,
) -> Result<(), Stop> {
    let role = match fault {
        Some(Fault::Kill { victim: Victim::Qemu, phase }) if *phase == now => {
            machine.kill();
            return Err(Stop::Machine(machine.wait_end().await));
        }
        Some(Fault::Stop { phase }) if *phase == now => {
            machine.stop();
            return Ok(());
        }
        Some(Fault::Kill { victim: Victim::Agent, phase }) if *phase == now => "kill serve",
        Some(Fault::Kill { victim: Victim::Holder, phase }) if *phase == now => "kill hold",
        Some(Fault::Kernel { end, phase }) if *phase == now => end.word(),
        Some(Fault::OomKill { phase, is_unseen: false }) if *phase == now => "oom",
        Some(Fault::OomKill { phase, is_unseen: true }) if *phase == now => "oom-unseen",
        _ => return Ok(()),
    };
    // Without the fault, the cell says nothing.
    let not_injected = |why: &str| Stop::Host(format!("`{role}` was not injected: {why}"));
    match guest {
        Some(guest) => guest.inject(role).await.map_err(|why| not_injected(&why)),
        None => Err(not_injected("the host has no connection to the guest")),
    }
}

/// Kills QEMU at its first console output, if that is the fault; otherwise pending for ever.
pub(crate) async fn kill_when_it_speaks(machine: &dyn Machine, fault: Option<&Fault>) {
    if !matches!(fault, Some(Fault::Kill { victim: Victim::Qemu, phase: Phase::Boot })) {
        return std::future::pending().await;
    }
    machine.console().spoke().await;
    machine.kill();
}
