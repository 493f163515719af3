//! The steps of a boot, as one list. Guests with a connection and guests without one go through the same list. Pure.

use super::identity::Identity;
use super::kexec_images::{image_for_hop, images_in_guest};
use super::{Boot, BootCell};
use crate::inject::{Fault, InjectionPoint};
use crate::observe::Look;
use crate::seed;
use luqual_config::Deadlines;
use luqual_model::Phase;
use luqual_protocol::{Kernel, LoadTime, Moment, Request, Unplug, VERSION};
use luqual_vm::Mode;
use std::time::Duration;

/// One step of a boot. The start is not a step, since no guest exists yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BootStep {
    /// The phase that it belongs to.
    pub(super) phase: Phase,
    /// The number of kexecs before it.
    pub(super) hop: u32,
    /// The part of the step; `None` for all parts.
    pub(super) part: Option<usize>,
    /// The action.
    pub(super) act: Act,
}

/// The action of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The first handshake, and the one after each kexec, which proves the identity of the next kernel.
    Handshake,
    /// A request to the guest, with a reply.
    Ask(Request),
    /// The kexec request; only a kernel that refuses replies.
    Kexec,
    /// Waits a random time from the seed, if the boot waits at all.
    Jitter(u32),
    /// Unplugs the devices that are due.
    Unplug(Unplug),
    /// Injects a fault into the preserved state.
    Inject(Moment),
    /// Injects a fault into a device.
    InjectIntoDevice(InjectionPoint),
    /// Makes the guest's comparisons find nothing, if that is the fault.
    Deceive,
    /// Compares the preserved memory with its content, from the host.
    CompareMemory(Look),
    /// Copies the log of the kernel that runs to the host.
    Collect,
}

impl BootStep {
    /// The request of the step, if it has one.
    pub(super) fn request(&self) -> Option<Request> {
        match &self.act {
            Act::Handshake => Some(Request::Hello { protocol: VERSION }),
            Act::Ask(request) => Some(request.clone()),
            Act::Kexec => Some(Request::Kexec),
            Act::Collect => Some(Request::KernelLog),
            Act::Jitter(_) | Act::Unplug(_) | Act::Inject(_) | Act::InjectIntoDevice(_) => None,
            Act::Deceive | Act::CompareMemory(_) => None,
        }
    }
}

/// All steps of a boot, in order. `identities` has the identity of each kernel, from the first source on.
pub(super) fn steps(
    boot: &Boot<'_>,
    seed: u64,
    identities: &[Identity<'_>],
    mode: Mode,
    deadlines: &Deadlines,
) -> Vec<BootStep> {
    let update = boot.update();
    let mut list = List { boot, deadlines, steps: Vec::new() };
    list.add(Phase::Handshake, 0, Act::Handshake);
    for (hop, identity) in (1..=update.hops).zip(identities.iter().skip(1)) {
        let before = hop - 1;
        let load = Act::Ask(load_request(boot, hop, identity, mode));
        let is_first = before == 0;
        if update.load == LoadTime::BeforePreserve {
            list.add(Phase::Load, before, load.clone());
        }
        list.add(Phase::Preserve, before, Act::Jitter(0));
        if is_first {
            list.add(Phase::Preserve, before, Act::InjectIntoDevice(InjectionPoint::Unused));
        }
        list.each(Phase::Preserve, before, |name, limit_s| Request::Preserve {
            workload: name.to_owned(),
            seed: seed::of_content(seed, name),
            device: None,
            limit_s,
        });
        if is_first {
            list.add(Phase::Preserve, before, Act::Unplug(Unplug::WhilePreserved));
        }
        list.add(Phase::Preserve, before, Act::Inject(Moment::Preserved));
        list.add(Phase::Preserve, before, Act::Jitter(1));
        if update.load == LoadTime::AfterPreserve {
            list.add(Phase::Load, before, load);
        }
        // Of the phase that is done last before the kexec, whose own time is measured.
        list.add(Phase::Load, before, Act::Collect);
        // No workload writes what it keeps after it is preserved, so this is its memory at the kexec.
        list.add(Phase::Load, before, Act::CompareMemory(Look::BeforeKexec));
        list.add(Phase::Load, before, Act::Inject(Moment::Loaded));
        list.add(Phase::Kexec, before, Act::Kexec);
        if is_first {
            list.add(Phase::Reconnect, before, Act::InjectIntoDevice(InjectionPoint::Blackout));
        }
        list.add(Phase::Reconnect, hop, Act::Handshake);
        // The next kernel has proved itself, and its agent has not touched anything that was preserved.
        list.add(Phase::Retrieve, hop, Act::CompareMemory(Look::AfterKexec));
        list.add(Phase::Retrieve, hop, Act::Inject(Moment::Arrived));
        list.each(Phase::Retrieve, hop, |name, _| Request::Retrieve {
            workload: name.to_owned(),
            seed: seed::of_content(seed, name),
            hop,
            device: None,
        });
        list.add(Phase::Verify, hop, Act::InjectIntoDevice(InjectionPoint::Taken));
        list.add(Phase::Verify, hop, Act::Deceive);
        list.add(Phase::Verify, hop, Act::Inject(Moment::Retrieved));
        list.each(Phase::Verify, hop, |name, limit_s| Request::Verify { workload: name.to_owned(), limit_s });
        list.each(Phase::Finish, hop, |name, _| Request::Finish { workload: name.to_owned() });
        list.add(Phase::Finish, hop, Act::Unplug(Unplug::Afterwards));
    }
    list.add(Phase::Collect, update.hops, Act::Collect);
    list.steps
}

/// The request that loads the kernel for the kexec after `hop` kexecs.
pub(super) fn load_request(boot: &Boot<'_>, hop: u32, next: &Identity<'_>, mode: Mode) -> Request {
    let (hops, is_one) = (boot.update().hops, boot.is_one());
    let command_line = next.command_line(mode);
    Request::Load { kernel: image_for_hop(hop, is_one), carry: images_in_guest(hop, hops, is_one), command_line }
}

/// The requests for a guest without a connection, one in each line. Such a guest injects the fault by itself.
pub(super) fn requests(steps: &[BootStep], fault: Option<&Fault>) -> Result<String, serde_json::Error> {
    let panics_in = fault.and_then(Fault::panics_in);
    let mut is_to_panic = panics_in.is_some();
    let mut text = String::new();
    let mut add = |request: &Request| serde_json::to_string(request).map(|line| text.extend([line.as_str(), "\n"]));
    for step in steps {
        if is_to_panic && Some(step.phase) == panics_in && step.request().is_some() {
            add(&Request::Panic)?;
            is_to_panic = false;
        }
        match fault_request(step, steps, fault) {
            Some(request) => add(&request)?,
            None => step.request().iter().try_for_each(&mut add)?,
        }
    }
    Ok(text)
}

/// The request that injects the fault, for a guest without a connection, in the step in which the host would do it.
pub(super) fn fault_request(step: &BootStep, steps: &[BootStep], fault: Option<&Fault>) -> Option<Request> {
    let Act::Inject(moment) = step.act else { return None };
    let fault = fault.filter(|fault| fault.is_due(moment, step.hop))?;
    let workload = steps.iter().find_map(|step| step.request()?.workload().map(str::to_owned))?;
    fault.request(&workload)
}

/// Loads the source where the target has to be loaded.
pub(super) fn load_wrong_kernel(steps: &mut [BootStep]) {
    for step in steps {
        if let Act::Ask(Request::Load { kernel: kernel @ Kernel::Target, .. }) = &mut step.act {
            *kernel = Kernel::Source;
        }
    }
}

struct List<'a> {
    boot: &'a Boot<'a>,
    deadlines: &'a Deadlines,
    steps: Vec<BootStep>,
}

impl List<'_> {
    fn add(&mut self, phase: Phase, hop: u32, act: Act) {
        self.steps.push(BootStep { phase, hop, part: None, act });
    }

    /// Adds a step for each part. `request` gets the name of the workload, and how long its program may run in this
    /// phase, in seconds, if it has one.
    fn each(&mut self, phase: Phase, hop: u32, request: impl Fn(&str, Option<u64>) -> Request) {
        let limit_s = program_limit(self.deadlines.of(phase));
        let of = |(number, part): (usize, &BootCell<'_>)| {
            let act = Act::Ask(request(part.workload.name, part.program.map(|_| limit_s)));
            BootStep { phase, hop, part: Some(number), act }
        };
        self.steps.extend(self.boot.parts.iter().enumerate().map(of));
    }
}

/// How long a program may run in a phase with that deadline, in seconds: a little less, so that the agent can still
/// kill it, read its output and reply.
fn program_limit(deadline: Duration) -> u64 {
    let seconds = deadline.as_secs();
    (seconds - (seconds / 6).min(5)).max(1)
}

#[cfg(test)]
mod tests;
