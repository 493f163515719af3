//! The target: new monitors restore the machines around the memory that each had, and let them run.

use super::control_plane::ControlPlane;
use super::memory::check_memory_freed;
use super::spec::{KVM_DESCRIPTORS, Kill, MEMORY, STATE, Stage, Victim, first_token};
use super::vm::{Vm, start_monitor};
use crate::channel::DONE;
use crate::errno::success_or_errno;
use crate::helper::Helper;
use crate::tsc;
use crate::vmm::orchestrator::SESSION;
use crate::wait::until;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use luqual_program::Word;

type Done = Result<(), StepError>;

/// Retrieves the session, starts new monitors, and brings the machines up to running. A program still holds then.
pub(super) fn restore(context: &mut Context) -> Done {
    let spec = context.vm_spec();
    let mut control_plane = ControlPlane::start(context.session_name(SESSION))?;
    context.close_device();
    let claimed = control_plane.claim()?;
    context.check(format!("session {SESSION} retrieve"), DONE, &claimed);
    if claimed != DONE {
        return Ok(());
    }
    let mut restoring = Restoring::default();
    for number in spec.surviving() {
        restoring.start(context, &control_plane, number)?;
    }
    for stage in Stage::TARGET {
        restoring.bring(context, &control_plane, stage, "")?;
        let Some(Kill { victim, .. }) = spec.kill.filter(|kill| kill.stage == stage) else { continue };
        match victim {
            Victim::Broker => control_plane.replace_broker()?,
            Victim::Orchestrator => {
                control_plane.replace_orchestrator(restoring.monitors.iter().map(|(number, it)| (*number, it)))?
            }
            Victim::Monitor => {
                let Some((number, monitor)) = restoring.monitors.pop() else { continue };
                monitor.kill().map_err(StepError::Agent)?;
                if stage == Stage::Running {
                    continue;
                }
                restoring.start(context, &control_plane, number)?;
            }
        }
        let again = format!(" after the {} was killed", victim.name());
        for stage in Stage::TARGET.into_iter().take_while(|before| *before <= stage) {
            restoring.bring(context, &control_plane, stage, &again)?;
        }
    }
    if spec.surviving().end < spec.count {
        for (name, token) in [("memory", MEMORY), ("state", STATE)] {
            let last = spec.count - 1;
            let of_it = format!("{} {name} after its monitor was killed", spec.name_of(last));
            context.check(of_it, "ENOENT", control_plane.retrieve(name, first_token(last) + token)?);
        }
    }
    for (number, monitor) in restoring.monitors {
        context.vms.push(Vm::new(number, spec, monitor)?);
    }
    // A Linux writes to its account only after its first look at the clocks, so a beat shows that it runs.
    for vm in context.vms.iter_mut().filter(|vm| !vm.holds()) {
        let then = vm.word(0, Word::Beat);
        until(vm.system.patience(), || vm.word(0, Word::Beat) != then);
        vm.running_since = tsc::read();
    }
    context.control_plane = Some(control_plane);
    Ok(())
}

/// Machines that are being restored.
#[derive(Default)]
struct Restoring {
    /// The monitors of those machines for which no stage has failed.
    monitors: Vec<(u64, Helper)>,
}

impl Restoring {
    /// Starts the monitor of a machine.
    fn start(&mut self, context: &mut Context, control_plane: &ControlPlane, number: u64) -> Done {
        match start_monitor() {
            Ok(monitor) => {
                control_plane.add_monitor(number, &monitor)?;
                self.monitors.push((number, monitor));
            }
            Err(StepError::Missing(why)) => {
                context.check(format!("{} restored", context.vm_spec().name_of(number)), DONE, why)
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Brings all machines to a stage, with a probe for each.
    fn bring(&mut self, context: &mut Context, control_plane: &ControlPlane, stage: Stage, again: &str) -> Done {
        for (number, monitor) in std::mem::take(&mut self.monitors) {
            let answer = control_plane.bring_to(stage, number)?;
            if stage != Stage::Claimed {
                let what = format!("{} {}{again}", context.vm_spec().name_of(number), stage.name());
                context.check(what, DONE, &answer);
            }
            if answer == DONE {
                self.monitors.push((number, monitor));
            }
        }
        Ok(())
    }
}

/// The same, and tries to retrieve KVM's own descriptors.
pub(super) fn restore_with_kvm(context: &mut Context) -> Done {
    restore(context)?;
    let Some(control_plane) = context.control_plane.take() else { return Ok(()) };
    for (name, token) in KVM_DESCRIPTORS {
        context.check(format!("KVM {name} retrieve"), DONE, control_plane.retrieve(name, first_token(0) + token)?);
    }
    context.control_plane = Some(control_plane);
    Ok(())
}

/// Finishes the session, and checks that the kernel has forgotten it.
pub(super) fn finish(context: &mut Context) -> Done {
    let Some(mut control_plane) = context.control_plane.take() else { return Ok(()) };
    let spec = context.vm_spec();
    let answer = if spec.kills(Victim::Monitor, Stage::Running) {
        // Only LUO still holds the memory of the machine whose monitor was killed.
        let name = spec.name_of(spec.count - 1);
        check_memory_freed(context, &name, |_| control_plane.finish(0..spec.count))?
    } else {
        control_plane.finish(0..spec.count)?
    };
    context.check(format!("session {SESSION} finish"), DONE, answer);
    context.control_plane = Some(control_plane);
    let again = context.device()?.retrieve_session(&context.session_name(SESSION));
    context.check(format!("session {SESSION} after finish"), "ENOENT", success_or_errno(&again, "still there"));
    Ok(())
}
