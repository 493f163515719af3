//! A case while it runs, on one side of a kexec: what it holds, and what it has checked. The tools of the families.

use super::owned::Owned;
use super::vmm::{Hosted, Machines, Team};
use super::{Case, StepError, observed, said};
use crate::luo::{DEVICE, Device, Session};
use crate::mapping::{Mapping, PAGE};
use crate::memfd::Memfd;
use crate::peer::Peer;
use luqual_protocol::{Account, Item, Measure, PausedMachine, Place, Probe, Reaches, Said, Written, frames};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{SeekFrom, seek};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Child;
use std::rc::Rc;
use std::time::Duration;

/// Lives from the first step on its side to the end of the process that holds it.
pub(crate) struct Scene {
    case: &'static Case,
    seed: u64,
    /// How many kexecs were made since the first source.
    hop: u32,
    /// Open for no longer than a step.
    device: Option<Rc<Device>>,
    /// By label.
    sessions: BTreeMap<String, Rc<Session>>,
    /// The kept ones by name; one that the kernel did not give back is not there.
    memfds: BTreeMap<&'static str, Rc<File>>,
    /// Whatever else is held.
    files: BTreeMap<String, OwnedFd>,
    /// Processes that live as long as this one.
    children: Vec<Child>,
    peers: Vec<Peer>,
    mappings: Vec<Mapping>,
    unpreserved: Option<Mapping>,
    /// Where the device is that the case owns.
    address: Option<String>,
    /// That device.
    owned: Option<Owned>,
    /// The virtual machines that the case has.
    pub(super) hosted: Vec<Hosted>,
    /// Who brings them through the update.
    pub(super) team: Option<Team>,
    /// Whether what is kept was preserved by this kernel, and so waits for the next one.
    is_handed_on: bool,
    said: Said,
}

const SAME: &str = "every byte as it was";

/// The steps, as they are asked for.
impl Scene {
    pub(crate) fn new(case: &'static Case, seed: u64, hop: u32, address: Option<String>) -> Self {
        Self {
            case,
            seed,
            hop,
            device: None,
            sessions: BTreeMap::new(),
            memfds: BTreeMap::new(),
            files: BTreeMap::new(),
            children: Vec::new(),
            peers: Vec::new(),
            mappings: Vec::new(),
            unpreserved: None,
            address,
            owned: None,
            hosted: Vec::new(),
            team: None,
            is_handed_on: false,
            said: Said::default(),
        }
    }

    /// Hands the state to the kernel and holds on to it. In a target that is the next source: what was retrieved.
    pub(crate) fn preserve(&mut self) -> Result<Said, StepError> {
        self.is_handed_on = true;
        if self.hop == 0 {
            self.unpreserved = Some(Mapping::locked_page().map_err(StepError::agent("a page of memory"))?);
            // All content is there before the kernel is asked for anything: memory that is short is our trouble.
            for kept in self.case.kept {
                let file = self.make(&kept.memfd)?;
                self.keep(kept.memfd.name, file);
            }
            (self.case.prepare)(self)?;
        }
        for kept in self.case.kept {
            let session = match self.sessions.get(kept.session) {
                Some(session) => session.clone(),
                None => self.create(kept.session)?,
            };
            let memfd = self.kept(kept.memfd.name)?;
            self.hand_over(&session, memfd.as_fd(), kept.token, kept.memfd.name)?;
        }
        (self.case.source)(self)?;
        Ok(self.end_step())
    }

    /// The memfd that has a page, and where that begins in it.
    fn page(&self, memfd: &str, page: u64) -> Option<(&File, u64)> {
        let at = page * PAGE as u64;
        let kept = self.case.kept.iter().find(|kept| kept.memfd.name == memfd && at < kept.memfd.size)?;
        Some((self.memfds.get(kept.memfd.name)?, at))
    }

    /// Flips the lowest bit of a byte.
    pub(crate) fn flip(&mut self, place: &Place, offset: u64) -> Result<Said, StepError> {
        let flipped = match place {
            Place::Unpreserved => self.unpreserved.as_mut().map(|page| {
                page.store(0, 1);
                Ok(())
            }),
            Place::Memfd { memfd, page } => self.page(memfd, *page).map(|(file, at)| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at + offset)?;
                file.write_all_at(&[byte[0] ^ 1], at + offset)
            }),
        };
        match flipped {
            Some(flipped) => flipped.map_err(StepError::agent(format!("a bit of {place}")))?,
            None => {
                return Err(StepError::Missing(format!(
                    "{} has no {place} in which a fault could be planted",
                    self.case.name
                )));
            }
        }
        Ok(self.end_step())
    }

    /// The guest-physical address of a page of what is kept, if there is such a page.
    pub(crate) fn locate(&self, place: &Place) -> Result<Option<u64>, StepError> {
        let address = match place {
            Place::Unpreserved => self.unpreserved.as_ref().map(|page| page.physical_address(0)),
            Place::Memfd { memfd, page } => self
                .page(memfd, *page)
                .map(|(file, at)| Mapping::page_of(file, at).and_then(|page| page.physical_address(0))),
        };
        address.transpose().map_err(StepError::agent(format!("the address of {place:?}")))
    }

    /// Falsifies something of the virtual machine that was left to the update.
    pub(crate) fn spoil(&mut self, item: Item) -> Result<Said, StepError> {
        super::vmm::spoil(self, item)?;
        Ok(self.end_step())
    }

    /// Asks the kernel for what is kept.
    pub(crate) fn retrieve(&mut self) -> Result<Said, StepError> {
        for label in labels(self.case) {
            self.retrieve_session(label)?;
        }
        for kept in self.case.kept {
            let memfd = self.sessions.get(kept.session).map(|session| session.retrieve(kept.token));
            let observed = memfd.as_ref().map_or_else(|| "no session".to_owned(), |memfd| said(memfd, "a descriptor"));
            self.check(format!("memfd {} retrieve", kept.memfd.name), "a descriptor", observed);
            if let Some(Ok(memfd)) = memfd {
                self.memfds.insert(kept.memfd.name, Rc::new(File::from(memfd)));
            }
        }
        (self.case.retrieved)(self)?;
        Ok(self.end_step())
    }

    /// Compares what is held now with what it was made from; on either side.
    pub(crate) fn verify(&mut self) -> Result<Said, StepError> {
        for kept in self.case.kept {
            // One that was not retrieved has its own probe, which did not hold.
            if let Some(file) = self.memfds.get(kept.memfd.name).cloned() {
                self.compare(&kept.memfd, &file);
            }
        }
        if self.hop > 0 && !self.is_handed_on {
            (self.case.target)(self)?;
        }
        Ok(self.end_step())
    }

    /// Tells the kernel that what is kept is taken over, and looks whether it took note.
    pub(crate) fn finish(&mut self) -> Result<Said, StepError> {
        for label in labels(self.case) {
            // Each session is closed here, after it said that it is finished.
            if let Some(session) = self.sessions.remove(label) {
                self.check(format!("session {label} finish"), "finished", said(&session.finish(), "finished"));
            }
        }
        let device = self.device()?;
        for label in labels(self.case) {
            let again = device.retrieve_session(&self.name_of(label));
            self.check(format!("session {label} after finish"), "ENOENT", said(&again, "still there"));
        }
        drop(device);
        (self.case.finished)(self)?;
        Ok(self.end_step())
    }

    fn end_step(&mut self) -> Said {
        self.device = None;
        std::mem::take(&mut self.said)
    }
}

/// What the families are made of.
impl Scene {
    /// The workload's name.
    pub(crate) fn name(&self) -> &'static str {
        self.case.name
    }

    /// What the case does with its device.
    pub(crate) fn plan(&self) -> &'static super::owned::Plan {
        &self.case.plan
    }

    /// Where the device is that the case owns.
    pub(crate) fn address(&self) -> Result<&str, StepError> {
        self.address.as_deref().ok_or_else(|| StepError::Agent("the host did not say where the device is".to_owned()))
    }

    /// Holds that device.
    pub(crate) fn own(&mut self, owned: Owned) {
        self.owned = Some(owned);
    }

    /// The virtual machines that the case has.
    pub(crate) fn machines(&self) -> Machines {
        self.case.machines
    }

    /// Tells the host where to see when it goes on.
    pub(crate) fn tell_paused(&mut self, paused: PausedMachine) {
        self.said.paused = Some(paused);
    }

    /// Tells the host what a machine says of the update.
    pub(crate) fn tell_account(&mut self, account: Account) {
        self.said.accounts.push(account);
    }

    /// Tells the host what it reaches.
    pub(crate) fn tell_reaches(&mut self, reaches: Reaches) {
        self.said.reaches = Some(reaches);
    }

    /// Tells the host which numbered frames were received.
    pub(crate) fn tell_frames(&mut self, numbers: Vec<u32>) {
        self.said.frames = frames::runs(numbers);
    }

    /// Tells the host what it should find in the file behind a device.
    pub(crate) fn tell_written(&mut self, written: Written) {
        self.said.written = Some(written);
    }

    /// The device that is held, taken out while it is used.
    pub(crate) fn take_owned(&mut self) -> Option<Owned> {
        self.owned.take()
    }

    /// What contents are made from.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many kexecs were made since the first source.
    pub(crate) fn hop(&self) -> u32 {
        self.hop
    }

    /// How many kexecs follow.
    pub(crate) fn hops_left(&self) -> u32 {
        let workload = luqual_protocol::find_workload(self.case.name);
        workload.map_or(0, |workload| workload.update.hops.saturating_sub(self.hop))
    }

    /// The open device. It stays open to the end of the step.
    pub(crate) fn device(&mut self) -> Result<Rc<Device>, StepError> {
        if let Some(device) = &self.device {
            return Ok(device.clone());
        }
        let device = Rc::new(Device::open().map_err(StepError::refused("open", DEVICE))?);
        self.device = Some(device.clone());
        Ok(device)
    }

    /// Closes the device, if no step holds on to it.
    pub(crate) fn close_device(&mut self) {
        self.device = None;
    }

    /// The name of the session with that label, which no other workload has.
    pub(crate) fn name_of(&self, label: &str) -> String {
        format!("{}/{label}", self.case.name)
    }

    /// Creates a session and holds it.
    pub(crate) fn create(&mut self, label: &str) -> Result<Rc<Session>, StepError> {
        let session = self
            .device()?
            .create_session(&self.name_of(label))
            .map_err(StepError::refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION", format!("session {label}")))?;
        let session = Rc::new(session);
        self.sessions.insert(label.to_owned(), session.clone());
        Ok(session)
    }

    /// The session with that label, which the case has created or retrieved.
    pub(crate) fn session(&self, label: &str) -> Result<Rc<Session>, StepError> {
        self.sessions.get(label).cloned().ok_or_else(|| StepError::Agent(format!("session {label} is not held")))
    }

    /// Holds a session that the case has made itself.
    pub(crate) fn keep_session(&mut self, label: String, session: Session) {
        self.sessions.insert(label, Rc::new(session));
    }

    /// Closes a session, unless a step holds on to it.
    pub(crate) fn close(&mut self, label: &str) {
        self.sessions.remove(label);
    }

    /// Preserves a descriptor; the kernel has to take it.
    pub(crate) fn hand_over(
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
    pub(crate) fn hand_over_new(&mut self, session: &Session, memfd: &Memfd, token: u64) -> Result<(), StepError> {
        let file = self.make(memfd)?;
        self.hand_over(session, file.as_fd(), token, memfd.name)?;
        self.hold(memfd.name, file);
        Ok(())
    }

    /// Makes a memfd.
    pub(crate) fn make(&self, memfd: &Memfd) -> Result<File, StepError> {
        memfd.make(self.seed).map_err(StepError::agent(format!("memfd {}", memfd.name)))
    }

    /// Asks for a session that has to be there.
    pub(crate) fn retrieve_session(&mut self, label: &str) -> Result<Option<Rc<Session>>, StepError> {
        let session = self.device()?.retrieve_session(&self.name_of(label));
        self.check(format!("session {label} retrieve"), "a session", said(&session, "a session"));
        let session = session.ok().map(Rc::new);
        if let Some(session) = &session {
            self.sessions.insert(label.to_owned(), session.clone());
        }
        Ok(session)
    }

    /// Asks for a session that must not be there.
    pub(crate) fn has_no_session(&mut self, label: &str) -> Result<(), StepError> {
        let session = self.device()?.retrieve_session(&self.name_of(label));
        self.refuses(&format!("session {label}"), "ENOENT", session);
        Ok(())
    }

    /// Asks for a memfd that has to be there, and compares it.
    pub(crate) fn retrieve_memfd(&mut self, session: &Session, token: u64, memfd: &Memfd) -> Option<File> {
        let file = self.retrieve_file(session, token, memfd.name)?;
        self.compare(memfd, &file);
        Some(file)
    }

    /// Asks for a memfd that has to be there.
    pub(crate) fn retrieve_file(&mut self, session: &Session, token: u64, name: &str) -> Option<File> {
        let file = session.retrieve(token).map(File::from);
        self.check(format!("memfd {name} retrieve"), "a descriptor", said(&file, "a descriptor"));
        file.ok()
    }

    /// Compares a memfd with what it should be.
    pub(crate) fn compare(&mut self, memfd: &Memfd, file: &File) {
        // A kernel that does not give back what it took in has lost it: an errno is what was observed.
        let offset = seek(file, SeekFrom::Current(0));
        self.check(format!("memfd {} offset", memfd.name), memfd.offset, observed(offset));
        self.check(format!("memfd {} size", memfd.name), memfd.size, observed(Memfd::size_of(file)));
        self.compare_content(memfd, file);
    }

    /// Compares its content alone.
    pub(crate) fn compare_content(&mut self, memfd: &Memfd, file: &File) {
        let differs = memfd.difference(file, self.seed);
        let content = differs.map(|place| place.map_or_else(|| SAME.to_owned(), |place| place.to_string()));
        self.check(format!("memfd {} content", memfd.name), SAME, observed(content));
    }

    /// A kept memfd.
    pub(crate) fn kept(&self, name: &str) -> Result<Rc<File>, StepError> {
        self.memfds.get(name).cloned().ok_or_else(|| StepError::Agent(format!("memfd {name} is not held")))
    }

    /// A kept memfd, or none where the kernel did not give it back: that has its own probe.
    pub(crate) fn retrieved(&self, name: &str) -> Option<Rc<File>> {
        self.memfds.get(name).cloned()
    }

    /// Replaces a kept memfd by another file, before it is preserved.
    pub(crate) fn keep(&mut self, name: &'static str, file: File) {
        self.memfds.insert(name, Rc::new(file));
    }

    /// Closes a kept memfd.
    pub(crate) fn let_go(&mut self, name: &str) {
        self.memfds.remove(name);
    }

    /// Holds a descriptor.
    pub(crate) fn hold(&mut self, name: impl Into<String>, fd: impl Into<OwnedFd>) {
        self.files.insert(name.into(), fd.into());
    }

    /// A descriptor that is held.
    pub(crate) fn held(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.files.get(name).map(AsFd::as_fd)
    }

    /// Holds a process.
    pub(crate) fn hold_child(&mut self, child: Child) {
        self.children.push(child);
    }

    /// Holds a process that does what it is told.
    pub(crate) fn hold_peer(&mut self, peer: Peer) {
        self.peers.push(peer);
    }

    /// Holds a mapping.
    pub(crate) fn hold_mapping(&mut self, mapping: Mapping) {
        self.mappings.push(mapping);
    }

    /// The last mapping that is held.
    pub(crate) fn held_mapping(&mut self) -> Option<&mut Mapping> {
        self.mappings.last_mut()
    }

    /// A probe that holds when both texts are equal.
    pub(crate) fn check(&mut self, name: impl Into<String>, expected: impl ToString, observed: impl ToString) {
        self.said.probes.push(Probe::compare(name, expected, observed));
    }

    /// Probes of somebody else.
    pub(crate) fn add(&mut self, probes: Vec<Probe>) {
        self.said.probes.extend(probes);
    }

    /// A probe about a number with a bound.
    pub(crate) fn check_that(&mut self, name: &str, expected: &str, observed: impl ToString, held: bool) {
        let (expected, observed) = (expected.to_owned(), observed.to_string());
        self.said.probes.push(Probe { name: name.to_owned(), expected, observed, held });
    }

    /// How long the kernel took for a step.
    pub(crate) fn measure(&mut self, what: &str, (size, unit): (u64, &str), took: Duration) {
        let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.said.measures.push(Measure { what: what.to_owned(), size, unit: unit.to_owned(), duration_us });
    }

    /// A call that the kernel has to refuse with that errno.
    pub(crate) fn refuses<T>(&mut self, name: &str, errno: &str, result: Result<T, rustix::io::Errno>) {
        self.check(name, errno, said(&result, "no error"));
    }

    /// A call that has to go well.
    pub(crate) fn takes<T>(&mut self, name: &str, result: Result<T, rustix::io::Errno>) {
        self.check(name, "no error", said(&result, "no error"));
    }
}

/// The sessions of what is kept, each once.
fn labels(case: &'static Case) -> Vec<&'static str> {
    let mut labels: Vec<&str> = Vec::new();
    for kept in case.kept {
        if !labels.contains(&kept.session) {
            labels.push(kept.session);
        }
    }
    labels
}
