//! Sessions and memfds of a case.

use super::Context;
use crate::errno::{success_or_errno, value_or_errno};
use crate::inject::is_deceived;
use crate::luo::{DEVICE, Device, Session};
use crate::memfd::Memfd;
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::rc::Rc;

/// The observed content of a memfd that has not changed.
const SAME: &str = "every byte as it was";

impl Context {
    /// /dev/liveupdate, which stays open until the end of the step.
    pub(crate) fn device(&mut self) -> Result<Rc<Device>, StepError> {
        if let Some(device) = &self.device {
            return Ok(device.clone());
        }
        let device = Rc::new(Device::open().map_err(StepError::refused("open", DEVICE))?);
        self.device = Some(device.clone());
        Ok(device)
    }

    /// Closes /dev/liveupdate, unless the caller holds a reference to it.
    pub(crate) fn close_device(&mut self) {
        self.device = None;
    }

    /// The name of the session with this label. No other workload has a session of this name.
    pub(crate) fn session_name(&self, label: &str) -> String {
        format!("{}/{label}", self.case.name)
    }

    /// Creates a session and holds it.
    pub(crate) fn create(&mut self, label: &str) -> Result<Rc<Session>, StepError> {
        let session = self
            .device()?
            .create_session(&self.session_name(label))
            .map_err(StepError::refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION", format!("session {label}")))?;
        let session = Rc::new(session);
        self.sessions.insert(label.to_owned(), session.clone());
        Ok(session)
    }

    /// The session with this label, which the case has created or retrieved.
    pub(crate) fn session(&self, label: &str) -> Result<Rc<Session>, StepError> {
        self.sessions.get(label).cloned().ok_or_else(|| StepError::NotHeld(format!("session {label}")))
    }

    /// Holds a session that the case has created itself.
    pub(crate) fn keep_session(&mut self, label: String, session: Session) {
        self.sessions.insert(label, Rc::new(session));
    }

    /// Closes a session, unless the caller holds a reference to it.
    pub(crate) fn close(&mut self, label: &str) {
        self.sessions.remove(label);
    }

    /// Retrieves a session, with a probe that it is there.
    pub(crate) fn retrieve_session(&mut self, label: &str) -> Result<Option<Rc<Session>>, StepError> {
        let session = self.device()?.retrieve_session(&self.session_name(label));
        self.check(format!("session {label} retrieve"), "a session", success_or_errno(&session, "a session"));
        let session = session.ok().map(Rc::new);
        if let Some(session) = &session {
            self.sessions.insert(label.to_owned(), session.clone());
        }
        Ok(session)
    }

    /// Tries to retrieve a session, with a probe that it is not there.
    pub(crate) fn check_no_session(&mut self, label: &str) -> Result<(), StepError> {
        let session = self.device()?.retrieve_session(&self.session_name(label));
        self.check_refused(&format!("session {label}"), "ENOENT", session);
        Ok(())
    }

    /// Preserves a descriptor. A kernel that refuses it ends the step.
    pub(crate) fn preserve_fd(
        &self,
        session: &Session,
        fd: BorrowedFd<'_>,
        token: u64,
        what: &str,
    ) -> Result<(), StepError> {
        let refused = StepError::refused("ioctl LIVEUPDATE_SESSION_PRESERVE_FD", format!("memfd {what}"));
        session.preserve(fd, token).map_err(refused)
    }

    /// Makes a memfd that the case does not keep, preserves it, and holds it.
    pub(crate) fn make_and_preserve(&mut self, session: &Session, memfd: &Memfd, token: u64) -> Result<(), StepError> {
        let file = self.make_memfd(memfd)?;
        self.preserve_fd(session, file.as_fd(), token, memfd.name)?;
        self.hold(memfd.name, file);
        Ok(())
    }

    /// Retrieves a file, with a probe that it is there.
    pub(crate) fn retrieve_file(&mut self, session: &Session, token: u64, name: &str) -> Option<File> {
        let file = session.retrieve(token).map(File::from);
        self.check(format!("memfd {name} retrieve"), "a descriptor", success_or_errno(&file, "a descriptor"));
        file.ok()
    }

    /// Retrieves a memfd and checks it.
    pub(crate) fn retrieve_memfd(&mut self, session: &Session, token: u64, memfd: &Memfd) -> Option<File> {
        let file = self.retrieve_file(session, token, memfd.name)?;
        self.check_memfd(memfd, &file);
        Some(file)
    }

    /// Makes a memfd with its content.
    pub(crate) fn make_memfd(&self, memfd: &Memfd) -> Result<File, StepError> {
        memfd.make(self.seed).map_err(StepError::agent(format!("memfd {}", memfd.name)))
    }

    /// Checks the offset, the size and the content of a memfd.
    pub(crate) fn check_memfd(&mut self, memfd: &Memfd, file: &File) {
        // A kernel that cannot return what it preserved has lost it: an errno is an observed value here.
        let offset = seek(file, SeekFrom::Current(0));
        self.check(format!("memfd {} offset", memfd.name), memfd.offset, value_or_errno(offset));
        self.check(format!("memfd {} size", memfd.name), memfd.size, value_or_errno(Memfd::size_of(file)));
        self.check_content(memfd, file);
    }

    /// Checks the content of a memfd.
    pub(crate) fn check_content(&mut self, memfd: &Memfd, file: &File) {
        self.check_content_as(format!("memfd {} content", memfd.name), memfd, file);
    }

    /// The same with a name of its own.
    pub(crate) fn check_content_as(&mut self, name: impl Into<String>, memfd: &Memfd, file: &File) {
        let differs = if is_deceived() { Ok(None) } else { memfd.difference(file, self.seed) };
        let content = differs.map(|place| place.map_or_else(|| SAME.to_owned(), |place| place.to_string()));
        self.check(name, SAME, value_or_errno(content));
    }
}
