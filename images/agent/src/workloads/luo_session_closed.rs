//! `luo.session-closed`: what its holder gave back before the kexec is not handed over, and what it kept is.
//!
//! The kernel's luo_session_release() (kernel/liveupdate/luo_session.c) takes back what an outgoing session preserves.

use super::{StepError, Workload, observed, open_device, said};
use crate::luo::Session;
use luqual_protocol::{Place, Probe};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, memfd_create};

/// Shows that the kernel hands sessions over at all: without it, a missing session would say nothing.
const KEPT: &str = "luqual-kept";
const CLOSED: &str = "luqual-closed";
const TOKEN: u64 = 1;

/// The state of the workload on one side.
#[derive(Default)]
pub(super) struct SessionClosed {
    kept: Option<(Session, OwnedFd)>,
}

impl Workload for SessionClosed {
    fn preserve(&mut self, _seed: u64) -> Result<Vec<Probe>, StepError> {
        let device = open_device()?;
        let open = |name: &str| -> Result<(Session, OwnedFd), StepError> {
            let memfd = memfd_create(name, MemfdFlags::CLOEXEC).map_err(StepError::agent(name))?;
            rustix::io::write(&memfd, name.as_bytes()).map_err(StepError::agent(name))?;
            let refused = |call| StepError::refused(call, format!("session {name}"));
            let session = device.create_session(name).map_err(refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION"))?;
            session.preserve(memfd.as_fd(), TOKEN).map_err(refused("ioctl LIVEUPDATE_SESSION_PRESERVE_FD"))?;
            Ok((session, memfd))
        };
        self.kept = Some(open(KEPT)?);
        // Both descriptors are closed here; the session's is the one that counts.
        drop(open(CLOSED)?);
        Ok(Vec::new())
    }

    fn locate(&self, _place: &Place) -> Result<Option<u64>, StepError> {
        Ok(None)
    }

    fn retrieve(&mut self, _seed: u64) -> Result<Vec<Probe>, StepError> {
        let device = open_device()?;
        let kept = device.retrieve_session(KEPT);
        let mut probes =
            vec![Probe::compare(format!("session {KEPT} retrieve"), "a session", said(&kept, "a session"))];
        let closed = device.retrieve_session(CLOSED);
        probes.push(Probe::compare(format!("session {CLOSED}"), "ENOENT", said(&closed, "a session")));
        if let Ok(session) = kept {
            let memfd = session.retrieve(TOKEN);
            let observed = said(&memfd, "a descriptor");
            probes.push(Probe::compare(format!("memfd of {KEPT} retrieve"), "a descriptor", observed));
            self.kept = memfd.ok().map(|memfd| (session, memfd));
        }
        Ok(probes)
    }

    fn verify(&mut self) -> Result<Vec<Probe>, StepError> {
        // One that was not retrieved has its own probe, which did not hold.
        let Some((_, memfd)) = &self.kept else { return Ok(Vec::new()) };
        let mut bytes = [0; 64];
        let length = rustix::io::pread(memfd, &mut bytes, 0);
        let content = length.map(|length| String::from_utf8_lossy(&bytes[..length]));
        Ok(vec![Probe::compare(format!("memfd of {KEPT} content"), KEPT, observed(content))])
    }

    fn finish(&mut self) -> Result<Vec<Probe>, StepError> {
        let Some((session, _)) = self.kept.take() else { return Ok(Vec::new()) };
        Ok(vec![Probe::compare("session finish", "finished", said(&session.finish(), "finished"))])
    }
}
