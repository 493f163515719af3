//! One boot, from the start of its source to the end of its machine, and the cells that are run in it.

use crate::attempts::Attempts;
use crate::dispatch::folder_of;
use crate::evidence::{Evidence, Stop};
use crate::fault::{Fault, Victim};
use crate::need::ability;
use crate::reach::{Identity, ask, chain, hello, reach, reach_next};
use crate::recorder::Recorder;
use crate::seed;
use crate::ticks::{self, Ticks};
use crate::verdict::judge;
use luqual_config::Deadlines;
use luqual_guest::{Agent, AgentLog, Keys, Target, initramfs};
use luqual_model::{
    Ability, Blackout, CellId, CellRecord, Event, Finding, KernelInfo, Phase, Planned, Probe, Refused, Side, Status,
};
use luqual_protocol::{Hello, LoadTime, Located, Need, Place, Reply, Request, Update, Workload};
use luqual_vm::{Accel, Launch, Launcher, Machine, MachineEnd, Profile, Qemu, Scanner, WorkFolder};
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct BootKernel {
    /// What is known of it.
    pub info: KernelInfo,
    /// Its bzImage.
    pub image: PathBuf,
}

/// One life of a machine, and the cells that are run in it: one, or several that share it.
#[derive(Clone)]
pub struct Boot<'a> {
    /// The kernel before the kexec.
    pub source: &'a BootKernel,
    /// The kernel after it.
    pub target: &'a BootKernel,
    /// The machine.
    pub profile: &'a Profile,
    /// What runs in it; one at least.
    pub parts: Vec<Part<'a>>,
}

/// What one cell adds to a boot.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// What runs in the guest.
    pub workload: &'a Workload,
    /// The cell's name, and what is thought of it before.
    pub plan: &'a Planned,
}

impl Boot<'_> {
    /// How its update is made; all of its parts ask for the same.
    fn update(&self) -> Update {
        self.parts.first().map_or(Update::PLAIN, |part| part.workload.update)
    }

    /// The kernel that runs after so many kexecs.
    fn kernel(&self, hop: u32) -> &BootKernel {
        if hop.is_multiple_of(2) { self.source } else { self.target }
    }

    /// The same, with a new nonce.
    fn identity(&self, hop: u32) -> Identity<'_> {
        let Update { source_options, target_options, .. } = self.update();
        Identity::new(&self.kernel(hop).info, if hop == 0 { source_options } else { target_options })
    }

    /// Unique in a run: a lone cell's own, else that of the first with the number of the others, as in `…_memfd.basic+3`.
    pub fn id(&self) -> CellId {
        let first = self.parts.first().map_or_else(String::new, |part| part.plan.key.id().to_string());
        match self.parts.len() {
            0 | 1 => CellId(first),
            count => CellId(format!("{first}+{}", count - 1)),
        }
    }
}

/// What all cells of a run share.
pub struct Host<'a> {
    /// How QEMU is started.
    pub launcher: &'a Launcher,
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// What runs the guests' code.
    pub accel: Accel,
    /// Where machines have their files.
    pub work: &'a WorkFolder,
    /// The folder of the run.
    pub folder: &'a Path,
    /// How long phases may take here.
    pub deadlines: Deadlines,
    /// Whether RAM file and initramfs are copied into each cell's folder at its end.
    pub keep: bool,
    /// A fault to plant in each cell.
    pub plant: Option<Fault>,
    /// How often each cell is run.
    pub attempts: Attempts,
    /// What the seeds of all attempts are drawn from.
    pub seed: u64,
    /// Turns true when the user ends the run.
    pub interrupt: watch::Receiver<bool>,
}

/// Ticks that did not come for this long mean that the source is gone.
const SILENCE: Duration = Duration::from_millis(100);

/// Around preserve, a boot that is run several times waits for up to this long, by its seed.
const JITTER: Duration = Duration::from_millis(300);

/// Makes one attempt at a boot, of which `earlier` ones were made; `None` when the user ended the run before it was done.
pub(crate) async fn run_once(
    boot: &Boot<'_>,
    host: &Host<'_>,
    earlier: usize,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<Vec<CellRecord>> {
    let id = boot.id();
    let folder = folder(&id, earlier);
    let mut run = Run {
        boot,
        host,
        recorder: Recorder::new(id.clone(), events.clone(), host.deadlines.clone(), host.interrupt.clone()),
        logs: host.folder.join(&folder),
        work: None,
        machine: None,
        hop: 0,
        ticks: Vec::new(),
        seed: seed::of_attempt(host.seed, &id, earlier),
        checked: boot.parts.iter().map(|_| Checked::default()).collect(),
        source_taint: 0,
        target_taint: 0,
        kernel_log: Vec::new(),
        blackout: None,
    };
    let mut stop = run.sequence().await.err().unwrap_or(Stop::Complete);
    let (findings, late) = run.end(&stop).await;
    // A machine that ended after the last phase did not run on.
    if let (Stop::Complete, Some(end)) = (&stop, late) {
        stop = Stop::Machine(end);
    }
    if stop == Stop::Interrupted {
        return None;
    }
    for finding in &findings {
        let _ = events.send(Event::ConsoleFinding { cell: id.clone(), finding: finding.clone() });
    }
    let (duration_us, entered) = (run.recorder.now_us(), run.recorder.decided_in());
    let record = |(number, (part, checked)): (usize, (&Part<'_>, Checked))| {
        let evidence = Evidence {
            // What a probe said is decided where it was said, though the boot went on.
            phase: checked.first_broken.unwrap_or(entered),
            stop: stop.clone(),
            probes: checked.probes,
            findings: findings.clone(),
            source_taint: run.source_taint,
            target_taint: run.target_taint,
        };
        let verdict = judge(&evidence);
        let others = boot.parts.iter().enumerate().filter(|(other, _)| *other != number);
        CellRecord {
            id: part.plan.key.id(),
            plan: part.plan.clone(),
            outcome: verdict.outcome,
            status: Status::of(verdict.outcome, !verdict.tainted.is_empty(), part.plan.expectation.as_ref()),
            title: verdict.title,
            tainted: verdict.tainted,
            phase: evidence.phase,
            seed: run.seed,
            planted: host.plant.as_ref().map(ToString::to_string),
            duration_us,
            phases: run.recorder.phases_of(number),
            probes: evidence.probes,
            blackout: run.blackout,
            findings: evidence.findings,
            folder: folder.clone(),
            shared_with: others.map(|(_, part)| part.workload.name.to_owned()).collect(),
            attempts: Vec::new(),
        }
    };
    Some(boot.parts.iter().zip(run.checked).enumerate().map(record).collect())
}

/// Where the evidence of an attempt is, relative to the run's folder.
fn folder(boot: &CellId, earlier: usize) -> String {
    let folder = folder_of(boot);
    if earlier == 0 { folder } else { format!("{folder}/attempt-{}", earlier + 1) }
}

/// A boot while it runs.
struct Run<'a> {
    boot: &'a Boot<'a>,
    host: &'a Host<'a>,
    recorder: Recorder,
    logs: PathBuf,
    /// The machine's own files.
    work: Option<PathBuf>,
    machine: Option<Machine>,
    /// How many kexecs are behind it.
    hop: u32,
    /// Of each kernel that ran.
    ticks: Vec<Ticks>,
    seed: u64,
    /// In the order of the boot's parts.
    checked: Vec<Checked>,
    source_taint: u64,
    target_taint: u64,
    kernel_log: Vec<String>,
    blackout: Option<Blackout>,
}

/// What one part has said so far.
#[derive(Default)]
struct Checked {
    probes: Vec<Probe>,
    first_broken: Option<Phase>,
}

impl Run<'_> {
    /// All phases up to the last one that needs a guest. `Err` is where it stopped.
    async fn sequence(&mut self) -> Result<(), Stop> {
        self.check_requirements()?;
        let keys = Keys::make().map_err(host("the keys of the VM"))?;
        let source = self.boot.identity(0);

        let (agent, log) = self.boot(&source, &keys).await?;
        let hello = self.handshake(&agent, &source).await?;
        self.source_taint = hello.taint;
        let luo = self.boot.parts.iter().any(|part| part.workload.needs.contains(&Need::Luo));
        if luo && !hello.liveupdate {
            return Err(no_device(source.kernel));
        }
        self.watch_ticks(&hello)?;

        let (mut agent, mut now) = (agent, source);
        for hop in 1..=self.boot.update().hops {
            let next = self.boot.identity(hop);
            let hello;
            (agent, hello) = self.update(agent, &keys, &log, &now, &next).await?;
            self.hop = hop;
            self.target_taint = hello.taint;
            self.watch_ticks(&hello)?;
            self.each(Phase::Retrieve, &agent, |workload, seed| Request::Retrieve { workload, seed, hop }).await?;
            self.each(Phase::Verify, &agent, |workload, _| Request::Verify { workload }).await?;
            self.each(Phase::Finish, &agent, |workload, _| Request::Finish { workload }).await?;
            now = next;
        }
        self.blackout = match self.ticks.as_slice() {
            [source, target, ..] => ticks::blackout(source, target),
            _ => None,
        };
        self.collect(&agent).await
    }

    /// One update, from what is preserved to the handshake that proves the next kernel.
    async fn update(
        &mut self,
        agent: Agent,
        keys: &Keys,
        log: &AgentLog,
        now: &Identity<'_>,
        next: &Identity<'_>,
    ) -> Result<(Agent, Hello), Stop> {
        let load = Request::Load { command_line: next.command_line(self.host.accel) };
        let before = self.boot.update().load == LoadTime::BeforePreserve;
        if before {
            self.load(&agent, &load).await?;
        }
        self.jitter(0).await;
        self.each(Phase::Preserve, &agent, |workload, seed| Request::Preserve { workload, seed }).await?;
        if self.hop == 0 {
            self.flip(&agent).await?;
        }
        self.jitter(1).await;
        if !before {
            self.load(&agent, &load).await?;
        }
        self.kexec(agent, keys, log.clone(), now, next).await
    }

    fn watch_ticks(&mut self, hello: &Hello) -> Result<(), Stop> {
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        self.ticks.push(Ticks::watch(machine.ram().clone(), hello.tick_page, self.recorder.started()));
        Ok(())
    }

    /// Which of the two kernels runs.
    fn side(&self) -> Side {
        if self.hop == 0 { Side::Source } else { Side::Target }
    }

    /// What can be known to be absent before anything is started.
    fn check_requirements(&self) -> Result<(), Stop> {
        let Boot { source, parts, .. } = self.boot;
        for need in parts.iter().flat_map(|part| part.workload.needs) {
            let ability = ability(*need);
            if source.info.abilities.as_ref().is_some_and(|abilities| !abilities.contains(&ability)) {
                let name = &source.info.name;
                return Err(Stop::Requirement(format!("the source {name} is built without {ability}")));
            }
        }
        Ok(())
    }

    async fn boot(&mut self, source: &Identity<'_>, keys: &Keys) -> Result<(Agent, AgentLog), Stop> {
        let (boot, host_, logs, recorder) = (self.boot, self.host, &self.logs, &mut self.recorder);
        let started = recorder.started();
        let plant = host_.plant.clone();
        let (slot, work) = (&mut self.machine, &mut self.work);
        recorder
            .phase(Phase::Boot, 0, None, async {
                fs::create_dir_all(logs).map_err(host(logs.display()))?;
                let log = AgentLog::create(&logs.join("agent.jsonl"), started).map_err(host("agent.jsonl"))?;
                let folder = host_.work.cell(boot.profile.memory_mib).map_err(explained)?;
                let folder = work.insert(folder).as_path();
                let initrd = folder.join("initrd");
                let read = |kernel: &BootKernel| fs::read(&kernel.image).map_err(host(kernel.image.display()));
                // Each kernel's initramfs has the next one's in it.
                let mut archive = initramfs(keys, None, &[]).map_err(host("the last initramfs"))?;
                for hop in (1..=boot.update().hops).rev() {
                    let target = Target { kernel: &read(boot.kernel(hop))?, initrd: &archive };
                    archive = initramfs(keys, Some(&target), &[]).map_err(host("an initramfs"))?;
                }
                fs::write(&initrd, archive).map_err(host(initrd.display()))?;
                let launch = Launch {
                    profile: boot.profile,
                    accel: host_.accel,
                    kernel: &boot.source.image,
                    initrd: &initrd,
                    command_line: &source.command_line(host_.accel),
                    folder,
                };
                let machine = Machine::start(host_.launcher, host_.qemu, &launch, logs, started);
                let machine: &Machine = slot.insert(machine.await.map_err(explained)?);
                machine.resume().await.map_err(explained)?;
                tokio::select! {
                    end = machine.wait_end() => Err(Stop::Machine(end)),
                    agent = reach(machine, keys, &log, 1) => Ok((agent, log.clone())),
                    () = kill_when_it_speaks(machine, plant.as_ref()) => Err(Stop::Machine(machine.wait_end().await)),
                }
            })
            .await
    }

    async fn handshake(&mut self, agent: &Agent, source: &Identity<'_>) -> Result<Hello, Stop> {
        self.guarded(Phase::Handshake, Some(agent), async {
            let hello = hello(agent).await?;
            source.check(&hello).map_err(Stop::Stranger)?;
            Ok(hello)
        })
        .await
    }

    /// A phase in which each part has its turn.
    async fn each(
        &mut self,
        phase: Phase,
        agent: &Agent,
        request: impl Fn(String, u64) -> Request,
    ) -> Result<(), Stop> {
        for (number, part) in self.boot.parts.iter().enumerate() {
            let name = part.workload.name;
            let request = request(name.to_owned(), seed::of_content(self.seed, name));
            self.recorder.for_part(Some(number));
            let probes = self.step(phase, agent, &request, number + 1).await;
            self.recorder.for_part(None);
            let checked = &mut self.checked[number];
            checked.probes.extend(probes?.into_iter().map(|it| {
                let luqual_protocol::Probe { name, expected, observed, held } = it;
                Probe { name, expected, observed, held }
            }));
            if checked.first_broken.is_none() && checked.probes.iter().any(|probe| !probe.held) {
                checked.first_broken = Some(phase);
            }
        }
        Ok(())
    }

    async fn load(&mut self, agent: &Agent, request: &Request) -> Result<(), Stop> {
        // Loaded before anything is preserved, there is nothing to look at.
        let begun = if self.boot.update().load == LoadTime::BeforePreserve { 0 } else { self.boot.parts.len() };
        self.step(Phase::Load, agent, request, begun).await.map(drop)
    }

    /// One request to the agent. What was refused in the source is looked at once more: as many parts as have begun.
    async fn step(
        &mut self,
        phase: Phase,
        agent: &Agent,
        request: &Request,
        begun: usize,
    ) -> Result<Vec<luqual_protocol::Probe>, Stop> {
        let (probes, taint) = match self.guarded(phase, Some(agent), ask(agent, request)).await? {
            Reply::Done { probes, taint } => (probes, taint),
            reply => return Err(self.not_done(reply, agent, begun).await),
        };
        match self.side() {
            Side::Source => self.source_taint = taint,
            Side::Target => self.target_taint = taint,
        }
        Ok(probes)
    }

    async fn not_done(&self, reply: Reply, agent: &Agent, begun: usize) -> Stop {
        let side = self.side();
        match reply {
            Reply::Refused { call, errno, about } => {
                let intact = match side {
                    Side::Source => self.is_intact(agent, begun).await,
                    Side::Target => Ok(()),
                };
                Stop::Refused { refused: Refused { call, errno, about }, side, intact }
            }
            Reply::Missing { what } => Stop::Requirement(what),
            Reply::Failed { message } => Stop::Agent(message),
            other => Stop::Agent(format!("the agent answered out of turn: {other:?}")),
        }
    }

    /// After a refusal: does the source still hold what it had?
    async fn is_intact(&self, agent: &Agent, begun: usize) -> Result<(), String> {
        for part in self.boot.parts.iter().take(begun) {
            let request = Request::Verify { workload: part.workload.name.to_owned() };
            let asked = tokio::time::timeout(self.host.deadlines.of(Phase::Verify), agent.ask(&request)).await;
            let probes = match asked {
                Ok(Ok(Reply::Done { probes, .. })) => probes,
                Ok(Ok(reply)) => return Err(format!("{reply:?}")),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("no answer".to_owned()),
            };
            if let Some(probe) = probes.iter().find(|probe| !probe.held) {
                return Err(format!("{}: expected {}, observed {}", probe.name, probe.expected, probe.observed));
            }
        }
        Ok(())
    }

    /// From the request to leave to a handshake that proves the target.
    async fn kexec(
        &mut self,
        agent: Agent,
        keys: &Keys,
        log: AgentLog,
        now: &Identity<'_>,
        next: &Identity<'_>,
    ) -> Result<(Agent, Hello), Stop> {
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        let ticks = self.ticks.last().ok_or_else(no_machine)?;
        let hop = self.hop;
        let started = self.recorder.started();
        let plant = self.host.plant.as_ref();
        plant_kill(plant, Phase::Kexec, machine, Some(&agent)).await;
        // The call answers only when the source said no; it is listened to until the target has spoken.
        let mut going = pin!(async {
            match agent.ask(&Request::Kexec).await {
                Ok(reply) => reply,
                // The connection ends with the kernel that held it.
                Err(_) => std::future::pending().await,
            }
        });
        let mut refusal = None;
        let left = self
            .recorder
            .phase(Phase::Kexec, hop, Some((machine, Some(ticks))), async {
                tokio::select! {
                    end = machine.wait_end() => Err(Stop::Machine(end)),
                    reply = &mut going => Ok(Some(reply)),
                    () = ticks.stopped(started, SILENCE) => Ok(None),
                }
            })
            .await?;
        if let Some(reply) = left {
            refusal = Some(reply);
        }
        let reached = if refusal.is_some() {
            None
        } else {
            plant_kill(plant, Phase::Reconnect, machine, None).await;
            self.recorder
                .phase(Phase::Reconnect, hop + 1, Some((machine, None)), async {
                    tokio::select! {
                        end = machine.wait_end() => Err(Stop::Machine(end)),
                        reply = &mut going => { refusal = Some(reply); Ok(None) },
                        reached = reach_next(machine, keys, &log, hop + 1, now, next) => reached.map(Some),
                    }
                })
                .await?
        };
        match (reached, refusal) {
            (Some(reached), _) => {
                machine.console().set_side(Side::Target);
                Ok(reached)
            }
            (None, Some(reply)) => Err(self.not_done(reply, &agent, self.boot.parts.len()).await),
            (None, None) => Err(Stop::Host("the kexec ended in no way that is known".to_owned())),
        }
    }

    /// The kernel's own log has what the console lost.
    async fn collect(&mut self, agent: &Agent) -> Result<(), Stop> {
        match self.guarded(Phase::Collect, Some(agent), ask(agent, &Request::KernelLog)).await? {
            Reply::KernelLog(log) => {
                self.target_taint = log.taint;
                fs::write(self.logs.join("kmsg.log"), log.lines.join("\n") + "\n").map_err(host("kmsg.log"))?;
                self.kernel_log = log.lines;
                Ok(())
            }
            reply => Err(self.not_done(reply, agent, 0).await),
        }
    }

    /// Moves what follows against the guest's own timers, when a cell is run several times to find what is rare.
    async fn jitter(&self, which: u32) {
        if self.host.attempts.repeat > 1 {
            tokio::time::sleep(JITTER.mul_f64(seed::fraction(self.seed, which))).await;
        }
    }

    /// A planted flip, between preserve and kexec.
    async fn flip(&self, agent: &Agent) -> Result<(), Stop> {
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
            reply => return Err(self.not_done(reply, agent, 1).await),
        };
        let ram = self.machine.as_ref().ok_or_else(no_machine)?.ram();
        let mut byte = [0];
        ram.read(address, &mut byte).map_err(host("the RAM file"))?;
        ram.write(address, &[byte[0] ^ 1]).map_err(host("the RAM file"))
    }

    /// A phase that needs the guest: raced against the machine's end, with any planted kill first.
    async fn guarded<T>(
        &mut self,
        phase: Phase,
        agent: Option<&Agent>,
        body: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        let ticks = self.ticks.get(self.hop as usize);
        let plant = self.host.plant.as_ref();
        self.recorder
            .phase(phase, self.hop, Some((machine, ticks)), async {
                plant_kill(plant, phase, machine, agent).await;
                let done = tokio::select! {
                    biased;
                    end = machine.wait_end() => return Err(Stop::Machine(end)),
                    done = body => done,
                };
                // A connection that ends is often the first sign of a machine that does.
                match done {
                    Err(Stop::Agent(why)) => {
                        match tokio::time::timeout(Duration::from_secs(2), machine.wait_end()).await {
                            Ok(end) => Err(Stop::Machine(end)),
                            Err(_) => Err(Stop::Agent(why)),
                        }
                    }
                    done => done,
                }
            })
            .await
    }

    /// Asks a machine that hangs why, reads the console to its end, and ends the machine. Returns all findings, and the
    /// machine's end if it came before.
    async fn end(&mut self, stop: &Stop) -> (Vec<Finding>, Option<MachineEnd>) {
        let Some(machine) = self.machine.take() else { return (Vec::new(), None) };
        let console = machine.console().clone();
        let deadline = self.host.deadlines.of(Phase::Teardown);
        let hop = self.hop;
        let work = self.work.take();
        let (keep, logs) = (self.host.keep, self.logs.clone());
        let mut late = None;
        let ending = async {
            if matches!(stop, Stop::Deadline { .. }) {
                ask_why_it_hangs(&machine, &logs).await;
            }
            // A crash goes on printing after the host has heard of it.
            let (quiet, at_most) = if *stop == Stop::Complete { (10, 1000) } else { (300, 5000) };
            console.drain(Duration::from_millis(quiet), Duration::from_millis(at_most)).await;
            late = machine.ended();
            machine.quit().await;
            let Some(work) = work else { return Ok(()) };
            if keep {
                for name in ["ram", "initrd"] {
                    fs::copy(work.join(name), logs.join(name)).map_err(host(name))?;
                }
            }
            let _ = fs::remove_dir_all(work);
            Ok(())
        };
        let _: Result<(), Stop> = self.recorder.last_phase(Phase::Teardown, hop, deadline, ending).await;
        let mut findings = console.findings();
        add_lost_lines(&mut findings, &self.kernel_log, self.recorder.now_us());
        (findings, late)
    }
}

/// Where each processor is, by QEMU; then an NMI, so that the kernel says it itself.
async fn ask_why_it_hangs(machine: &Machine, logs: &Path) {
    if let Ok(registers) = machine.hmp("info registers -a").await {
        // Evidence beside the record, as the console is.
        let _ = fs::write(logs.join("registers.txt"), registers);
    }
    if machine.inject_nmi().await.is_ok() {
        // The panic that it causes ends the machine; one that does not hear it stays silent.
        let _ = tokio::time::timeout(Duration::from_secs(10), machine.wait_end()).await;
    }
}

/// Adds what only the target's own log says, with line 0.
fn add_lost_lines(findings: &mut Vec<Finding>, kernel_log: &[String], at_us: u64) {
    let mut scanner = Scanner::default();
    scanner.set_side(Side::Target);
    for line in kernel_log {
        scanner.take(&format!("[    0.000000] {line}"), 0, at_us);
    }
    for finding in scanner.findings() {
        let known = findings.iter().any(|known| known.text == finding.text);
        if !known {
            findings.push(finding.clone());
        }
    }
}

async fn plant_kill(plant: Option<&Fault>, now: Phase, machine: &Machine, agent: Option<&Agent>) {
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
async fn kill_when_it_speaks(machine: &Machine, plant: Option<&Fault>) {
    if !matches!(plant, Some(Fault::Kill { victim: Victim::Qemu, phase: Phase::Boot })) {
        return std::future::pending().await;
    }
    machine.console().spoke().await;
    machine.kill();
}

fn host<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Host(format!("{what}: {error}"))
}

fn explained(error: luqual_vm::VmError) -> Stop {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    Stop::Host(format!("{}{hint}", chain(&error)))
}

/// A source without the device: one that is known to be built with LUO says no by that.
fn no_device(source: &KernelInfo) -> Stop {
    if source.abilities.as_ref().is_some_and(|abilities| abilities.contains(&Ability::Luo)) {
        let about = "/dev/liveupdate, though it is built with LUO".to_owned();
        let refused = Refused { call: "open".to_owned(), errno: "ENOENT".to_owned(), about };
        return Stop::Refused { refused, side: Side::Source, intact: Ok(()) };
    }
    Stop::Requirement(format!("the source {} has no /dev/liveupdate (LUO)", source.name))
}

fn no_machine() -> Stop {
    Stop::Host("the machine is gone".to_owned())
}

#[cfg(test)]
mod tests;
