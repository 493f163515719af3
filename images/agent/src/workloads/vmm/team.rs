//! Who brings machines through an update, each a process: a broker that owns /dev/liveupdate, an orchestrator that says what comes
//! next, and the monitors. The agent is what init is on a host: it starts them, keeps the lines to them, and a copy of the session
//! (as systemd does, FDSTORE in sd_notify(3)). Who dies when is the case's.

use super::{Hosted, KVM, MEMORY, errno_name, open_kvm, tokens};
use crate::orchestrator::{SESSION, item};
use crate::peer::{DONE, Peer};
use crate::workloads::StepError;
use rustix::fd::{AsFd, OwnedFd};

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Broker,
    /// The last machine's.
    Monitor,
    Orchestrator,
}

/// What has come to be so, in this order: up to [`Step::Preserved`] in the source, from [`Step::Claimed`] on in the target. What is
/// asked of a machine at each is asked of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The session is there, the machines run.
    Ready,
    /// No machine has a device.
    Detached,
    Paused,
    Preserved,
    /// The broker has the session.
    Claimed,
    /// Each monitor has memory and state.
    Retrieved,
    /// The machines are there, paused.
    Restored,
    Running,
}

impl Step {
    pub(super) const SOURCE: [Self; 4] = [Self::Ready, Self::Detached, Self::Paused, Self::Preserved];
    pub(super) const TARGET: [Self; 4] = [Self::Claimed, Self::Retrieved, Self::Restored, Self::Running];

    /// Of the session or of each machine: what the orchestrator is told.
    fn order(self, number: u64) -> Option<String> {
        let first = tokens(number) + MEMORY;
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

/// The processes but the monitors, which are with their machines.
pub(crate) struct Team {
    pub(super) broker: Peer,
    orchestrator: Peer,
    /// The session's name.
    name: String,
    /// A copy of it, from when it was claimed.
    stored: Option<OwnedFd>,
}

fn agent<T>(result: Result<T, String>) -> Result<T, StepError> {
    result.map_err(StepError::Agent)
}

impl Team {
    /// In a source, and in a target.
    pub(super) fn start(name: String) -> Result<Self, StepError> {
        let (broker, orchestrator) = (agent(Peer::start(0))?, agent(Peer::start_orchestrator())?);
        agent(orchestrator.tell("take broker", Some(broker.as_fd())))?;
        Ok(Self { broker, orchestrator, name, stored: None })
    }

    /// In a source: a session for what is about to be handed over. One that was retrieved was finished.
    pub(super) fn open(&self) -> Result<(), StepError> {
        let (answer, _) = agent(self.broker.ask(&format!("create {SESSION} {}", self.name), None))?;
        if answer == DONE {
            return Ok(());
        }
        let (call, about) = ("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION".to_owned(), format!("session {SESSION}"));
        Err(StepError::Declined { call, how: answer, about })
    }

    /// In a target: what came of asking for the session.
    pub(super) fn claim(&mut self) -> Result<String, StepError> {
        let (answer, _) = agent(self.orchestrator.ask(&format!("claim {}", self.name), None))?;
        if answer == DONE {
            self.stored = Some(agent(self.broker.give(SESSION))?);
        }
        Ok(answer)
    }

    /// From here on it can be spoken to.
    pub(super) fn take_on(&self, number: u64, monitor: &Peer) -> Result<(), StepError> {
        agent(self.orchestrator.tell(&format!("take {number}"), Some(monitor.as_fd())))
    }

    /// Has the step come to be so for a machine: what is answered.
    pub(super) fn come_to(&self, step: Step, number: u64) -> Result<String, StepError> {
        let Some(order) = step.order(number) else { return Ok(DONE.to_owned()) };
        agent(self.orchestrator.ask(&order, None)).map(|(answer, _)| answer)
    }

    /// Gives a machine the device of that node.
    pub(super) fn attach(&self, number: u64, node: &str) -> Result<(), StepError> {
        agent(self.orchestrator.tell(&format!("attach {number} {node}"), None))
    }

    /// Ends the orchestrator; another takes over, with the lines that init kept.
    pub(super) fn replace_orchestrator<'a>(
        &mut self,
        monitors: impl Iterator<Item = (u64, &'a Peer)>,
    ) -> Result<(), StepError> {
        let next = agent(Peer::start_orchestrator())?;
        agent(std::mem::replace(&mut self.orchestrator, next).kill())?;
        agent(self.orchestrator.tell("take broker", Some(self.broker.as_fd())))?;
        for (number, monitor) in monitors {
            self.take_on(number, monitor)?;
        }
        Ok(())
    }

    /// Ends the broker, and with it every descriptor that it had. The next one has the session that init has, if it has it.
    pub(super) fn replace_broker(&mut self) -> Result<(), StepError> {
        let next = agent(Peer::start(0))?;
        agent(std::mem::replace(&mut self.broker, next).kill())?;
        agent(self.orchestrator.tell("take broker", Some(self.broker.as_fd())))?;
        match &self.stored {
            Some(session) => agent(self.broker.tell(&format!("take {SESSION}"), Some(session.as_fd()))),
            // The name is free again: what the dead one had preserved is no longer.
            None => self.open(),
        }
    }

    /// In a target, at the end: what came of telling the kernel that all was taken over. Nothing of it is held any longer.
    pub(super) fn finish(&mut self, numbers: impl Iterator<Item = u64>) -> Result<String, StepError> {
        let (answer, _) = agent(self.broker.ask(&format!("finish {SESSION}"), None))?;
        self.stored = None;
        agent(self.broker.tell(&format!("drop {SESSION}"), None))?;
        for number in numbers {
            for name in crate::orchestrator::ITEMS {
                // One that was lost was never there.
                drop(self.broker.ask(&format!("drop {}", item(name, &number.to_string())), None));
            }
        }
        Ok(answer)
    }

    /// What the broker is answered when it asks for that token.
    pub(super) fn retrieve(&self, name: &str, token: u64) -> Result<String, StepError> {
        agent(self.broker.ask(&format!("retrieve {SESSION} {name} {token}"), None)).map(|(answer, _)| answer)
    }

    /// What the broker is answered when it is to preserve that too.
    pub(super) fn preserve(&self, hosted: &Hosted, name: &str, token: u64) -> Result<String, StepError> {
        agent(self.broker.tell(&format!("take {name}"), Some(hosted.give(name)?.as_fd())))?;
        agent(self.broker.ask(&format!("preserve {SESSION} {name} {token}"), None)).map(|(answer, _)| answer)
    }
}

/// A monitor that has /dev/kvm; where that is not there, it is missing.
pub(super) fn start_monitor() -> Result<Peer, StepError> {
    let kvm = open_kvm().map_err(|errno| StepError::Missing(format!("{KVM}: {}", errno_name(errno))))?;
    let monitor = agent(Peer::start_vmm(crate::peer::NOBODY))?;
    agent(monitor.tell("take kvm", Some(kvm.as_fd())))?;
    Ok(monitor)
}
