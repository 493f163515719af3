//! The phases of a boot, from its start to the last one that needs a guest.

use super::carry::{carried, loaded};
use super::plant::{Moment, kill_when_it_speaks, plant_end, plant_in_device};
use super::visit::Onward;
use super::{Boot, Host, JITTER, Program, Run, SILENCE, explained, host, no_device, no_machine};
use crate::evidence::Stop;
use crate::fault::Fault;
use crate::need::ability;
use crate::reach::{Identity, ask, hello, reach, reach_next};
use crate::seed;
use crate::ticks::{self, Ticks};
use luqual_guest::{Agent, AgentLog, GuestFile, Keys, initramfs};
use luqual_model::{Phase, Refused, Side};
use luqual_protocol::{AUTORUN, Hello, Kernel, KernelLog, LoadTime, Need, Reply, Request, Said, Unplug};
use luqual_vm::{CellFolder, GDB, Launch, Machine, Mode};
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

impl Run<'_> {
    /// All phases up to the last one that needs a guest. `Err` is where it stopped.
    pub(super) async fn sequence(&mut self) -> Result<(), Stop> {
        self.check_requirements()?;
        let keys = Keys::make().map_err(host("the keys of the VM"))?;
        let source = self.boot.identity(0, rand::random());

        let (agent, log) = self.boot(&source, &keys).await?;
        let hello = self.handshake(&agent, &source).await?;
        self.source_taint = hello.taint;
        let luo = self.boot.parts.iter().any(|part| part.workload.needs.contains(&Need::Luo));
        if luo && !hello.liveupdate {
            return Err(no_device(source.kernel));
        }
        self.watch_ticks(&hello)?;
        self.find_devices().await?;

        let (mut agent, mut now) = (agent, source);
        for hop in 1..=self.boot.update().hops {
            // What one kernel did not give out cannot be handed to the next.
            self.checked.iter_mut().for_each(|checked| checked.is_out = checked.first_broken.is_some());
            if !self.checked.is_empty() && self.checked.iter().all(|checked| checked.is_out) {
                break;
            }
            let next = self.boot.identity(hop, rand::random());
            let hello;
            (agent, hello) = self.update(agent, &keys, &log, &now, &next).await?;
            self.hop = hop;
            self.target_taint = hello.taint;
            self.watch_ticks(&hello)?;
            self.visited(Phase::Retrieve, &agent, None).await?;
            self.each(Phase::Retrieve, &agent, |workload, seed, device| Request::Retrieve {
                workload,
                seed,
                hop,
                device,
            })
            .await?;
            let machine = self.machine.as_ref().ok_or_else(no_machine)?;
            plant_in_device(self.host.plant.as_ref(), Moment::Taken, machine, self.watched[0].as_ref()).await?;
            self.visited(Phase::Verify, &agent, None).await?;
            self.each(Phase::Verify, &agent, |workload, _, _| Request::Verify { workload }).await?;
            self.visited(Phase::Finish, &agent, None).await?;
            self.each(Phase::Finish, &agent, |workload, _, _| Request::Finish { workload }).await?;
            self.unplug(Unplug::Afterwards, Phase::Finish).await?;
            now = next;
        }
        self.blackout = match self.ticks.as_slice() {
            [source, target, ..] => ticks::blackout(source, target),
            _ => None,
        };
        self.visited(Phase::Collect, &agent, None).await?;
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
        let load = load_request(self.boot, self.hop + 1, next, self.boot.mode(self.host.accel, None));
        let before = self.boot.update().load == LoadTime::BeforePreserve;
        let onward = || Some(Onward { keys, log, now, next, load: &load });
        if before {
            self.visited(Phase::Load, &agent, onward()).await?;
            self.load(&agent, &load).await?;
        }
        self.jitter(0).await;
        self.visited(Phase::Preserve, &agent, onward()).await?;
        self.each(Phase::Preserve, &agent, |workload, seed, device| Request::Preserve { workload, seed, device })
            .await?;
        if self.hop == 0 {
            self.unplug(Unplug::WhilePreserved, Phase::Preserve).await?;
            self.flip(&agent).await?;
            self.spoil(&agent).await?;
        }
        self.jitter(1).await;
        if !before {
            self.visited(Phase::Load, &agent, onward()).await?;
            self.load(&agent, &load).await?;
        }
        self.visited(Phase::Kexec, &agent, onward()).await?;
        self.kexec(agent, keys, log.clone(), now, next).await
    }

    pub(super) fn watch_ticks(&mut self, hello: &Hello) -> Result<(), Stop> {
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        self.ticks.iter().for_each(Ticks::end);
        self.ticks.push(Ticks::watch(machine.ram().clone(), hello.tick_page, self.recorder.started()));
        Ok(())
    }

    /// Which of the two kernels runs.
    pub(super) fn side(&self) -> Side {
        if self.hop == 0 { Side::Source } else { Side::Target }
    }

    /// What can be known to be absent before anything is started.
    pub(super) fn check_requirements(&self) -> Result<(), Stop> {
        if let Some(lacking) = self.boot.lacks(self.host.qemu.version) {
            return Err(Stop::Requirement(lacking));
        }
        let Boot { source, parts, .. } = self.boot;
        for part in parts {
            if let Some(Program::Missing(why)) = part.program {
                return Err(Stop::Requirement(why.to_owned()));
            }
        }
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
                let guest = FirstGuest { source, keys: Some(keys), requests: None, mode: boot.mode(host_.accel, None) };
                let machine: &Machine = slot.insert(start(boot, host_, guest, logs, started, work).await?);
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

    /// A phase in which each part has its turn that is not out.
    async fn each(
        &mut self,
        phase: Phase,
        agent: &Agent,
        request: impl Fn(String, u64, Option<String>) -> Request,
    ) -> Result<(), Stop> {
        for (number, part) in self.boot.parts.iter().enumerate() {
            if self.checked[number].is_out {
                continue;
            }
            let name = part.workload.name;
            let device = self.watched[number].as_ref().map(|watched| watched.address().to_string());
            let request = request(name.to_owned(), seed::of_content(self.seed, name), device);
            self.device_before(number, phase).await?;
            self.recorder.for_part(Some(number));
            let said = self.step(phase, agent, &request, number + 1).await;
            self.recorder.for_part(None);
            let said = said?;
            self.device_after(number, phase, &said)?;
            self.machine_after(number, phase, &said)?;
            self.checked[number].take(said, phase, self.hop);
        }
        Ok(())
    }

    async fn load(&mut self, agent: &Agent, request: &Request) -> Result<(), Stop> {
        // Loaded before anything is preserved, there is nothing to look at.
        let begun = if self.boot.update().load == LoadTime::BeforePreserve { 0 } else { self.boot.parts.len() };
        self.step(Phase::Load, agent, request, begun).await.map(drop)
    }

    /// One request to the agent. What was refused in the source is looked at once more: as many parts as have begun.
    async fn step(&mut self, phase: Phase, agent: &Agent, request: &Request, begun: usize) -> Result<Said, Stop> {
        let (said, taint) = match self.guarded(phase, Some(agent), ask(agent, request)).await? {
            Reply::Done { said, taint } => (said, taint),
            reply => return Err(self.not_done(phase, reply, agent, begun).await),
        };
        match self.side() {
            Side::Source => self.source_taint = taint,
            Side::Target => self.target_taint = taint,
        }
        Ok(said)
    }

    pub(super) async fn not_done(&self, phase: Phase, reply: Reply, agent: &Agent, begun: usize) -> Stop {
        let side = self.side_in(phase);
        let intact = match (&reply, side) {
            (Reply::Refused { .. }, Side::Source) => self.is_intact(agent, begun).await,
            _ => Ok(()),
        };
        stopped_by(reply, side, intact)
    }

    /// Whose part a phase is: a target that is to hand on what it was given is a source.
    pub(super) fn side_in(&self, phase: Phase) -> Side {
        if phase.is_of_a_source() { Side::Source } else { self.side() }
    }

    /// After a refusal: does the source still hold what it had?
    async fn is_intact(&self, agent: &Agent, begun: usize) -> Result<(), String> {
        for part in self.boot.parts.iter().take(begun) {
            let request = Request::Verify { workload: part.workload.name.to_owned() };
            let asked = tokio::time::timeout(self.host.deadlines.of(Phase::Verify), agent.ask(&request)).await;
            match asked {
                Ok(Ok(reply)) => says_intact(reply)?,
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("no answer".to_owned()),
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
                let left = async {
                    plant_end(plant, Phase::Kexec, machine, Some(&agent)).await?;
                    Ok(tokio::select! {
                        reply = &mut going => Some(reply),
                        () = ticks.stopped(started, SILENCE) => None,
                    })
                };
                tokio::select! {
                    end = machine.wait_end() => Err(Stop::Machine(end)),
                    left = left => left,
                }
            })
            .await?;
        if let Some(reply) = left {
            refusal = Some(reply);
        }
        let reached = if refusal.is_some() {
            None
        } else {
            plant_in_device(plant, Moment::Blackout, machine, self.watched[0].as_ref()).await?;
            self.recorder
                .phase(Phase::Reconnect, hop + 1, Some((machine, None)), async {
                    plant_end(plant, Phase::Reconnect, machine, None).await?;
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
            (None, Some(reply)) => Err(self.not_done(Phase::Kexec, reply, &agent, self.boot.parts.len()).await),
            (None, None) => Err(Stop::Host("the kexec ended in no way that is known".to_owned())),
        }
    }

    /// The kernel's own log has what the console lost.
    async fn collect(&mut self, agent: &Agent) -> Result<(), Stop> {
        match self.guarded(Phase::Collect, Some(agent), ask(agent, &Request::KernelLog)).await? {
            Reply::KernelLog(log) => self.collected(log),
            reply => Err(self.not_done(Phase::Collect, reply, agent, 0).await),
        }
    }

    pub(super) fn collected(&mut self, log: KernelLog) -> Result<(), Stop> {
        self.target_taint = log.taint;
        fs::write(self.logs.join("kmsg.log"), log.lines.join("\n") + "\n").map_err(host("kmsg.log"))?;
        self.kernel_log = log.lines;
        Ok(())
    }

    /// Moves what follows against the guest's own timers, when a cell is run several times to find what is rare.
    async fn jitter(&self, which: u32) {
        if self.host.waits {
            tokio::time::sleep(JITTER.mul_f64(seed::fraction(self.seed, which))).await;
        }
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
                let planted = async {
                    plant_end(plant, phase, machine, agent).await?;
                    body.await
                };
                let done = tokio::select! {
                    biased;
                    end = machine.wait_end() => return Err(Stop::Machine(end)),
                    done = planted => done,
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
}

/// What is asked of the kernel before that update.
pub(super) fn load_request(boot: &Boot<'_>, hop: u32, next: &Identity<'_>, mode: Mode) -> Request {
    let (hops, is_one) = (boot.update().hops, boot.is_one());
    let command_line = next.command_line(boot.profile, mode);
    Request::Load { kernel: loaded(hop, is_one), carry: carried(hop, hops, is_one), command_line }
}

/// What the first guest of a boot is given.
pub(super) struct FirstGuest<'a> {
    pub(super) source: &'a Identity<'a>,
    /// By which it is talked to.
    pub(super) keys: Option<&'a Keys>,
    /// What it does if nobody talks to it, a request each line.
    pub(super) requests: Option<&'a str>,
    pub(super) mode: Mode,
}

/// Starts the machine of a boot, in a folder of its own, and lets it run.
pub(super) async fn start(
    boot: &Boot<'_>,
    host_: &Host<'_>,
    guest: FirstGuest<'_>,
    logs: &Path,
    started: Instant,
    work: &mut Option<CellFolder>,
) -> Result<Machine, Stop> {
    let folder = host_.work.cell(boot.profile.memory_mib).map_err(explained)?;
    let folder = work.insert(folder).path();
    let initrd = folder.join("initrd");
    let read = |kernel: Kernel| {
        let image = &if kernel == Kernel::Target { boot.target } else { boot.source }.image;
        fs::read(image).map(|bytes| (kernel, bytes)).map_err(host(image.display()))
    };
    let needed = carried(0, boot.update().hops, boot.is_one()).into_iter();
    let kernels: Vec<(Kernel, Vec<u8>)> = needed.map(read).collect::<Result<_, Stop>>()?;
    let mut programs = boot.programs();
    programs.extend(host_.person.brought());
    let programs = programs.iter().map(|(path, content)| GuestFile { path, content, runs: true });
    let requests = guest.requests.map(|it| GuestFile { path: AUTORUN, content: it.as_bytes(), runs: false });
    let more: Vec<GuestFile<'_>> = programs.chain(requests).collect();
    let archive = initramfs(guest.keys, &kernels, &more).map_err(host("the initramfs"))?;
    fs::write(&initrd, archive).map_err(host(initrd.display()))?;
    let launch = Launch {
        profile: boot.profile,
        mode: guest.mode,
        kernel: &boot.source.image,
        initrd: &initrd,
        command_line: &guest.source.command_line(boot.profile, guest.mode),
        folder,
        logs,
        open: matches!(host_.plant, Some(Fault::Device(_))),
        gdb: host_.person.gdb.is_some(),
    };
    let machine = Machine::start(host_.launcher, host_.qemu, &launch, started).await.map_err(explained)?;
    if let Some(tell) = host_.person.console {
        machine.console().tell(tell);
    }
    match host_.person.gdb {
        // It is the debugger that lets it run.
        Some(wait) => wait(&folder.join(GDB)),
        None => machine.resume().await.map_err(explained)?,
    }
    Ok(machine)
}

/// What a reply says that is not what was asked for.
pub(super) fn stopped_by(reply: Reply, side: Side, intact: Result<(), String>) -> Stop {
    match reply {
        Reply::Refused { call, errno, about } => {
            Stop::Refused { refused: Refused { call, errno, about }, side, intact }
        }
        Reply::Missing { what } => Stop::Requirement(what),
        Reply::Failed { message } => Stop::Agent(message),
        other => Stop::Agent(format!("the agent answered out of turn: {other:?}")),
    }
}

/// Whether a workload that was looked at once more, after something was refused, has all that it had.
pub(super) fn says_intact(reply: Reply) -> Result<(), String> {
    let Reply::Done { said, .. } = reply else { return Err(format!("{reply:?}")) };
    match said.probes.iter().find(|probe| !probe.held) {
        Some(probe) => Err(format!("{}: expected {}, observed {}", probe.name, probe.expected, probe.observed)),
        None => Ok(()),
    }
}
