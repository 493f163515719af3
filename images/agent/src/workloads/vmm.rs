//! `vmm.*`: whole virtual machines. A monitor of its own user runs each; it is given /dev/kvm, and what it has it gives to be
//! preserved. The machine is looked at through its memory, where its program writes down what it noticed.

use super::manifest::{self, Manifest};
use super::{Case, Scene, StepError, errno, errno_name, said};
use crate::inner::{self, INNER};
use crate::log::say;
use crate::mapping::Mapping;
use crate::memfd::Memfd;
use crate::peer::{DONE, NOBODY, Peer};
use crate::vmm::{State, counter};
use crate::wait::until;
use luqual_program::{ACCOUNTS, MAGIC, PAGE, WORK, Word, Wrong, chain};
use luqual_protocol::{AGENT, Archive, Item, Kernel, PausedMachine, clock_tolerance_ms};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::fs::File;
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case] = &[
    with("vmm.basic-linux", Machines { system: System::Linux, ..ONE }),
    with("vmm.basic-program", ONE),
    Case { source: leave_and_give, ..with("vmm.descriptors", ONE) },
    with("vmm.four", Machines { count: 4, ..ONE }),
    with("vmm.linux-three-updates", Machines { system: System::Linux, ..ONE }),
    Case { source: leave_and_kill, ..with("vmm.monitor-killed", ONE) },
    Case {
        prepare: boot_and_kill_one,
        retrieved: take_over_others,
        ..with("vmm.one-lost", Machines { count: 4, ..ONE })
    },
    with("vmm.sixteen", Machines { count: 16, ..ONE }),
    with("vmm.three-updates", ONE),
    with("vmm.two-processors", Machines { cpus: 2, ..ONE }),
];

const fn with(name: &'static str, machines: Machines) -> Case {
    Case { prepare: boot, source: leave, retrieved: take_over, target: look, machines, ..Case::new(name) }
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

    /// A machine's memory, in MiB.
    const fn mib(self) -> u64 {
        match self {
            Self::Program => 16,
            Self::Linux => 128,
        }
    }

    /// How often it may be begun until it works: of sixteen Linuxes one triple-faults in its boot under QEMU's emulation, long before
    /// anything is preserved, and says nothing of the update.
    const fn attempts(self) -> u32 {
        match self {
            Self::Program => 1,
            Self::Linux => 2,
        }
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
}

impl Machines {
    pub(crate) const NONE: Self = Self { system: System::Program, count: 0, cpus: 0 };
}

const ONE: Machines = Machines { system: System::Program, count: 1, cpus: 1 };

/// Tokens in the case's session; each machine has its own from [`tokens`] on.
const MANIFEST_TOKEN: u64 = 1;
const MEMORY: u64 = 0;
const STATE: u64 = 1;
const VM: u64 = 2;
const VCPU: u64 = 3;

const fn tokens(number: u64) -> u64 {
    (number + 1) * 16
}

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
    /// The counter when it was let run.
    begun: u64,
}

type Done = Result<(), StepError>;

/// In the first source: all machines are begun, and work.
fn boot(scene: &mut Scene) -> Done {
    let kvm = open_kvm().map_err(|errno| StepError::Missing(format!("{KVM}: {}", errno_name(errno))))?;
    let (machines, seed) = (scene.machines(), scene.seed());
    let begun = (0..machines.count).map(|number| begin(&kvm, machines, number, seed));
    for mut hosted in begun.collect::<Result<Vec<_>, StepError>>()? {
        let mut more = machines.system.attempts();
        while !hosted.works() {
            let told = format!("the {} does not work: {}", hosted.name, hosted.told());
            more -= 1;
            if more == 0 {
                return Err(StepError::Agent(told));
            }
            say(&format!("luqual-agent: {told}; it is begun again"));
            hosted = begin(&kvm, machines, hosted.number, seed)?;
        }
        scene.hosted.push(hosted);
    }
    Ok(())
}

fn begin(kvm: &OwnedFd, machines: Machines, number: u64, seed: u64) -> Result<Hosted, StepError> {
    let monitor = start(&[("kvm", kvm.as_fd())])?;
    let (seed, mib) = (seed.wrapping_add(number << 32), machines.system.mib());
    let boot = match machines.system {
        System::Program => format!("boot {} {mib} {seed}", machines.cpus),
        System::Linux => {
            give_linux(&monitor)?;
            format!("boot-linux {mib} {seed}")
        }
    };
    monitor.tell(&boot, None).map_err(StepError::Agent)?;
    monitor.tell("run", None).map_err(StepError::Agent)?;
    let (_, memory) = monitor.ask("give memory", None).map_err(StepError::Agent)?;
    let memory = memory.ok_or_else(|| StepError::Agent("the monitor gave no memory".to_owned()))?;
    Hosted::new(number, machines, monitor, &File::from(memory))
}

/// The target's kernel, which is here to be loaded, and an initramfs with this agent in it.
fn give_linux(monitor: &Peer) -> Done {
    let kernel = File::open(Kernel::Target.path()).map_err(StepError::agent(Kernel::Target.path()))?;
    let agent = std::fs::read(AGENT).map_err(StepError::agent(AGENT))?;
    let file = Memfd::blank("initrd", 0).make(0).map_err(StepError::agent("the machine's initramfs"))?;
    let mut archive = Archive::new(&file);
    let written = archive.file(INNER, 0o755, &agent).and_then(|()| archive.finish().map(drop));
    written.map_err(StepError::agent("the machine's initramfs"))?;
    give(monitor, &[("kernel", kernel.as_fd()), ("initrd", file.as_fd())])
}

/// A monitor that has these.
fn start(given: &[(&str, BorrowedFd<'_>)]) -> Result<Peer, StepError> {
    let monitor = Peer::start_vmm(NOBODY).map_err(StepError::Agent)?;
    give(&monitor, given)?;
    Ok(monitor)
}

fn give(monitor: &Peer, given: &[(&str, BorrowedFd<'_>)]) -> Done {
    let take = |(name, fd): &(&str, BorrowedFd<'_>)| monitor.tell(&format!("take {name}"), Some(*fd));
    given.iter().try_for_each(take).map_err(StepError::Agent)
}

/// The last one's monitor is killed, and so it ends.
fn boot_and_kill_one(scene: &mut Scene) -> Done {
    boot(scene)?;
    scene.hosted.pop().map_or(Ok(()), |hosted| hosted.monitor.kill().map_err(StepError::Agent))
}

/// In a source: each machine holds, is paused and saved, and all of it is preserved.
fn leave(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    let mut notes = Manifest::new();
    let mut first = None;
    for hosted in std::mem::take(&mut scene.hosted) {
        if hosted.holds() && !(0..hosted.cpus).all(|cpu| hosted.hold(cpu)) {
            return Err(StepError::Agent(format!("the {} does not hold: {}", hosted.name, hosted.told())));
        }
        let holding = Instant::now();
        hosted.monitor.tell("pause", None).map_err(StepError::Agent)?;
        let paused = Instant::now();
        notes.insert(hosted.note(COUNTER, 0), counter().to_string());
        for cpu in 0..hosted.cpus {
            notes.insert(hosted.note(HOLDS, cpu), hosted.word(cpu, Word::Holds).to_string());
            notes.insert(hosted.note(ROUNDS, cpu), hosted.word(cpu, Word::Round).to_string());
        }
        let (memory, state) = (hosted.give("memory")?, hosted.give("state")?);
        for (what, fd, token) in [("memory", &memory, MEMORY), ("state", &state, STATE)] {
            scene.hand_over(&session, fd.as_fd(), tokens(hosted.number) + token, what)?;
        }
        if hosted.number == 0 {
            scene.hold("state", state);
            let account = hosted.memory.physical_address(ACCOUNTS as usize);
            first = Some((account.map_err(StepError::agent("the address of the account"))?, holding, paused));
        }
        scene.hosted.push(hosted);
    }
    manifest::leave(scene, &session, MANIFEST_TOKEN, &notes)?;
    if let Some((account, holding, paused)) = first {
        let us = |since: Instant| since.elapsed().as_micros() as u64;
        let holds = scene.machines().system.holds();
        scene.tell_paused(PausedMachine { account, held_us: us(holding), paused_us: us(paused), holds });
    }
    Ok(())
}

/// What is preserved needs nobody who had it.
fn leave_and_kill(scene: &mut Scene) -> Done {
    leave(scene)?;
    scene.hosted.drain(..).try_for_each(|hosted| hosted.monitor.kill()).map_err(StepError::Agent)
}

/// What of KVM is a descriptor itself: the kernel that preserves one could leave the machine as it is.
fn leave_and_give(scene: &mut Scene) -> Done {
    leave(scene)?;
    let session = scene.session("control")?;
    for hosted in std::mem::take(&mut scene.hosted) {
        for (name, token) in [("vm", VM), ("vcpu", VCPU)] {
            let given = hosted.give(name)?;
            scene
                .takes(&format!("KVM {name} preserve"), session.preserve(given.as_fd(), tokens(hosted.number) + token));
        }
        scene.hosted.push(hosted);
    }
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
    take_over_first(scene, scene.machines().count)
}

fn take_over_others(scene: &mut Scene) -> Done {
    let others = scene.machines().count - 1;
    take_over_first(scene, others)?;
    let Ok(session) = scene.session("control") else { return Ok(()) };
    for (what, token) in [("memory", MEMORY), ("state", STATE)] {
        let name = format!("machine {others} {what} after its monitor was killed");
        scene.refuses(&name, "ENOENT", session.retrieve(tokens(others) + token));
    }
    Ok(())
}

fn take_over_first(scene: &mut Scene, count: u64) -> Done {
    let Ok(session) = scene.session("control") else { return Ok(()) };
    for number in 0..count {
        let memory = scene.retrieve_file(&session, tokens(number) + MEMORY, "memory");
        let state = scene.retrieve_file(&session, tokens(number) + STATE, "state");
        if scene.name() == "vmm.descriptors" {
            for (name, token) in [("vm", VM), ("vcpu", VCPU)] {
                let again = session.retrieve(tokens(number) + token);
                scene.check(format!("KVM {name} retrieve"), "a descriptor", said(&again, "a descriptor"));
            }
        }
        let (Some(memory), Some(state)) = (memory, state) else { continue };
        let name = name_of(number, scene.machines());
        let kvm = match open_kvm() {
            Ok(kvm) => kvm,
            Err(errno) => {
                scene.check(format!("{name} restored"), DONE, format!("{KVM}: {}", errno_name(errno)));
                continue;
            }
        };
        let monitor = start(&[("kvm", kvm.as_fd()), ("memory", memory.as_fd()), ("state", state.as_fd())])?;
        let (restored, _) = monitor.ask("restore", None).map_err(StepError::Agent)?;
        scene.check(format!("{name} restored"), DONE, &restored);
        if restored == DONE {
            monitor.tell("run", None).map_err(StepError::Agent)?;
            let hosted = Hosted::new(number, scene.machines(), monitor, &memory)?;
            scene.hosted.push(hosted);
        }
    }
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
            // One that holds goes on when it is released, one that was stopped did as soon as it was let run.
            let end = if hosted.holds() { counter() } else { hosted.begun };
            let away = end.saturating_sub(note(&hosted.note(COUNTER, 0)));
            (0..hosted.cpus).for_each(|cpu| hosted.set(cpu, Word::Release, 1));
            away
        })
        .collect();
    for (hosted, away) in all.into_iter().zip(away) {
        look_at(scene, &hosted, away, note);
        scene.hosted.push(hosted);
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
        hosted.go_on(cpu);
    }
}

const WORKS: &str = "works on";

/// What the program noticed, and what of it can be reckoned from outside.
fn account(scene: &mut Scene, hosted: &Hosted, cpu: u64, held: bool, name: &dyn Fn(&str) -> String) {
    let word = |word| hosted.word(cpu, word);
    // A process of a Linux sees no more than its memory.
    let looks_at = |kind: &(usize, Wrong)| hosted.holds() || kind.1 == Wrong::Page;
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
    let tolerance_ms = clock_tolerance_ms(true_ms);
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
        scene.tell_clock(clock_us);
    }
}

fn name_of(number: u64, machines: Machines) -> String {
    if machines.count == 1 { "machine".to_owned() } else { format!("machine {number}") }
}

impl Hosted {
    fn new(number: u64, machines: Machines, monitor: Peer, memory: &File) -> Result<Self, StepError> {
        let (system, cpus) = (machines.system, machines.cpus);
        let memory = Mapping::of_file(memory, (system.mib() << 20) as usize);
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
        let (answer, fd) = self.monitor.ask(&format!("give {name}"), None).map_err(StepError::Agent)?;
        fd.ok_or_else(|| StepError::Agent(format!("the monitor gave no {name}: {answer}")))
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

const KVM: &str = "/dev/kvm";

fn open_kvm() -> Result<OwnedFd, rustix::io::Errno> {
    let opened = File::options().read(true).write(true).open(KVM);
    opened.map(OwnedFd::from).map_err(|error| errno(&error))
}
