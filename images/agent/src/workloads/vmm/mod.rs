//! `vmm.*`: whole virtual machines. A monitor of its own user runs each, and a [`team`] brings them through the update. A machine is
//! looked at through its memory, where its program writes down what it noticed.

mod team;

pub(crate) use team::Team;

use super::manifest::{self, Manifest};
use super::{Case, Scene, StepError, errno, errno_name, said};
use crate::facts::mem_free_kib;
use crate::inner::{self, INNER};
use crate::log::say;
use crate::mapping::Mapping;
use crate::memfd::Memfd;
use crate::orchestrator::SESSION;
use crate::pci::Function;
use crate::peer::{DONE, Peer};
use crate::vmm::{State, counter};
use crate::wait::until;
use luqual_program::{ACCOUNTS, MAGIC, PAGE, WORK, Word, Wrong, chain};
use luqual_protocol::{AGENT, Account, Archive, Item, Kernel, PausedMachine, clock_tolerance_ms};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::time::{Duration, Instant};
use team::{Step, Who, start_monitor};

pub(super) const CASES: &[Case] = &[
    with("vmm.basic-linux", LINUX),
    with("vmm.basic-program", ONE),
    dies("vmm.broker-killed-claimed", Who::Broker, Step::Claimed),
    dies("vmm.broker-killed-preserved", Who::Broker, Step::Preserved),
    dies("vmm.broker-killed-ready", Who::Broker, Step::Ready),
    dies("vmm.broker-killed-retrieved", Who::Broker, Step::Retrieved),
    dies("vmm.broker-killed-running", Who::Broker, Step::Running),
    Case { source: leave_and_give, retrieved: take_over_and_ask, ..with("vmm.descriptors", ONE) },
    with("vmm.edu.detached", Machines { has_device: true, ..ONE }),
    with("vmm.four", Machines { count: 4, ..ONE }),
    with("vmm.linux-three-updates", LINUX),
    dies("vmm.monitor-killed-preserved", Who::Monitor, Step::Preserved),
    with("vmm.monitor-killed-ready", Machines { count: 4, ..dying(Who::Monitor, Step::Ready) }),
    dies("vmm.monitor-killed-restored", Who::Monitor, Step::Restored),
    with("vmm.monitor-killed-running", Machines { count: 4, ..dying(Who::Monitor, Step::Running) }),
    dies("vmm.orchestrator-killed-claimed", Who::Orchestrator, Step::Claimed),
    dies("vmm.orchestrator-killed-paused", Who::Orchestrator, Step::Paused),
    dies("vmm.orchestrator-killed-preserved", Who::Orchestrator, Step::Preserved),
    dies("vmm.orchestrator-killed-restored", Who::Orchestrator, Step::Restored),
    dies("vmm.orchestrator-killed-retrieved", Who::Orchestrator, Step::Retrieved),
    with("vmm.sixteen", Machines { count: 16, mib: 4, ..ONE }),
    with("vmm.three-updates", ONE),
    with("vmm.two-processors", Machines { cpus: 2, ..ONE }),
];

const fn with(name: &'static str, machines: Machines) -> Case {
    Case {
        prepare: boot,
        source: leave,
        retrieved: take_over,
        target: look,
        finished: finish,
        machines,
        ..Case::new(name)
    }
}

const fn dies(name: &'static str, who: Who, at: Step) -> Case {
    with(name, dying(who, at))
}

const fn dying(who: Who, at: Step) -> Machines {
    Machines { dies: Some(Death { who, at }), ..ONE }
}

/// What a machine runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    /// A program of ours, which holds when it is asked to.
    Program,
    /// The target's kernel, with a process of ours, which is stopped where it is.
    Linux,
}

impl System {
    const fn holds(self) -> bool {
        matches!(self, Self::Program)
    }

    /// How long it may take to its first beat, or between two.
    const fn patience(self) -> Duration {
        match self {
            Self::Program => PATIENCE,
            Self::Linux => Duration::from_secs(45),
        }
    }
}

/// The virtual machines of a case.
#[derive(Clone, Copy)]
pub(crate) struct Machines {
    system: System,
    count: u64,
    /// Processors of each.
    cpus: u64,
    /// Memory of each, in MiB.
    mib: u64,
    /// Whether it has the case's device while it runs.
    has_device: bool,
    /// Who is killed, if somebody is. A monitor that is killed while its machine runs takes the machine along.
    dies: Option<Death>,
}

impl Machines {
    pub(crate) const NONE: Self =
        Self { system: System::Program, count: 0, cpus: 0, mib: 0, has_device: false, dies: None };

    fn dies(self, who: Who, at: Step) -> bool {
        self.dies == Some(Death { who, at })
    }

    /// Those that should be there in the target.
    fn kept(self) -> std::ops::Range<u64> {
        0..self.count - u64::from(self.dies(Who::Monitor, Step::Ready))
    }
}

const ONE: Machines = Machines { count: 1, cpus: 1, mib: 16, ..Machines::NONE };
const LINUX: Machines = Machines { system: System::Linux, mib: 128, ..ONE };

/// Who is killed, and as soon as what has come to be so.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Death {
    who: Who,
    at: Step,
}

/// Tokens in the case's session; each machine has its own from [`tokens`] on.
const MANIFEST_TOKEN: u64 = 1;
const MEMORY: u64 = 0;
const STATE: u64 = 1;
const KVM_DESCRIPTORS: [(&str, u64); 2] = [("vm", 2), ("vcpu", 3)];

const fn tokens(number: u64) -> u64 {
    (number + 1) * 16
}

/// How often a machine may be begun until it works: under QEMU's emulation one of some dozens triple-faults, long before anything
/// is preserved, and says nothing of the update.
const ATTEMPTS: u32 = 2;

/// How long a machine may take for what it does in a second, or a few where there are many.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine, its monitor, and its memory as it is seen from outside.
pub(crate) struct Hosted {
    number: u64,
    /// What it is called in probes.
    name: String,
    monitor: Peer,
    memory: Mapping,
    system: System,
    cpus: u64,
    /// The counter when it began, or was seen to work again.
    begun: u64,
}

type Done = Result<(), StepError>;

/// In the first source: all machines are begun, and work.
fn boot(scene: &mut Scene) -> Done {
    let (machines, seed) = (scene.machines(), scene.seed());
    let begun = (0..machines.count).map(|number| begin(machines, number, seed));
    for mut hosted in begun.collect::<Result<Vec<_>, StepError>>()? {
        let mut more = ATTEMPTS;
        while !hosted.works() {
            let told = format!("the {} does not work: {}", hosted.name, hosted.told());
            more -= 1;
            if more == 0 {
                return Err(StepError::Agent(told));
            }
            say(&format!("luqual-agent: {told}; it is begun again"));
            hosted = begin(machines, hosted.number, seed)?;
        }
        scene.hosted.push(hosted);
    }
    let team = Team::start(scene.name_of(SESSION))?;
    for hosted in &scene.hosted {
        team.take_on(hosted.number, &hosted.monitor)?;
        if machines.has_device {
            attach(scene, &team, hosted)?;
            if !hosted.uses_device(0) {
                return Err(StepError::Agent(format!(
                    "the {} does not use its device: {}",
                    hosted.name,
                    hosted.told()
                )));
            }
        }
    }
    scene.team = Some(team);
    Ok(())
}

/// Gives a machine the case's device.
fn attach(scene: &Scene, team: &Team, hosted: &Hosted) -> Done {
    let function = Function { address: scene.address()?.to_owned() };
    function.bind("vfio-pci").map_err(StepError::Missing)?;
    let node = function.cdev().map_err(StepError::Missing)?;
    team.attach(hosted.number, &format!("/dev/vfio/devices/{node}"))
}

fn begin(machines: Machines, number: u64, seed: u64) -> Result<Hosted, StepError> {
    let monitor = start_monitor()?;
    let (seed, mib) = (seed.wrapping_add(number << 32), machines.mib);
    let boot = match machines.system {
        System::Program => format!("boot {} {mib} {seed}", machines.cpus),
        System::Linux => {
            give_linux(&monitor)?;
            format!("boot-linux {mib} {seed}")
        }
    };
    monitor.tell(&boot, None).map_err(StepError::Agent)?;
    monitor.tell("run", None).map_err(StepError::Agent)?;
    Hosted::new(number, machines, monitor)
}

/// The target's kernel, which is here to be loaded, and an initramfs with this agent in it.
fn give_linux(monitor: &Peer) -> Done {
    let kernel = File::open(Kernel::Target.path()).map_err(StepError::agent(Kernel::Target.path()))?;
    let agent = std::fs::read(AGENT).map_err(StepError::agent(AGENT))?;
    let file = Memfd::blank("initrd", 0).make(0).map_err(StepError::agent("the machine's initramfs"))?;
    let mut archive = Archive::new(&file);
    let written = archive.file(INNER, 0o755, &agent).and_then(|()| archive.finish().map(drop));
    written.map_err(StepError::agent("the machine's initramfs"))?;
    let given = [("take kernel", kernel.as_fd()), ("take initrd", file.as_fd())];
    given.into_iter().try_for_each(|(words, fd)| monitor.tell(words, Some(fd))).map_err(StepError::Agent)
}

/// In a source: each machine holds, is paused and saved, and all of it is preserved.
fn leave(scene: &mut Scene) -> Done {
    let machines = scene.machines();
    let mut team = scene.team.take().ok_or_else(|| StepError::Agent("nobody is there to preserve it".to_owned()))?;
    // One process has it open at a time, and from here on that is the broker.
    scene.close_device();
    team.open()?;
    let mut all = std::mem::take(&mut scene.hosted);
    let mut leaving = Leaving::default();
    for step in Step::SOURCE {
        leaving.bring(step, &team, &all)?;
        let Some(Death { who, .. }) = machines.dies.filter(|death| death.at == step) else { continue };
        match who {
            Who::Broker => team.replace_broker()?,
            Who::Orchestrator => team.replace_orchestrator(all.iter().map(|it| (it.number, &it.monitor)))?,
            Who::Monitor => {
                lose_last(scene, &mut all)?;
                continue;
            }
        }
        for step in Step::SOURCE.into_iter().take_while(|before| *before <= step) {
            leaving.bring(step, &team, &all)?;
        }
    }
    if let Some(state) = leaving.state {
        scene.hold("state", state);
    }
    let session = scene.session("control")?;
    manifest::leave(scene, &session, MANIFEST_TOKEN, &leaving.notes)?;
    if let Some((account, holding, paused)) = leaving.first {
        let us = |since: Instant| since.elapsed().as_micros() as u64;
        let holds = machines.system.holds();
        scene.tell_paused(PausedMachine { account, held_us: us(holding), paused_us: us(paused), holds });
    }
    (scene.hosted, scene.team) = (all, Some(team));
    Ok(())
}

/// What is known of machines that are brought to a stop.
#[derive(Default)]
struct Leaving {
    notes: Manifest,
    /// Of the first: where its account is, when it held, and when it was paused.
    first: Option<(u64, Instant, Instant)>,
    /// The first's, for who falsifies it.
    state: Option<OwnedFd>,
}

impl Leaving {
    fn bring(&mut self, step: Step, team: &Team, all: &[Hosted]) -> Done {
        for hosted in all {
            if step == Step::Paused
                && hosted.holds()
                && !hosted.is_held()
                && !(0..hosted.cpus).all(|cpu| hosted.hold(cpu))
            {
                return Err(StepError::Agent(format!("the {} does not hold: {}", hosted.name, hosted.told())));
            }
            // Before it is paused, as the host counts too: on a busy host saving it takes a second.
            let (held, holding) = (counter(), Instant::now());
            let answer = team.come_to(step, hosted.number)?;
            match step {
                _ if answer == DONE => {}
                Step::Preserved => {
                    let (call, (what, how)) =
                        ("ioctl LIVEUPDATE_SESSION_PRESERVE_FD", answer.split_once(": ").unwrap_or(("", &answer)));
                    let (call, how) = (call.to_owned(), how.to_owned());
                    return Err(StepError::Declined { call, how, about: format!("memfd {what}") });
                }
                _ => return Err(StepError::Agent(format!("{step:?}: the {}: {answer}", hosted.name))),
            }
            if step == Step::Preserved && hosted.number == 0 {
                self.state = Some(hosted.give("state")?);
            }
            // What is so already stays as it was noted.
            if step != Step::Paused || self.notes.contains_key(&hosted.note(COUNTER, 0)) {
                continue;
            }
            let paused = Instant::now();
            self.notes.insert(hosted.note(COUNTER, 0), held.to_string());
            for cpu in 0..hosted.cpus {
                for (what, word) in COUNTED {
                    self.notes.insert(hosted.note(what, cpu), hosted.word(cpu, word).to_string());
                }
            }
            if hosted.number == 0 {
                let account = hosted.memory.physical_address(ACCOUNTS as usize);
                let account = account.map_err(StepError::agent("the address of the account"))?;
                self.first = Some((account, holding, paused));
            }
        }
        Ok(())
    }
}

/// The last machine's monitor is killed. Where nothing else has its memory, that is free again.
fn lose_last(scene: &mut Scene, all: &mut Vec<Hosted>) -> Done {
    let Some(Hosted { name, monitor, memory, .. }) = all.pop() else { return Ok(()) };
    drop(memory);
    let kill = |_: &mut Scene| monitor.kill().map_err(StepError::Agent);
    if scene.machines().dies(Who::Monitor, Step::Ready) { frees(scene, &name, kill) } else { kill(scene) }
}

/// What frees a machine's memory: whether the kernel has it back.
fn frees<T>(
    scene: &mut Scene,
    name: &str,
    free: impl FnOnce(&mut Scene) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let (before, expected) = (mem_free_kib().map_err(StepError::Agent)?, scene.machines().mib * 1024 * 3 / 4);
    let freed = free(scene)?;
    let now = || mem_free_kib().map_or(0, |now| now.saturating_sub(before));
    let is_back = until(PATIENCE, || now() >= expected);
    let observed = format!("{} KiB", now());
    scene.check_that(
        &format!("{name} memory that is free again"),
        &format!("{expected} KiB or more"),
        observed,
        is_back,
    );
    Ok(freed)
}

/// And KVM's own descriptors are tried.
fn leave_and_give(scene: &mut Scene) -> Done {
    leave(scene)?;
    let Some(team) = scene.team.take() else { return Ok(()) };
    for hosted in std::mem::take(&mut scene.hosted) {
        for (name, token) in KVM_DESCRIPTORS {
            let answer = team.preserve(&hosted, name, tokens(hosted.number) + token)?;
            scene.check(format!("KVM {name} preserve"), DONE, answer);
        }
        scene.hosted.push(hosted);
    }
    scene.team = Some(team);
    Ok(())
}

fn take_over_and_ask(scene: &mut Scene) -> Done {
    take_over(scene)?;
    let Some(team) = scene.team.take() else { return Ok(()) };
    for (name, token) in KVM_DESCRIPTORS {
        scene.check(format!("KVM {name} retrieve"), DONE, team.retrieve(name, tokens(0) + token)?);
    }
    scene.team = Some(team);
    Ok(())
}

/// Something of a machine that was left to the update is made another.
pub(super) fn spoil(scene: &mut Scene, item: Item) -> Done {
    let name = scene.name();
    let nothing = || StepError::Missing(format!("{name} has no virtual machine in which a fault could be planted"));
    let file = scene.held("state").and_then(|fd| fd.try_clone_to_owned().ok()).map(File::from).ok_or_else(nothing)?;
    let mut state = State::read_from(&file).map_err(StepError::Agent)?;
    let cpu = state.cpus.first_mut().ok_or_else(nothing)?;
    match item {
        Item::Register => cpu.regs.rbx ^= 1,
        // A byte of ST(3).
        Item::Fpu => cpu.xsave.region[(32 + 3 * 16) / 4] ^= 1,
        Item::Msr => {
            let lstar = cpu.msrs.iter_mut().find(|entry| entry.index == 0xc000_0082);
            lstar.ok_or_else(nothing)?.data ^= 8;
        }
        Item::Page => {
            let hosted = scene.hosted.first().ok_or_else(nothing)?;
            let at = (WORK + 5 * PAGE + 77) as usize;
            let mut byte = [0];
            hosted.memory.read(at, &mut byte);
            hosted.memory.fill(at, &[byte[0] ^ 1]);
            return Ok(());
        }
        // IRR (Intel SDM volume 3, table 12-1), of which each 32 vectors have 16 bytes: those from 64 on.
        Item::Interrupt => cpu.lapic.regs[0x220..0x224].fill(0),
        // The count that a timer begins with, and the one that it has come to.
        Item::Timer => {
            cpu.lapic.regs[0x380..0x384].fill(0);
            cpu.lapic.regs[0x390..0x394].fill(0);
        }
        Item::Clock => state.clock.ns += 10_000_000_000,
    }
    state.write_to(&file).map_err(StepError::Agent)
}

/// In a target: new monitors make the machines again around the memory that each had, and let them run. They hold still.
fn take_over(scene: &mut Scene) -> Done {
    let machines = scene.machines();
    let mut team = Team::start(scene.name_of(SESSION))?;
    scene.close_device();
    let claimed = team.claim()?;
    scene.check(format!("session {SESSION} retrieve"), DONE, &claimed);
    if claimed != DONE {
        return Ok(());
    }
    let mut coming = Coming::default();
    for number in machines.kept() {
        coming.start(scene, &team, number)?;
    }
    for step in Step::TARGET {
        coming.bring(scene, &team, step, "")?;
        let Some(Death { who, .. }) = machines.dies.filter(|death| death.at == step) else { continue };
        match who {
            Who::Broker => team.replace_broker()?,
            Who::Orchestrator => team.replace_orchestrator(coming.monitors.iter().map(|(number, it)| (*number, it)))?,
            Who::Monitor => {
                let Some((number, monitor)) = coming.monitors.pop() else { continue };
                monitor.kill().map_err(StepError::Agent)?;
                if step == Step::Running {
                    continue;
                }
                coming.start(scene, &team, number)?;
            }
        }
        let again = format!(" after the {} was killed", format!("{who:?}").to_lowercase());
        for step in Step::TARGET.into_iter().take_while(|before| *before <= step) {
            coming.bring(scene, &team, step, &again)?;
        }
    }
    if machines.kept().end < machines.count {
        for (name, token) in [("memory", MEMORY), ("state", STATE)] {
            let last = machines.count - 1;
            let of_it = format!("{} {name} after its monitor was killed", name_of(last, machines));
            scene.check(of_it, "ENOENT", team.retrieve(name, tokens(last) + token)?);
        }
    }
    for (number, monitor) in coming.monitors {
        scene.hosted.push(Hosted::new(number, machines, monitor)?);
    }
    // Let run, one comes to its first look at the clocks only when it has its memory and the processor again.
    for hosted in scene.hosted.iter_mut().filter(|hosted| !hosted.holds()) {
        let then = hosted.word(0, Word::Beat);
        until(hosted.system.patience(), || hosted.word(0, Word::Beat) != then);
        hosted.begun = counter();
    }
    scene.team = Some(team);
    Ok(())
}

/// Machines that are brought up.
#[derive(Default)]
struct Coming {
    /// Of those of which nothing was refused yet.
    monitors: Vec<(u64, Peer)>,
}

impl Coming {
    fn start(&mut self, scene: &mut Scene, team: &Team, number: u64) -> Done {
        match start_monitor() {
            Ok(monitor) => {
                team.take_on(number, &monitor)?;
                self.monitors.push((number, monitor));
            }
            Err(StepError::Missing(why)) => {
                scene.check(format!("{} restored", name_of(number, scene.machines())), DONE, why)
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn bring(&mut self, scene: &mut Scene, team: &Team, step: Step, again: &str) -> Done {
        for (number, monitor) in std::mem::take(&mut self.monitors) {
            let answer = team.come_to(step, number)?;
            if step != Step::Claimed {
                let what =
                    format!("{} {}{again}", name_of(number, scene.machines()), format!("{step:?}").to_lowercase());
                scene.check(what, DONE, &answer);
            }
            if answer == DONE {
                self.monitors.push((number, monitor));
            }
        }
        Ok(())
    }
}

/// In a target: the kernel is told that all was taken over, and takes note.
fn finish(scene: &mut Scene) -> Done {
    let Some(mut team) = scene.team.take() else { return Ok(()) };
    let machines = scene.machines();
    let answer = if machines.dies(Who::Monitor, Step::Running) {
        // Nobody has it any longer but who has kept it.
        let name = name_of(machines.count - 1, machines);
        frees(scene, &name, |_| team.finish(0..machines.count))?
    } else {
        team.finish(0..machines.count)?
    };
    scene.check(format!("session {SESSION} finish"), DONE, answer);
    scene.team = Some(team);
    let again = scene.device()?.retrieve_session(&scene.name_of(SESSION));
    scene.check(format!("session {SESSION} after finish"), "ENOENT", said(&again, "still there"));
    Ok(())
}

/// In a target: each machine is released, works on, and its account is read when it holds the next time.
fn look(scene: &mut Scene) -> Done {
    let Ok(session) = scene.session("control") else { return Ok(()) };
    let Some(notes) = manifest::take(scene, &session, MANIFEST_TOKEN)? else { return Ok(()) };
    let all = std::mem::take(&mut scene.hosted);
    let note = |name: &str| notes.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // All at once, so that none waits for its turn.
    let away: Vec<u64> = all
        .iter()
        .map(|hosted| {
            // One that holds goes on when it is released, one that was stopped has begun to work.
            let end = if hosted.holds() { counter() } else { hosted.begun };
            let away = end.saturating_sub(note(&hosted.note(COUNTER, 0)));
            (0..hosted.cpus).for_each(|cpu| hosted.set(cpu, Word::Release, 1));
            away
        })
        .collect();
    for (hosted, away) in all.into_iter().zip(away) {
        if scene.machines().has_device {
            look_at_device(scene, &hosted, note(&hosted.note(MOVES, 0)))?;
        }
        look_at(scene, &hosted, away, note);
        scene.hosted.push(hosted);
    }
    Ok(())
}

/// What a machine's first processor came to, by its own clock.
fn moments(machines: Machines, hosted: &Hosted) -> Vec<(String, u64)> {
    let told = [
        (Account::BEFORE, Word::ClockBefore),
        (Account::AFTER, Word::ClockAfter),
        ("last of its device before the update", Word::DeviceBefore),
        ("first of its device after it", Word::DeviceAfter),
    ];
    let told = told.into_iter().take(if machines.has_device { 4 } else { 2 });
    let mut moments: Vec<(String, u64)> =
        told.map(|(what, word)| (what.to_owned(), hosted.word(0, word) / 1000)).filter(|(_, us)| *us > 0).collect();
    moments.sort_by_key(|(_, us)| *us);
    moments
}

/// It is given the device again, and uses it.
fn look_at_device(scene: &mut Scene, hosted: &Hosted, done: u64) -> Done {
    let Some(team) = scene.team.take() else { return Ok(()) };
    let attached = attach(scene, &team, hosted);
    scene.team = Some(team);
    attached?;
    let uses = hosted.uses_device(done);
    let (begun, came) = (hosted.word(0, Word::DeviceBegun), hosted.word(0, Word::DeviceCame));
    let observed = if uses { "works on" } else { "does not" };
    scene.check(format!("{} device", hosted.name), WORKS, observed);
    // One may be under way.
    let expected = format!("{begun} came, or one less");
    let held = begun - came.min(begun) <= 1 && came <= begun;
    scene.check_that(&format!("{} device interrupts", hosted.name), &expected, format!("{came} came"), held);
    if uses {
        let without = hosted.word(0, Word::DeviceAfter).saturating_sub(hosted.word(0, Word::DeviceBefore));
        scene.measure(
            "virtual machine without its device, by its own clock",
            (1, "machines"),
            Duration::from_nanos(without),
        );
    }
    Ok(())
}

fn look_at(scene: &mut Scene, hosted: &Hosted, away: u64, note: impl Fn(&str) -> u64) {
    for cpu in 0..hosted.cpus {
        let name = |what: &str| match hosted.cpus {
            1 => format!("{} {what}", hosted.name),
            _ => format!("{} cpu {cpu} {what}", hosted.name),
        };
        let rounds = note(&hosted.note(ROUNDS, cpu));
        let holds = note(&hosted.note(HOLDS, cpu));
        let went_on = until(PATIENCE, || match hosted.system {
            System::Program => hosted.word(cpu, Word::Holds) > holds,
            // The last line was on its way.
            System::Linux => hosted.word(cpu, Word::Round) > rounds + 2 * inner::ROUNDS,
        });
        // Of one that tells more than one update, this one.
        let moments = moments(scene.machines(), hosted);
        if went_on {
            clocks(scene, hosted, cpu, away, &name);
        }
        // Every page is come by again; and a Linux has forgotten this update before the next.
        let more = if hosted.holds() { 64 } else { inner::ROUNDS * inner::LOOKS as u64 };
        let last = rounds + hosted.word(cpu, Word::Pages) + more;
        let is_round = went_on && until(PATIENCE, || hosted.word(cpu, Word::Round) >= last);
        let held = is_round && hosted.be_still(cpu);
        let observed = match (went_on, is_round, held) {
            (true, true, true) => WORKS.to_owned(),
            (true, true, false) => "waits for ever for a timer".to_owned(),
            (true, false, _) => format!("stopped in round {}", hosted.word(cpu, Word::Round)),
            _ => "did not go on".to_owned(),
        };
        scene.check(name("work"), WORKS, observed);
        account(scene, hosted, cpu, held, &name);
        if cpu == 0 {
            let counts = COUNTED
                .into_iter()
                .map(|(what, word)| (what.to_owned(), note(&hosted.note(what, cpu)), hosted.word(cpu, word)));
            let counts = counts.filter(|(_, before, after)| *before > 0 || *after > 0).collect();
            let apart_us = hosted.word(cpu, Word::LookApart) / 1000;
            scene.tell_account(Account { machine: hosted.name.clone(), moments, counts, apart_us });
        }
        hosted.go_on(cpu);
    }
}

const WORKS: &str = "works on";

/// What the program noticed, and what of it can be reckoned from outside.
fn account(scene: &mut Scene, hosted: &Hosted, cpu: u64, held: bool, name: &dyn Fn(&str) -> String) {
    let word = |word| hosted.word(cpu, word);
    // A process of a Linux sees no more than its memory.
    let has_device = scene.machines().has_device;
    let looks_at = |kind: &(usize, Wrong)| match kind.1 {
        Wrong::Page => true,
        Wrong::Device => has_device,
        _ => hosted.holds(),
    };
    for (place, kind) in Wrong::ALL.into_iter().enumerate().filter(looks_at) {
        let count = hosted.word_at(cpu, Word::Wrong as usize + place);
        let is_first = word(Word::FirstWrong) == place as u64 + 1;
        let first = is_first.then(|| {
            let (which, expected, observed) =
                (word(Word::FirstWhich), word(Word::FirstExpected), word(Word::FirstObserved));
            format!("; the first {which:#x}: {observed:#x} for {expected:#x}")
        });
        scene.check(name(kind.name()), "0 wrong", format!("{count} wrong{}", first.unwrap_or_default()));
    }
    if held {
        let (seed, pages, rounds) = (word(Word::Seed), word(Word::Pages), word(Word::Round));
        let reckoned = format!("{:#018x} after {rounds} rounds", chain(seed, pages, rounds));
        scene.check(name("memory chain"), reckoned, format!("{:#018x} after {rounds} rounds", word(Word::Chain)));
    }
    // In a hold one of each is under way.
    let under_way = u64::from(held && hosted.holds());
    let each =
        [("timers", Word::TimersBegun, Word::TimersCome), ("interrupts to itself", Word::IpisSent, Word::IpisCome)];
    for (what, begun, come) in each.into_iter().take(if hosted.holds() { 2 } else { 1 }) {
        let (begun, come) = (word(begun) - under_way, word(come));
        scene.check(name(what), format!("{begun} came"), format!("{come} came"));
    }
    for (what, back) in [("clock went back", Word::ClockBack), ("TSC went back", Word::TscBack)] {
        scene.check(name(what), "0 times", format!("{} times", word(back)));
    }
}

/// Both clocks moved by the time that it was away, by the processor's own counter.
fn clocks(scene: &mut Scene, hosted: &Hosted, cpu: u64, away: u64, name: &dyn Fn(&str) -> String) {
    let word = |word| hosted.word(cpu, word);
    let ms = |ticks: u64| {
        let shift = word(Word::TscShift) as i64;
        let ticks = if shift < 0 { u128::from(ticks) >> -shift } else { u128::from(ticks) << shift };
        ((ticks * u128::from(word(Word::TscFactor))) >> 32) as u64 / 1_000_000
    };
    let true_ms = ms(away);
    let tolerance_ms = clock_tolerance_ms(true_ms, word(Word::LookApart) / 1_000_000);
    let before = [Word::ClockBefore, Word::TscBefore].map(word);
    let after = [Word::ClockAfter, Word::TscAfter].map(word);
    let clock_us = after[0].wrapping_sub(before[0]) / 1000;
    let clock_ms = clock_us / 1000;
    let tsc_ms = ms(after[1].wrapping_sub(before[1]));
    for (what, moved_ms) in [("clock over the update", clock_ms), ("TSC over the update", tsc_ms)] {
        let expected = format!("{true_ms} ms on, or {tolerance_ms} ms from it at most");
        scene.check_that(
            &name(what),
            &expected,
            format!("{moved_ms} ms on"),
            moved_ms.abs_diff(true_ms) <= tolerance_ms,
        );
    }
    if (hosted.number, cpu) == (0, 0) {
        scene.measure("update by the machine's own clock", (1, "machines"), Duration::from_micros(clock_us));
    }
}

fn name_of(number: u64, machines: Machines) -> String {
    if machines.count == 1 { "machine".to_owned() } else { format!("machine {number}") }
}

impl Hosted {
    fn new(number: u64, machines: Machines, monitor: Peer) -> Result<Self, StepError> {
        let (system, cpus) = (machines.system, machines.cpus);
        let memory = File::from(monitor.give("memory").map_err(StepError::Agent)?);
        let memory = Mapping::of_file(&memory, (machines.mib << 20) as usize);
        let memory = memory.map_err(StepError::agent("the machine's memory"))?;
        Ok(Self { number, name: name_of(number, machines), monitor, memory, system, cpus, begun: counter() })
    }

    fn holds(&self) -> bool {
        self.system.holds()
    }

    /// So that its account does not change.
    fn be_still(&self, cpu: u64) -> bool {
        match self.system {
            System::Program => self.hold(cpu),
            System::Linux => self.monitor.tell("pause", None).is_ok(),
        }
    }

    /// From where it is still.
    fn go_on(&self, cpu: u64) {
        match self.system {
            System::Program => self.set(cpu, Word::Release, 1),
            System::Linux => drop(self.monitor.tell("run", None)),
        }
    }

    /// What is noted of it under this name.
    fn note(&self, what: &str, cpu: u64) -> String {
        format!("{} cpu {cpu} {what}", self.name)
    }

    /// Once round all of its pages, however long that takes as long as it has a beat: a busy host is slow, and not wrong.
    fn works(&self) -> bool {
        let works =
            |cpu| self.word(cpu, Word::Magic) == MAGIC && self.word(cpu, Word::Round) > self.word(cpu, Word::Pages);
        (0..self.cpus).all(|cpu| {
            let mut beat = self.word(cpu, Word::Beat);
            loop {
                if !until(self.system.patience(), || works(cpu) || self.word(cpu, Word::Beat) != beat) {
                    break false;
                }
                if works(cpu) {
                    break true;
                }
                beat = self.word(cpu, Word::Beat);
            }
        })
    }

    fn give(&self, name: &str) -> Result<OwnedFd, StepError> {
        self.monitor.give(name).map_err(StepError::Agent)
    }

    fn word(&self, cpu: u64, word: Word) -> u64 {
        self.word_at(cpu, word as usize)
    }

    fn word_at(&self, cpu: u64, place: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read((ACCOUNTS + cpu * PAGE) as usize + place * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn set(&self, cpu: u64, word: Word, value: u64) {
        self.memory.fill((ACCOUNTS + cpu * PAGE) as usize + word as usize * 8, &value.to_le_bytes());
    }

    /// Asks a processor to hold, and waits until it does.
    fn hold(&self, cpu: u64) -> bool {
        // The end of the hold before.
        until(PATIENCE, || self.word(cpu, Word::HoldAsked) == 0);
        self.set(cpu, Word::HoldAsked, 1);
        until(PATIENCE, || self.word(cpu, Word::Holding) == 1)
    }

    /// Whether it comes to have used its device more often than that, by a few times.
    fn uses_device(&self, before: u64) -> bool {
        until(PATIENCE, || self.word(0, Word::DeviceDone) >= before + 3)
    }

    fn is_held(&self) -> bool {
        (0..self.cpus).all(|cpu| self.word(cpu, Word::Holding) == 1)
    }

    /// The account in short, and where the processors are, for a message.
    fn told(&self) -> String {
        // A processor that has ended says why when it is to be paused.
        let (paused, _) = self.monitor.ask("pause", None).unwrap_or_else(|why| (why, None));
        let words = [
            Word::Magic,
            Word::Beat,
            Word::Round,
            Word::TimersBegun,
            Word::TimersCome,
            Word::Holding,
            Word::FirstWrong,
            Word::FirstWhich,
            Word::FirstExpected,
            Word::FirstObserved,
        ];
        let all = (0..self.cpus).flat_map(|cpu| words.map(|word| format!("{word:?} {:#x}", self.word(cpu, word))));
        let state = self.give("state").ok().and_then(|state| State::read_from(&File::from(state)).ok());
        let places = state.into_iter().flat_map(|state| state.cpus).map(|cpu| {
            let (regs, halted) = (cpu.regs, cpu.mp_state.mp_state);
            format!("RIP {:#x}, RFLAGS {:#x}, mp_state {halted}", regs.rip, regs.rflags)
        });
        let words: Vec<String> = all.chain(places).collect();
        format!("{}; paused: {paused}", words.join(", "))
    }
}

/// Names in the manifest.
const COUNTER: &str = "counter";
const HOLDS: &str = "holds";
const ROUNDS: &str = "rounds";
const MOVES: &str = "moves of the device";

/// What a processor counts, and what it is called.
const COUNTED: [(&str, Word); 9] = [
    (ROUNDS, Word::Round),
    (HOLDS, Word::Holds),
    ("timers begun", Word::TimersBegun),
    ("timers that came", Word::TimersCome),
    ("interrupts to itself", Word::IpisSent),
    ("of them came", Word::IpisCome),
    (MOVES, Word::DeviceDone),
    ("interrupts asked of the device", Word::DeviceBegun),
    ("interrupts of the device that came", Word::DeviceCame),
];

const KVM: &str = "/dev/kvm";

fn open_kvm() -> Result<OwnedFd, rustix::io::Errno> {
    let opened = File::options().read(true).write(true).open(KVM);
    opened.map(OwnedFd::from).map_err(|error| errno(&error))
}
