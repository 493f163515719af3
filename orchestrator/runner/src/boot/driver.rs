//! Executes the steps of a boot.

use super::connect::{ask, hello};
use super::guard::{At, Guard, Watched};
use super::identity::Identity;
use super::part::Checked;
use super::refusal::no_luo_device;
use super::steps::{Act, BootStep, fault_request, load_request, load_wrong_kernel, steps};
use super::{Boot, Host};
use crate::inject::{self, Fault};
use crate::judge::Stop;
use crate::lab::{Guest, Machine};
use crate::observe::{Devices, LogReader, Memory, NestedVms, Ticks, blackout, observed};
use crate::seed;
use luqual_guest::{AgentLog, Keys};
use luqual_model::{Blackout, Emulation, Event, Phase, Probe, Side};
use luqual_protocol::{Hello, Moment, Next, NotDone, Progression, Reply, Request, Requirement, Said, Unplug, Workload};
use luqual_vm::Mode;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The longest random delay before and after preserve; the seed draws it.
const JITTER: Duration = Duration::from_millis(300);

/// How long replies of a guest without a connection are read after its machine has ended, since their file is polled.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A boot while it runs.
pub(super) struct BootDriver<'a> {
    pub(super) boot: &'a Boot<'a>,
    pub(super) host: &'a Host<'a>,
    pub(super) guard: Guard,
    pub(super) logs: PathBuf,
    pub(super) machine: Option<Box<dyn Machine>>,
    pub(super) seed: u64,
    /// The number of kexecs so far.
    pub(super) hop: u32,
    pub(super) progression: Progression,
    /// The results of each part, in the order of the boot's parts.
    pub(super) checked: Vec<Checked>,
    pub(super) kernels: Kernels,
    /// The ticks of each kernel that ran, if they are watched.
    pub(super) ticks: Vec<Ticks>,
    pub(super) devices: Devices,
    nested: NestedVms,
    pub(super) memory: Memory,
    /// The log of a kernel that is about to be left, by the number of kexecs before it.
    pub(super) late: Option<(u32, LogReader)>,
    /// The last kexec request; its kernel may still refuse it.
    pub(super) going: Option<Going>,
}

/// A kexec request, which only a kernel that refuses answers, with the guest that got it.
pub(super) struct Going {
    pub(super) guest: Rc<dyn Guest>,
    pub(super) reply: Pin<Box<dyn Future<Output = Reply>>>,
}

/// What the kernels of a boot reported of themselves, each by the number of kexecs before it. Nothing is overwritten.
#[derive(Default)]
pub(super) struct Kernels {
    /// The taint flags; those of a kernel that reported several times are added up.
    taints: Vec<u64>,
    /// The kernels' logs.
    pub(super) logs: Vec<(u32, Vec<String>)>,
}

impl Kernels {
    pub(super) fn add_taint(&mut self, hop: u32, taint: u64) {
        let place = hop as usize;
        self.taints.resize(self.taints.len().max(place + 1), 0);
        self.taints[place] |= taint;
    }
}

/// The means to connect to a guest.
pub(super) struct Line<'a> {
    pub(super) keys: &'a Keys,
    pub(super) log: AgentLog,
    /// The identity of each kernel, from the first source on.
    pub(super) identities: &'a [Identity<'a>],
}

impl<'a> BootDriver<'a> {
    pub(super) fn new(
        boot: &'a Boot<'a>,
        host: &'a Host<'a>,
        logs: PathBuf,
        earlier: usize,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Self {
        let id = boot.id();
        let count = boot.parts.len();
        Self {
            boot,
            host,
            seed: host.seed.of_attempt(&id, earlier),
            guard: Guard::new(id, events.clone(), host.deadlines.clone(), host.interrupt.clone()),
            logs,
            machine: None,
            hop: 0,
            progression: Progression::default(),
            checked: boot.parts.iter().map(|_| Checked::default()).collect(),
            kernels: Kernels::default(),
            ticks: Vec::new(),
            devices: Devices::of(count),
            nested: NestedVms::of(count),
            memory: Memory::of(count, !host.deterministic),
            late: None,
            going: None,
        }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The taint flags of each kernel, by the number of kexecs before it, without those that come from luqual's modules.
    pub(super) fn taints(&self) -> Vec<u64> {
        (0..).zip(&self.kernels.taints).map(|(hop, taint)| taint & !self.boot.taint_of_modules(hop)).collect()
    }

    /// The blackout of the first update.
    pub(super) fn blackout(&self) -> Option<Blackout> {
        match self.ticks.as_slice() {
            [source, target, ..] => blackout(source, target),
            _ => None,
        }
    }

    pub(super) fn into_checked(self) -> Vec<Checked> {
        self.checked
    }

    /// Executes all steps up to the last one that needs a guest, and returns why it stopped.
    pub(super) async fn run(&mut self) -> Stop {
        self.go().await.err().unwrap_or(Stop::Complete)
    }

    async fn go(&mut self) -> Result<(), Stop> {
        self.check_requirements()?;
        let boot = self.boot;
        let nonce = |hop: u32| match self.host.deterministic {
            true => seed::drawn(self.seed, &format!("nonce {hop}")),
            false => rand::random(),
        };
        let fault = self.host.fault.as_ref();
        let options = |hop| fault.map_or("", |fault| fault.options_after(hop));
        let identities: Vec<Identity<'_>> = (0..=boot.update().hops)
            .map(|hop| boot.identity(hop, nonce(hop), options(hop), &self.host.append))
            .collect();
        let mut steps = steps(boot, self.seed, &identities, self.mode(), &self.host.deadlines);
        if fault == Some(&Fault::WrongKernel) {
            load_wrong_kernel(&mut steps);
        }
        let keys = Keys::make().map_err(Stop::host("the keys of the VM"))?;
        let (mut guest, log) = self.start(&steps, &identities[0], &keys).await?;
        let line = Line { keys: &keys, log, identities: &identities };
        for step in &steps {
            if !self.leaves_out(step) {
                self.step(step, &steps, &mut guest, &line).await?;
            }
        }
        Ok(())
    }

    /// Whether to skip a step, since its update has failed. Steps without a request are skipped with the update that
    /// they belong to.
    fn leaves_out(&self, step: &BootStep) -> bool {
        let begins_an_update = step.phase.is_of_a_source() || step.hop > self.hop;
        match step.request() {
            Some(request) => self.progression.leaves_out(&request),
            None => begins_an_update && self.progression.leaves_out(&Request::Kexec),
        }
    }

    /// How the guest is run.
    pub(super) fn mode(&self) -> Mode {
        let lab = self.host.lab;
        self.boot.mode(lab.qemu(), lab.accel(), self.host.deterministic.then_some(self.seed))
    }

    /// What runs the guest.
    pub(super) fn emulation(&self) -> Emulation {
        self.mode().emulation(self.host.lab.qemu(), self.boot.profile)
    }

    /// The side of the kernel that runs.
    pub(super) fn side(&self) -> Side {
        Side::after(self.hop)
    }

    /// The side of a phase: a target that preserves for a further update acts as a source.
    pub(super) fn side_in(&self, phase: Phase) -> Side {
        if phase.is_of_a_source() { Side::Source } else { self.side() }
    }

    pub(super) fn machine(&self) -> Result<&dyn Machine, Stop> {
        self.machine.as_deref().ok_or_else(no_machine)
    }

    async fn step(
        &mut self,
        step: &BootStep,
        steps: &[BootStep],
        guest: &mut Rc<dyn Guest>,
        line: &Line<'_>,
    ) -> Result<(), Stop> {
        let BootStep { phase, hop, part, act } = step;
        // A boot for an interactive session without a workload sends no requests in the phases of workloads.
        if step.request().is_some() || self.boot.parts.is_empty() {
            self.interactive(step, &**guest, line).await?;
        }
        // Steps without a request continue though the machine has ended; the next phase reports the end.
        let unwatched = Watched::default();
        match act {
            Act::Handshake if *hop == 0 => {
                let at = At { phase: *phase, hop: 0, part: None };
                let guest_ = &**guest;
                let hello = self.guarded(at, Some(guest_), async { hello(guest_).await }).await?;
                let source = &line.identities[0];
                source.check(&hello).map_err(Stop::WrongKernel)?;
                self.kernels.add_taint(0, hello.taint);
                if self.boot.needs(Requirement::Luo) && !hello.liveupdate {
                    return Err(no_luo_device(source.kernel));
                }
                self.watch_ticks(&hello)?;
                let workloads = self.workloads();
                let machine = self.machine.as_deref().ok_or_else(no_machine)?;
                let found = self.devices.find(machine, self.boot.profile, &workloads);
                self.guard.within(Phase::Handshake, unwatched, found).await
            }
            Act::Handshake => {
                let hello;
                (*guest, hello) = self.reconnect(*hop, line).await?;
                self.arrived(*hop, &hello)?;
                self.add_late_log().map_err(Stop::Host)
            }
            Act::Ask(request) => match part {
                Some(number) => self.turn(step, *number, request, &**guest).await,
                None => {
                    let said = self.ask(step, request, &**guest).await?;
                    self.check_loaded(request, &said)
                }
            },
            Act::Kexec => {
                let (machine, started) = (self.machine.as_deref().ok_or_else(no_machine)?, self.guard.started());
                self.devices.send_frames(self.hop, machine, started)?;
                self.kexec(guest).await
            }
            Act::Jitter(which) => {
                // Shifts the next steps against the guest's own timers, when a cell is run several times to find rare
                // failures.
                if self.host.waits && !self.host.deterministic {
                    let wait = JITTER.mul_f64(seed::fraction(self.seed, *which));
                    let waited = async {
                        sleep(wait).await;
                        Ok(())
                    };
                    self.guard.within(*phase, unwatched, waited).await?;
                }
                Ok(())
            }
            Act::Unplug(when) => {
                self.unplug(*when, *phase).await?;
                if *when == Unplug::Afterwards {
                    self.leave_out_what_failed();
                }
                Ok(())
            }
            Act::Inject(moment) => {
                match fault_request(step, steps, self.host.fault.as_ref()).filter(|_| self.host.deterministic) {
                    // The guest injects the fault by itself.
                    Some(request) => self.ask(step, &request, &**guest).await.map(drop),
                    None => self.inject(*phase, *moment, &**guest).await,
                }
            }
            Act::InjectIntoDevice(moment) => {
                let machine = self.machine()?;
                let injected = inject::into_device(self.live_fault(), *moment, machine, self.devices.of_part(0));
                self.guard.within(*phase, unwatched, injected).await
            }
            Act::Deceive => match self.live_fault() {
                None => Ok(()),
                fault => self.guard.within(*phase, self.watched(), inject::deceive(fault, &**guest)).await,
            },
            Act::CompareMemory(moment) => self.compare_memory(*phase, *moment).await,
            Act::Collect if *phase == Phase::Collect => self.collect(step, &**guest).await,
            Act::Collect => self.collect_before_kexec(step, &**guest).await,
        }
    }

    /// At the end of an update, excludes the workloads that failed from the next kernel. A guest without a connection
    /// decides this by itself.
    fn leave_out_what_failed(&mut self) {
        let of_each = self.boot.parts.iter().zip(&self.checked);
        for (part, _) in of_each.filter(|(_, checked)| !self.host.deterministic && checked.first_failed.is_some()) {
            self.progression.leave_out(part.workload.name);
        }
    }

    fn workloads(&self) -> Vec<&'a Workload> {
        self.boot.parts.iter().map(|part| part.workload).collect()
    }

    pub(super) fn watch_ticks(&mut self, hello: &Hello) -> Result<(), Stop> {
        let watched = self.machine()?.watch_ticks(hello.tick_page);
        self.ticks.iter().for_each(Ticks::end);
        self.ticks.extend(watched);
        Ok(())
    }

    /// Records that the next kernel has proved its identity.
    pub(super) fn arrived(&mut self, hop: u32, hello: &Hello) -> Result<(), Stop> {
        self.hop = hop;
        self.kernels.add_taint(hop, hello.taint);
        self.machine()?.console().set_hop(hop);
        self.progression.begins_a_kernel();
        self.watch_ticks(hello)
    }

    /// The request that loads the next kernel.
    pub(super) fn load_request(&self, line: &Line<'_>) -> Option<Request> {
        let next = self.hop + 1;
        line.identities.get(next as usize).map(|identity| load_request(self.boot, next, identity, self.mode()))
    }

    /// Runs the request of one part in a phase.
    async fn turn(&mut self, step: &BootStep, number: usize, request: &Request, guest: &dyn Guest) -> Result<(), Stop> {
        let (phase, hop) = (step.phase, self.hop);
        let request = with_device(request.clone(), self.devices.address(number));
        if phase == Phase::Retrieve {
            let (machine, started) = (self.machine.as_deref().ok_or_else(no_machine)?, self.guard.started());
            let looked = self.devices.before_it_is_taken(number, hop, machine, started);
            self.guard.within(phase, Watched::default(), looked).await?;
        }
        let mut said = self.ask(step, &request, guest).await?;
        let pages = std::mem::take(&mut said.pages);
        let (now_us, started) = (self.guard.now_us(), self.guard.started());
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        if phase == Phase::Preserve {
            self.nested.paused(number, &said, machine.ram(), now_us, started)?;
        }
        let marked = self.devices.mark(number, (phase, hop), machine);
        self.guard.within(phase, Watched::default(), marked).await?;
        let of_device = self.devices.after(number, (phase, hop), &said, machine, started)?;
        self.add(number, of_device, phase);
        if phase == Phase::Verify {
            let seen = self.nested.went_on(number, &said, hop)?;
            self.checked[number].measures.extend(seen.measures);
            self.checked[number].vm_reports.extend(seen.vm_reports);
            self.add(number, seen.probes, phase);
        }
        let has_failed = said.probes.iter().any(|probe| !probe.passed);
        self.checked[number].take(said, phase, hop);
        self.watch_memory(number, &request, pages, has_failed)
    }

    /// Adds the host's probes of a part.
    pub(super) fn add(&mut self, number: usize, probes: Vec<Probe>, phase: Phase) {
        if probes.iter().any(|probe| !probe.passed) {
            self.progression.failed(self.boot.parts[number].workload.name);
        }
        self.checked[number].add(probes, phase);
    }

    /// Sends one request. After a refusal in a source, the state of the workloads is verified once more.
    async fn ask(&mut self, step: &BootStep, request: &Request, guest: &dyn Guest) -> Result<Said, Stop> {
        let at = At { phase: step.phase, hop: self.hop, part: step.part };
        let reply = self.guarded(at, Some(guest), ask(guest, request)).await?;
        match (self.progression.after(request, &reply), reply) {
            (Next::GoOn, Reply::Done { said, taint }) => {
                self.kernels.add_taint(self.hop, taint);
                Ok(said)
            }
            (next, mut reply) => {
                if let Reply::NotDone { said, taint, .. } = &mut reply {
                    self.kernels.add_taint(self.hop, *taint);
                    // What was found before the step ended counts.
                    if let Some(number) = step.part {
                        self.checked[number].take(std::mem::take(said), step.phase, self.hop);
                    }
                }
                Err(self.not_done(step.phase, reply, next, guest).await)
            }
        }
    }

    /// Unplugs the devices that `when` selects, and waits until they are gone.
    async fn unplug(&mut self, when: Unplug, phase: Phase) -> Result<(), Stop> {
        for (number, part) in self.boot.parts.iter().enumerate() {
            let Some(id) =
                self.devices.of_part(number).map(|it| it.name()).filter(|_| part.workload.unplug == Some(when))
            else {
                continue;
            };
            let machine = self.machine.as_deref().ok_or_else(no_machine)?;
            let watched = Watched::running(machine, self.ticks.last(), self.last_words());
            let at = At { phase, hop: self.hop, part: None };
            let is_gone = self.guard.phase(at, watched, Devices::unplug(machine, id)).await?;
            let observed = if is_gone { "gone" } else { "still there" };
            self.add(number, vec![Probe::compare("D0 host: after it was unplugged", "gone", observed)], phase);
        }
        Ok(())
    }

    /// Injects a fault into the preserved state of the first part, if it is due; a boot with an injected fault has
    /// only one cell.
    async fn inject(&self, phase: Phase, moment: Moment, guest: &dyn Guest) -> Result<(), Stop> {
        let fault = self.live_fault().filter(|fault| fault.is_due(moment, self.hop));
        let (Some(fault), Some(part)) = (fault, self.boot.parts.first()) else { return Ok(()) };
        let machine = self.machine()?;
        let watched = self.watched();
        let injected = inject::into_preserved(fault, part.workload.name, machine.ram(), guest);
        match self.guard.within(phase, watched, injected).await? {
            None => Ok(()),
            Some(reply) => {
                let next = match reply {
                    Reply::NotDone { why: NotDone::Refused { .. }, .. } => Next::LookAgain(self.progression.verified()),
                    _ => Next::Stop,
                };
                Err(self.not_done(phase, reply, next, guest).await)
            }
        }
    }

    /// Adds the host view of each part's device, after the machine has ended.
    pub(super) async fn host_views(&mut self) {
        let guest: Vec<&[Probe]> = self.checked.iter().map(|checked| checked.probes.as_slice()).collect();
        let views = observed(&self.devices, self.boot.profile, &guest, self.ticks.first(), &self.logs).await;
        for (checked, view) in self.checked.iter_mut().zip(views) {
            crate::observe::overrule(&mut checked.probes, &view.probes);
            checked.add(view.probes, Phase::Retrieve);
            checked.frames = view.frames;
            if let Some(deaf) = view.deaf {
                checked.is_deaf(deaf);
            }
        }
    }

    /// What a wait for the guest is raced with while nothing is known of its ticks.
    pub(super) fn watched(&self) -> Watched<'_> {
        Watched { machine: self.machine.as_deref(), last_words: self.last_words(), ..Watched::default() }
    }

    pub(super) fn last_words(&self) -> Duration {
        if self.host.deterministic { LAST_ANSWERS } else { Duration::ZERO }
    }

    /// The fault that the host injects; `None` for a guest without a connection, which injects its fault itself.
    pub(super) fn live_fault(&self) -> Option<&'a Fault> {
        self.host.fault.as_ref().filter(|_| !self.host.deterministic)
    }

    /// Runs a phase that needs the guest, and first injects the end of a process or kernel, if that is the fault.
    async fn guarded<T>(
        &mut self,
        at: At,
        guest: Option<&dyn Guest>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let fault = self.live_fault();
        let watched = Watched::running(machine, self.ticks.get(self.hop as usize), self.last_words());
        let body = async {
            inject::end(fault, at.phase, machine, guest).await?;
            body.await
        };
        self.guard.phase(at, watched, body).await
    }
}

/// Adds the PCI address of the workload's device to a request.
fn with_device(request: Request, address: Option<String>) -> Request {
    match request {
        Request::Preserve { workload, seed, limit_s, .. } => {
            Request::Preserve { workload, seed, device: address, limit_s }
        }
        Request::Retrieve { workload, seed, hop, .. } => Request::Retrieve { workload, seed, hop, device: address },
        other => other,
    }
}

pub(super) fn no_machine() -> Stop {
    Stop::Host("the machine has ended".to_owned())
}

#[cfg(test)]
mod tests;
