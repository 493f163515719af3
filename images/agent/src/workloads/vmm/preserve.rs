//! The source: each machine is paused and saved, and its memory and state are preserved.

use super::control_plane::ControlPlane;
use super::memory::check_memory_freed;
use super::spec::{KVM_DESCRIPTORS, Kill, MANIFEST_TOKEN, Stage, Victim, first_token};
use super::vm::{COUNTED, COUNTER, Vm};
use crate::channel::DONE;
use crate::tsc;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::manifest::{self, Manifest};
use luqual_program::ACCOUNTS;
use luqual_protocol::PausedMachine;
use rustix::fd::OwnedFd;
use std::time::Instant;

type Done = Result<(), StepError>;

/// Pauses and saves each machine, and preserves its memory and state.
pub(super) fn preserve(context: &mut Context) -> Done {
    let spec = context.vm_spec();
    let mut control_plane =
        context.control_plane.take().ok_or_else(|| StepError::Agent("the control plane was not started".to_owned()))?;
    // /dev/liveupdate opens once at a time. From here on the broker has it.
    context.close_device();
    control_plane.create_session()?;
    let mut all = std::mem::take(&mut context.vms);
    let mut handover = Handover::default();
    for stage in Stage::SOURCE {
        handover.bring(stage, &control_plane, &all)?;
        let Some(Kill { victim, .. }) = spec.kill.filter(|kill| kill.stage == stage) else { continue };
        match victim {
            Victim::Broker => control_plane.replace_broker()?,
            Victim::Orchestrator => {
                control_plane.replace_orchestrator(all.iter().map(|it| (it.number, &it.monitor)))?
            }
            Victim::Monitor => {
                kill_last_monitor(context, &mut all)?;
                continue;
            }
        }
        for stage in Stage::SOURCE.into_iter().take_while(|before| *before <= stage) {
            handover.bring(stage, &control_plane, &all)?;
        }
    }
    if let Some(state) = handover.state {
        context.hold("state", state);
    }
    let session = context.session("control")?;
    manifest::preserve(context, &session, MANIFEST_TOKEN, &handover.notes)?;
    if let Some((account, holding, paused)) = handover.first {
        let us = |since: Instant| since.elapsed().as_micros() as u64;
        let holds = spec.system.holds();
        context.report_paused(PausedMachine { account, held_us: us(holding), paused_us: us(paused), holds });
    }
    (context.vms, context.control_plane) = (all, Some(control_plane));
    Ok(())
}

/// What is noted while the machines are brought to a stop.
#[derive(Default)]
struct Handover {
    notes: Manifest,
    /// Of the first machine: the physical address of its account, when it held, and when it was paused.
    first: Option<(u64, Instant, Instant)>,
    /// The saved state of the first machine, for a fault that is injected into it.
    state: Option<OwnedFd>,
}

impl Handover {
    /// Brings all machines to a stage.
    fn bring(&mut self, stage: Stage, control_plane: &ControlPlane, all: &[Vm]) -> Done {
        for vm in all {
            if stage == Stage::Paused && vm.holds() && !vm.is_held() && !(0..vm.cpus).all(|cpu| vm.hold(cpu)) {
                return Err(StepError::Agent(format!("the {} did not pause: {}", vm.name, vm.summary())));
            }
            // Read before the pause, as the host counts too: on a busy host the saving takes a second.
            let (held, holding) = (tsc::read(), Instant::now());
            let answer = control_plane.bring_to(stage, vm.number)?;
            match stage {
                _ if answer == DONE => {}
                Stage::Preserved => {
                    let (call, (what, how)) =
                        ("ioctl LIVEUPDATE_SESSION_PRESERVE_FD", answer.split_once(": ").unwrap_or(("", &answer)));
                    let (call, how) = (call.to_owned(), how.to_owned());
                    return Err(StepError::Declined { call, how, about: format!("memfd {what}") });
                }
                _ => return Err(StepError::Agent(format!("{}: the {}: {answer}", stage.name(), vm.name))),
            }
            if stage == Stage::Preserved && vm.number == 0 {
                self.state = Some(vm.get_fd("state")?);
            }
            // A machine that was paused before, by a process that was then killed, keeps its first notes.
            if stage != Stage::Paused || self.notes.contains_key(&vm.note(COUNTER, 0)) {
                continue;
            }
            let paused = Instant::now();
            self.notes.insert(vm.note(COUNTER, 0), held.to_string());
            for cpu in 0..vm.cpus {
                for (what, word) in COUNTED {
                    self.notes.insert(vm.note(what, cpu), vm.word(cpu, word).to_string());
                }
            }
            if vm.number == 0 {
                let account = vm.memory.physical_address(ACCOUNTS as usize);
                let account = account.map_err(StepError::agent("the address of the account"))?;
                self.first = Some((account, holding, paused));
            }
        }
        Ok(())
    }
}

/// Kills the last machine's monitor. If nothing else holds its memory, a probe says whether that is free again.
fn kill_last_monitor(context: &mut Context, all: &mut Vec<Vm>) -> Done {
    let Some(Vm { name, monitor, memory, .. }) = all.pop() else { return Ok(()) };
    drop(memory);
    let kill = |_: &mut Context| monitor.kill().map_err(StepError::Agent);
    if context.vm_spec().kills(Victim::Monitor, Stage::Ready) {
        check_memory_freed(context, &name, kill)
    } else {
        kill(context)
    }
}

/// The same, and tries to preserve KVM's own descriptors.
pub(super) fn preserve_with_kvm(context: &mut Context) -> Done {
    preserve(context)?;
    let Some(control_plane) = context.control_plane.take() else { return Ok(()) };
    for vm in std::mem::take(&mut context.vms) {
        for (name, token) in KVM_DESCRIPTORS {
            let answer = control_plane.preserve(&vm, name, first_token(vm.number) + token)?;
            context.check(format!("KVM {name} preserve"), DONE, answer);
        }
        context.vms.push(vm);
    }
    context.control_plane = Some(control_plane);
    Ok(())
}
