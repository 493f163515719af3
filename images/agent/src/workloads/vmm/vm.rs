//! A virtual machine of a case.

use super::spec::{PATIENCE, System, VmSpec};
use crate::errno::{errno, errno_name};
use crate::helper::{Helper, NOBODY};
use crate::mapping::Mapping;
use crate::tsc;
use crate::vmm::State;
use crate::wait::until;
use crate::workloads::error::StepError;
use luqual_program::{ACCOUNTS, MAGIC, PAGE, Word};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::fs::File;

/// The names of notes in the manifest, and of counts in a machine's account.
pub(super) const COUNTER: &str = "counter";
pub(super) const HOLDS: &str = "holds";
pub(super) const ROUNDS: &str = "rounds";
pub(super) const MOVES: &str = "moves of the device";

/// What a processor counts, by name.
pub(super) const COUNTED: [(&str, Word); 9] = [
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

/// A virtual machine under test, as it is seen from outside: its monitor, and its memory.
pub(crate) struct Vm {
    pub(super) number: u64,
    /// What it is called in probes.
    pub(super) name: String,
    pub(super) monitor: Helper,
    pub(super) memory: Mapping,
    pub(super) system: System,
    pub(super) cpus: u64,
    /// The time stamp counter when it started, or was seen to run again.
    pub(super) running_since: u64,
}

impl Vm {
    /// The machine of this monitor.
    pub(super) fn new(number: u64, spec: VmSpec, monitor: Helper) -> Result<Self, StepError> {
        let (system, cpus) = (spec.system, spec.cpus);
        let memory = File::from(monitor.get_fd("memory").map_err(StepError::Agent)?);
        let memory = Mapping::of_file(&memory, (spec.mib << 20) as usize);
        let memory = memory.map_err(StepError::agent("the machine's memory"))?;
        Ok(Self { number, name: spec.name_of(number), monitor, memory, system, cpus, running_since: tsc::read() })
    }

    /// Whether it can be asked to hold in a known state.
    pub(super) fn holds(&self) -> bool {
        self.system.holds()
    }

    /// Stops the changes of its account; whether that succeeded.
    pub(super) fn freeze(&self, cpu: u64) -> bool {
        match self.system {
            System::Program => self.hold(cpu),
            System::Linux => self.monitor.tell("pause", None).is_ok(),
        }
    }

    /// Lets a frozen machine continue.
    pub(super) fn thaw(&self, cpu: u64) {
        match self.system {
            System::Program => self.set(cpu, Word::Release, 1),
            System::Linux => drop(self.monitor.tell("run", None)),
        }
    }

    /// The name of a note about one of its processors in the manifest.
    pub(super) fn note(&self, what: &str, cpu: u64) -> String {
        format!("{} cpu {cpu} {what}", self.name)
    }

    /// Waits until each processor has worked in all of its pages once. That may take any time as long as its beat grows: a busy
    /// host is slow, and not wrong.
    pub(super) fn works(&self) -> bool {
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

    /// A copy of a descriptor that its monitor holds.
    pub(super) fn get_fd(&self, name: &str) -> Result<OwnedFd, StepError> {
        self.monitor.get_fd(name).map_err(StepError::Agent)
    }

    /// A word of a processor's account.
    pub(super) fn word(&self, cpu: u64, word: Word) -> u64 {
        self.word_at(cpu, word as usize)
    }

    /// The word at this index of a processor's account.
    pub(super) fn word_at(&self, cpu: u64, place: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read((ACCOUNTS + cpu * PAGE) as usize + place * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Sets a word of a processor's account.
    pub(super) fn set(&self, cpu: u64, word: Word, value: u64) {
        self.memory.fill((ACCOUNTS + cpu * PAGE) as usize + word as usize * 8, &value.to_le_bytes());
    }

    /// Asks a processor to hold, and waits until it does.
    pub(super) fn hold(&self, cpu: u64) -> bool {
        // The previous hold has to end first.
        until(PATIENCE, || self.word(cpu, Word::HoldAsked) == 0);
        self.set(cpu, Word::HoldAsked, 1);
        until(PATIENCE, || self.word(cpu, Word::Holding) == 1)
    }

    /// Waits until it has used its device a few times more than `before`; whether it did.
    pub(super) fn uses_device(&self, before: u64) -> bool {
        until(PATIENCE, || self.word(0, Word::DeviceDone) >= before + 3)
    }

    /// Whether all of its processors hold.
    pub(super) fn is_held(&self) -> bool {
        (0..self.cpus).all(|cpu| self.word(cpu, Word::Holding) == 1)
    }

    /// The account in short and the places of the processors, for a message.
    pub(super) fn summary(&self) -> String {
        // The answer to `pause` says why a processor has ended.
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
        let state = self.get_fd("state").ok().and_then(|state| State::read_from(&File::from(state)).ok());
        let places = state.into_iter().flat_map(|state| state.cpus).map(|cpu| {
            let (regs, halted) = (cpu.regs, cpu.mp_state.mp_state);
            format!("RIP {:#x}, RFLAGS {:#x}, mp_state {halted}", regs.rip, regs.rflags)
        });
        let words: Vec<String> = all.chain(places).collect();
        format!("{}; paused: {paused}", words.join(", "))
    }
}

const KVM: &str = "/dev/kvm";

fn open_kvm() -> Result<OwnedFd, Errno> {
    let opened = File::options().read(true).write(true).open(KVM);
    opened.map(OwnedFd::from).map_err(|error| errno(&error))
}

/// Starts a monitor and gives it /dev/kvm. Without /dev/kvm the case cannot run.
pub(super) fn start_monitor() -> Result<Helper, StepError> {
    let kvm = open_kvm().map_err(|errno| StepError::Missing(format!("{KVM}: {}", errno_name(errno))))?;
    let monitor = Helper::start_monitor(NOBODY).map_err(StepError::Agent)?;
    monitor.tell("take kvm", Some(kvm.as_fd())).map_err(StepError::Agent)?;
    Ok(monitor)
}
