//! The update from one kernel to the next, what was loaded for it, and the collection of the last kernel's log.

use super::connect::{ask, connect_next};
use super::driver::{BootDriver, Going, Line, no_machine};
use super::guard::{At, Watched};
use super::kexec_images::wrong_file;
use super::late_log::left_log;
use super::steps::BootStep;
use crate::inject;
use crate::judge::{Link, Stop};
use crate::lab::{Guest, Machine};
use crate::observe::Ticks;
use luqual_model::Phase;
use luqual_model::bounds::{KERNEL_LOG_HALF, head_and_tail};
use luqual_protocol::{Hello, KernelLog, Next, Reply, Request, Said};
use luqual_vm::MachineEnd;
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

/// How long ticks have to be missing for the source to be gone.
const SILENCE: Duration = Duration::from_millis(100);

impl BootDriver<'_> {
    /// Whether the guest has loaded the files that it was given for the next kernel. If it has not, somebody has changed
    /// them, and what the next guest says is worth nothing.
    pub(super) fn check_loaded(&self, request: &Request, said: &Said) -> Result<(), Stop> {
        let Request::Load { kernel, carry, .. } = request else { return Ok(()) };
        match wrong_file(self.machine()?.files(), &said.loaded, *kernel, carry) {
            Some(wrong) => {
                Err(Stop::Agent(format!("the files for the next kernel were changed in the guest: {wrong}")))
            }
            None => Ok(()),
        }
    }

    /// The kexec phase: from the kexec request until the kernel is left.
    pub(super) async fn kexec(&mut self, guest: &Rc<dyn Guest>) -> Result<(), Stop> {
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let (ticks, fault, hop) = (self.ticks.last(), self.live_fault(), self.hop);
        let watched = Watched::running(machine, ticks, self.last_words());
        let mut going = Going::ask(guest.clone());
        let body = async {
            inject::end(fault, Phase::Kexec, machine, Some(&**guest)).await?;
            tokio::select! {
                biased;
                reply = &mut going.reply => Ok(Some(reply)),
                () = left(machine, ticks, hop) => Ok(None),
            }
        };
        match self.guard.phase(At { phase: Phase::Kexec, hop, part: None }, watched, body).await? {
            // A refusal can still come until the next kernel answers. For a guest without a connection, the next
            // reply is the next kernel's.
            None => self.going = Some(going).filter(|going| going.guest.agent_is_asked()),
            Some(Reply::Hello(_)) => {}
            Some(reply) => return Err(self.does_not_leave(reply, &**guest).await),
        }
        Ok(())
    }

    /// Handles a refused kexec.
    async fn does_not_leave(&mut self, reply: Reply, guest: &dyn Guest) -> Stop {
        let next = self.progression.after(&Request::Kexec, &reply);
        self.not_done(Phase::Kexec, reply, next, guest).await
    }

    /// The reconnect phase: from the last tick to a handshake that proves the next kernel.
    pub(super) async fn reconnect(&mut self, hop: u32, line: &Line<'_>) -> Result<(Rc<dyn Guest>, Hello), Stop> {
        let mut going = self.going.take();
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let (fault, link) = (self.live_fault(), RefCell::new(Link::default()));
        let watched =
            Watched { machine: Some(machine), link: Some(&link), last_words: self.last_words(), ..Watched::default() };
        let [now, next] = [hop - 1, hop].map(|hop| &line.identities[hop as usize]);
        let body = async {
            inject::end(fault, Phase::Reconnect, machine, None).await?;
            let refusal = async {
                match &mut going {
                    Some(going) => (&mut going.reply).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reply = refusal => Ok(Err(reply)),
                reached = connect_next(machine, line.keys, &line.log, hop, (now, next), &link) => reached.map(Ok),
            }
        };
        match self.guard.phase(At { phase: Phase::Reconnect, hop, part: None }, watched, body).await? {
            Ok(reached) => Ok(reached),
            Err(reply) => match going {
                Some(going) => Err(self.does_not_leave(reply, &*going.guest).await),
                None => Err(no_machine()),
            },
        }
    }

    /// Collects the log of a kernel that is about to be left: the console can have lost lines, and with `quiet` it has
    /// no warnings at all.
    pub(super) async fn collect_before_kexec(&mut self, step: &BootStep, guest: &dyn Guest) -> Result<(), Stop> {
        let at = At { phase: step.phase, hop: self.hop, part: None };
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let watched = Watched::running(machine, self.ticks.last(), self.last_words());
        match self.guard.phase(at, watched, ask(guest, &Request::KernelLog)).await? {
            Reply::KernelLog(log) => {
                self.read_late_log(&log)?;
                self.collected(log, &left_log(self.hop))
            }
            reply => Err(self.not_done(step.phase, reply, Next::Stop, guest).await),
        }
    }

    /// The collect phase: the log of the last kernel.
    pub(super) async fn collect(&mut self, step: &BootStep, guest: &dyn Guest) -> Result<(), Stop> {
        let at = At { phase: step.phase, hop: self.hop, part: None };
        let is_alone = self.host.deterministic;
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let watched = Watched::running(machine, self.ticks.last(), self.last_words());
        let fault = self.live_fault();
        let body = async {
            inject::end(fault, step.phase, machine, Some(guest)).await?;
            let reply = ask(guest, &Request::KernelLog).await?;
            // A guest without a connection powers its machine off when it is done.
            if is_alone {
                match machine.wait_end().await {
                    MachineEnd::PoweredOff => {}
                    end => return Err(Stop::Machine(end)),
                }
            }
            Ok(reply)
        };
        match self.guard.phase(at, watched, body).await? {
            Reply::KernelLog(log) => self.collected(log, "kmsg.log"),
            reply => Err(self.not_done(step.phase, reply, Next::Stop, guest).await),
        }
    }

    fn collected(&mut self, log: KernelLog, name: &str) -> Result<(), Stop> {
        self.kernels.add_taint(self.hop, log.taint);
        let (head, left_out, tail) = head_and_tail(&log.lines, KERNEL_LOG_HALF);
        let note = (left_out > 0).then(|| format!("… {left_out} lines left out here …"));
        let kept: Vec<&str> =
            head.iter().map(String::as_str).chain(note.as_deref()).chain(tail.iter().map(String::as_str)).collect();
        fs::write(self.logs.join(name), kept.join("\n") + "\n").map_err(Stop::host(name))?;
        self.kernels.logs.push((self.hop, log.lines));
        Ok(())
    }
}

impl Going {
    fn ask(guest: Rc<dyn Guest>) -> Self {
        let asked = guest.clone();
        let reply = Box::pin(async move {
            match asked.ask(&Request::Kexec).await {
                Ok(reply) => reply,
                // The connection ends with its kernel.
                Err(_) => std::future::pending().await,
            }
        });
        Self { guest, reply }
    }
}

/// Waits until a kernel has been left. Ticks that stop show it. If ticks are not watched, the kernel's last console
/// line shows it, or the first line of the next kernel; a kernel that dies before its banner was entered, too.
async fn left(machine: &dyn Machine, ticks: Option<&Ticks>, hop: u32) {
    match ticks {
        Some(ticks) => ticks.stopped(SILENCE).await,
        None => {
            let console = machine.console();
            tokio::select! {
                () = console.saw(LEAVING, hop as usize + 1) => {}
                () = console.began(hop + 2) => {}
            }
        }
    }
}

/// A kernel's last console line before the next kernel (kernel/kexec_core.c, kernel_kexec()).
const LEAVING: &str = "kexec_core: Starting new kernel";
