//! Faults that are injected into what a workload has preserved, to see that they are found. A fault that cannot be
//! injected is an error of the agent: without it the cell says nothing.

use super::Context;
use super::steps::labels;
use crate::luo::{Device, Session};
use crate::mapping::PAGE;
use crate::memfd::Memfd;
use crate::workloads::case::PreservedMemfd;
use crate::workloads::error::StepError;
use luqual_protocol::GuestFault;
use rustix::fd::AsFd;
use rustix::fs::{FallocateFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, seek};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::fs::File;
use std::rc::Rc;

type Done = Result<(), StepError>;

/// How far the wall clock is set, in seconds.
const STEP: i64 = 3600;

impl Context {
    /// Injects a fault into what this kernel preserves or has retrieved.
    pub(crate) fn tamper(&mut self, fault: GuestFault, names: &[String]) -> Done {
        let name = names.first().map_or("", String::as_str);
        match fault {
            GuestFault::Offset | GuestFault::OffsetLater => {
                let memfd = self.tampered(name)?;
                seek(memfd.as_ref(), SeekFrom::Current(1)).map(drop).map_err(StepError::agent("seek"))
            }
            GuestFault::Sealed => {
                let memfd = self.tampered(name)?;
                fcntl_add_seals(memfd.as_ref(), SealFlags::SHRINK).map_err(StepError::agent("F_ADD_SEALS"))
            }
            GuestFault::OtherContent => {
                let (known, seed) = (self.known(name)?, self.seed);
                let other = known.memfd.make(!seed).map_err(StepError::agent("a memfd"))?;
                self.keep(known.memfd.name, other);
                self.preserve_again(|kept| Some((kept.session, kept.token)))
            }
            GuestFault::NotPreserved => {
                let left_out = self.known(name)?.memfd.name;
                self.preserve_again(|kept| (kept.memfd.name != left_out).then_some((kept.session, kept.token)))
            }
            GuestFault::Swapped => {
                let (one, other) = (self.known(name)?, self.known(second(names)?)?);
                self.preserve_again(|kept| {
                    let of = match kept.memfd.name {
                        name if name == one.memfd.name => other,
                        name if name == other.memfd.name => one,
                        _ => kept,
                    };
                    Some((of.session, of.token))
                })
            }
            GuestFault::SessionClosed => {
                self.known_session(name)?;
                self.close(name);
                Ok(())
            }
            GuestFault::SessionRenamed => self.rename_session(name),
            GuestFault::ClockStep => step_clock(),
            GuestFault::Longer => {
                let memfd = self.tampered(name)?;
                resize(&memfd, |size| size + 1)
            }
            GuestFault::Shorter => {
                let memfd = self.tampered(name)?;
                resize(&memfd, |size| size.saturating_sub(1))
            }
            GuestFault::Hole => {
                let memfd = self.tampered(name)?;
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(memfd.as_ref(), punch, 0, PAGE as u64).map_err(StepError::agent("fallocate"))
            }
            GuestFault::Confused => {
                let (one, other) = (self.known(name)?.memfd.name, self.known(second(names)?)?.memfd.name);
                let (first, then) = (self.tampered(one)?, self.tampered(other)?);
                self.memfds.insert(one, then);
                self.memfds.insert(other, first);
                Ok(())
            }
            GuestFault::Mute => {
                self.mute = true;
                Ok(())
            }
            GuestFault::SessionTaken | GuestFault::SessionFinished => {
                Err(StepError::Agent("this fault is injected before retrieve".to_owned()))
            }
        }
    }

    /// A memfd that is kept, by the name that the host sent.
    fn known(&self, name: &str) -> Result<&'static PreservedMemfd, StepError> {
        let kept = self.case.kept.iter().find(|kept| kept.memfd.name == name);
        kept.ok_or_else(|| self.has_no("memfd", name))
    }

    fn known_session(&self, label: &str) -> Done {
        let is_known = labels(self.case).contains(&label) && self.sessions.contains_key(label);
        if is_known { Ok(()) } else { Err(self.has_no("session", label)) }
    }

    fn has_no(&self, what: &str, name: &str) -> StepError {
        StepError::Agent(format!("{} has no {what} {name} into which a fault could be injected", self.case.name))
    }

    fn tampered(&self, name: &str) -> Result<Rc<File>, StepError> {
        self.kept(self.known(name)?.memfd.name)
    }

    /// Makes all sessions again, and preserves each memfd with the session and the token that `place` has for it.
    fn preserve_again(&mut self, place: impl Fn(&'static PreservedMemfd) -> Option<(&'static str, u64)>) -> Done {
        let labels = labels(self.case);
        labels.iter().for_each(|label| self.close(label));
        for label in labels {
            self.create(label)?;
        }
        for kept in self.case.kept {
            if let Some((session, token)) = place(kept) {
                let (session, memfd) = (self.session(session)?, self.kept(kept.memfd.name)?);
                session.preserve(memfd.as_fd(), token).map_err(StepError::agent("preserve"))?;
            }
        }
        Ok(())
    }

    fn rename_session(&mut self, label: &str) -> Done {
        self.known_session(label)?;
        self.close(label);
        let name = format!("{}-renamed", self.session_name(label));
        let session = self.device()?.create_session(&name).map_err(StepError::agent("create a session"))?;
        for kept in self.case.kept.iter().filter(|kept| kept.session == label) {
            let memfd = self.kept(kept.memfd.name)?;
            session.preserve(memfd.as_fd(), kept.token).map_err(StepError::agent("preserve"))?;
        }
        self.keep_session(label.to_owned(), session);
        Ok(())
    }
}

fn second(names: &[String]) -> Result<&str, StepError> {
    names.get(1).map(String::as_str).ok_or_else(|| StepError::Agent("this fault has two memfds".to_owned()))
}

fn resize(memfd: &File, to: impl Fn(u64) -> u64) -> Done {
    let size = Memfd::size_of(memfd).map_err(StepError::agent("fstat"))? as u64;
    memfd.set_len(to(size)).map_err(StepError::agent("ftruncate"))
}

fn step_clock() -> Done {
    let now = clock_gettime(ClockId::Realtime);
    let then = Timespec { tv_sec: now.tv_sec + STEP, ..now };
    clock_settime(ClockId::Realtime, then).map_err(StepError::agent("clock_settime"))
}

/// Injects a fault into the sessions of a workload that was not retrieved yet.
pub(crate) fn before_retrieve(workload: &str, fault: GuestFault, names: &[String]) -> Done {
    let label = names.first().ok_or_else(|| StepError::Agent("this fault has a session".to_owned()))?;
    let device = Device::open().map_err(StepError::agent("open /dev/liveupdate"))?;
    let session = device.retrieve_session(&format!("{workload}/{label}"));
    let session: Session = session.map_err(StepError::agent(format!("session {label}")))?;
    if fault == GuestFault::SessionFinished {
        return session.finish().map_err(StepError::agent("finish"));
    }
    // Whoever took it holds it as long as this process lives.
    std::mem::forget(session);
    Ok(())
}
