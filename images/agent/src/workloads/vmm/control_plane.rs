//! The processes that bring machines through an update: a broker, which owns /dev/liveupdate, an orchestrator, which says what
//! happens next, and the monitors. The agent is what a service manager is on a host: it starts the processes, connects them, and
//! keeps a copy of the session (as systemd does, FDSTORE in sd_notify(3)). The case says which process is killed when.

use super::spec::Stage;
use super::vm::Vm;
use crate::channel::DONE;
use crate::helper::Helper;
use crate::vmm::orchestrator::{ITEMS, SESSION, item};
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, OwnedFd};

/// The broker and the orchestrator. The monitors are with their machines.
pub(crate) struct ControlPlane {
    broker: Helper,
    orchestrator: Helper,
    /// The session's name.
    name: String,
    /// A copy of the session, once it was claimed.
    stored: Option<OwnedFd>,
}

fn agent<T>(result: Result<T, String>) -> Result<T, StepError> {
    result.map_err(StepError::Agent)
}

impl ControlPlane {
    /// Starts both processes, in a source or in a target.
    pub(super) fn start(name: String) -> Result<Self, StepError> {
        let (broker, orchestrator) = (agent(Helper::start(0))?, agent(Helper::start_orchestrator())?);
        agent(orchestrator.tell("take broker", Some(broker.as_fd())))?;
        Ok(Self { broker, orchestrator, name, stored: None })
    }

    /// In a source: has the broker create the session of the machines.
    pub(super) fn create_session(&self) -> Result<(), StepError> {
        let (answer, _) = agent(self.broker.ask(&format!("create {SESSION} {}", self.name), None))?;
        if answer == DONE {
            return Ok(());
        }
        let (call, about) = ("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION".to_owned(), format!("session {SESSION}"));
        Err(StepError::Declined { call, how: answer, about })
    }

    /// In a target: has the broker retrieve the session. Returns the answer.
    pub(super) fn claim(&mut self) -> Result<String, StepError> {
        let (answer, _) = agent(self.orchestrator.ask(&format!("claim {}", self.name), None))?;
        if answer == DONE {
            self.stored = Some(agent(self.broker.get_fd(SESSION))?);
        }
        Ok(answer)
    }

    /// Connects the orchestrator to a machine's monitor.
    pub(super) fn add_monitor(&self, number: u64, monitor: &Helper) -> Result<(), StepError> {
        agent(self.orchestrator.tell(&format!("take {number}"), Some(monitor.as_fd())))
    }

    /// Brings a machine to a stage. Returns the answer.
    pub(super) fn bring_to(&self, stage: Stage, number: u64) -> Result<String, StepError> {
        let Some(command) = stage.command(number) else { return Ok(DONE.to_owned()) };
        agent(self.orchestrator.ask(&command, None)).map(|(answer, _)| answer)
    }

    /// Gives a machine the device of this node.
    pub(super) fn attach(&self, number: u64, node: &str) -> Result<(), StepError> {
        agent(self.orchestrator.tell(&format!("attach {number} {node}"), None))
    }

    /// Kills the orchestrator and starts another, which is connected to the same processes.
    pub(super) fn replace_orchestrator<'a>(
        &mut self,
        monitors: impl Iterator<Item = (u64, &'a Helper)>,
    ) -> Result<(), StepError> {
        let next = agent(Helper::start_orchestrator())?;
        agent(std::mem::replace(&mut self.orchestrator, next).kill())?;
        agent(self.orchestrator.tell("take broker", Some(self.broker.as_fd())))?;
        for (number, monitor) in monitors {
            self.add_monitor(number, monitor)?;
        }
        Ok(())
    }

    /// Kills the broker, which loses all of its descriptors, and starts another with the copy of the session, if there is one.
    pub(super) fn replace_broker(&mut self) -> Result<(), StepError> {
        let next = agent(Helper::start(0))?;
        agent(std::mem::replace(&mut self.broker, next).kill())?;
        agent(self.orchestrator.tell("take broker", Some(self.broker.as_fd())))?;
        match &self.stored {
            Some(session) => agent(self.broker.tell(&format!("take {SESSION}"), Some(session.as_fd()))),
            // The session has ended with the old broker, so its name is free again.
            None => self.create_session(),
        }
    }

    /// In a target, at the end: finishes the session and drops what belongs to it. Returns the answer to `finish`.
    pub(super) fn finish(&mut self, numbers: impl Iterator<Item = u64>) -> Result<String, StepError> {
        let (answer, _) = agent(self.broker.ask(&format!("finish {SESSION}"), None))?;
        self.stored = None;
        agent(self.broker.tell(&format!("drop {SESSION}"), None))?;
        for number in numbers {
            for name in ITEMS {
                // An item that was lost is not held.
                drop(self.broker.ask(&format!("drop {}", item(name, &number.to_string())), None));
            }
        }
        Ok(answer)
    }

    /// Has the broker retrieve a token. Returns the answer.
    pub(super) fn retrieve(&self, name: &str, token: u64) -> Result<String, StepError> {
        agent(self.broker.ask(&format!("retrieve {SESSION} {name} {token}"), None)).map(|(answer, _)| answer)
    }

    /// Has the broker preserve a descriptor of a machine. Returns the answer.
    pub(super) fn preserve(&self, vm: &Vm, name: &str, token: u64) -> Result<String, StepError> {
        agent(self.broker.tell(&format!("take {name}"), Some(vm.get_fd(name)?.as_fd())))?;
        agent(self.broker.ask(&format!("preserve {SESSION} {name} {token}"), None)).map(|(answer, _)| answer)
    }
}
