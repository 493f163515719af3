//! Which virtual machines a case has, in which stages they are brought through the update, and which process is killed when.

use std::time::Duration;

/// A process that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Broker,
    /// The monitor of the last machine.
    Monitor,
    Orchestrator,
}

impl Victim {
    /// Its name in probes and workloads.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Monitor => "monitor",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// What has been reached, in this order: up to [`Stage::Preserved`] in the source, from [`Stage::Claimed`] on in the target. All
/// machines reach a stage before any goes on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The session exists, and the machines run.
    Ready,
    /// No machine has a device.
    Detached,
    /// The machines are paused, and their state is saved.
    Paused,
    /// Memory and state are preserved.
    Preserved,
    /// The broker has the session.
    Claimed,
    /// Each monitor has memory and state.
    Retrieved,
    /// The machines exist again, paused.
    Restored,
    /// The machines run.
    Running,
}

impl Stage {
    pub(super) const SOURCE: [Self; 4] = [Self::Ready, Self::Detached, Self::Paused, Self::Preserved];
    pub(super) const TARGET: [Self; 4] = [Self::Claimed, Self::Retrieved, Self::Restored, Self::Running];

    /// Its name in probes and workloads.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Detached => "detached",
            Self::Paused => "paused",
            Self::Preserved => "preserved",
            Self::Claimed => "claimed",
            Self::Retrieved => "retrieved",
            Self::Restored => "restored",
            Self::Running => "running",
        }
    }

    /// The command that has the orchestrator bring a machine to this stage; none for a stage of the session.
    pub(super) fn command(self, number: u64) -> Option<String> {
        let first = first_token(number) + MEMORY;
        match self {
            Self::Ready | Self::Claimed => None,
            Self::Detached => Some(format!("detach {number}")),
            Self::Paused => Some(format!("pause {number}")),
            Self::Preserved => Some(format!("preserve {number} {first}")),
            Self::Retrieved => Some(format!("retrieve {number} {first}")),
            Self::Restored => Some(format!("restore {number}")),
            Self::Running => Some(format!("run {number}")),
        }
    }
}

/// What a machine runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// The bare-metal program of `images/program`, which can be asked to hold in a known state.
    Program,
    /// The target's kernel with a process of the agent, which is paused wherever it is.
    Linux,
}

impl System {
    /// Whether it can be asked to hold.
    pub(super) const fn holds(self) -> bool {
        matches!(self, Self::Program)
    }

    /// How long it may take to its first beat, or between two.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Self::Program => PATIENCE,
            Self::Linux => Duration::from_secs(45),
        }
    }
}

/// The virtual machines of a case.
#[derive(Clone, Copy)]
pub(crate) struct VmSpec {
    pub(super) system: System,
    pub(super) count: u64,
    /// Processors of each machine.
    pub(super) cpus: u64,
    /// Memory of each machine, in MiB.
    pub(super) mib: u64,
    /// Whether the machine has the case's device while it runs.
    pub(super) has_device: bool,
    /// The process that is killed, if any. A monitor that is killed while its machine runs takes the machine with it.
    pub(super) kill: Option<Kill>,
}

/// Which process is killed, as soon as which stage is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) victim: Victim,
    pub(super) stage: Stage,
}

impl VmSpec {
    /// No machine.
    pub(crate) const NONE: Self =
        Self { system: System::Program, count: 0, cpus: 0, mib: 0, has_device: false, kill: None };

    /// Whether this process is killed at this stage.
    pub(super) fn kills(self, victim: Victim, stage: Stage) -> bool {
        self.kill == Some(Kill { victim, stage })
    }

    /// The numbers of the machines that have to exist in the target.
    pub(super) fn surviving(self) -> std::ops::Range<u64> {
        0..self.count - u64::from(self.kills(Victim::Monitor, Stage::Ready))
    }

    /// What a machine is called in probes.
    pub(super) fn name_of(self, number: u64) -> String {
        if self.count == 1 { "machine".to_owned() } else { format!("machine {number}") }
    }
}

/// The manifest's token in the session `control`.
pub(super) const MANIFEST_TOKEN: u64 = 1;

/// The first of the 16 tokens that a machine has in the session of machines.
pub(super) const fn first_token(number: u64) -> u64 {
    (number + 1) * 16
}

/// Which of its tokens a machine's memory has, and its state, and KVM's own descriptors.
pub(super) const MEMORY: u64 = 0;
pub(super) const STATE: u64 = 1;
pub(super) const KVM_DESCRIPTORS: [(&str, u64); 2] = [("vm", 2), ("vcpu", 3)];

/// How long a machine may take for what takes it a second alone, and a few seconds among many machines.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
