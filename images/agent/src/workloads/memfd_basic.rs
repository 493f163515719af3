//! `memfd.basic`: memfds with known content, in two sessions, keep every byte, their size and their file offset.
//!
//! What the kernel promises is in the comment at the head of mm/memfd_luo.c: data, size and file position.
//! Seals are promised too and belong to a workload of their own.

use super::{StepError, Workload, observed, open_device, said};
use crate::content::fill_page;
use crate::luo::Session;
use crate::mapping::{Mapping, PAGE};
use luqual_protocol::{Place, Probe};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom, fstat, memfd_create, seek};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// One memfd as it should be.
struct Spec {
    name: &'static str,
    session: &'static str,
    token: u64,
    size: u64,
    /// The file offset it is preserved with: in the middle, at the end, behind the end.
    offset: u64,
}

const SESSIONS: [&str; 2] = ["luqual-small", "luqual-large"];

const MEMFDS: [Spec; 5] = [
    Spec { name: "0", session: SESSIONS[0], token: 0, size: 0, offset: 3 },
    Spec { name: "1", session: SESSIONS[0], token: 1, size: 1, offset: 1 },
    Spec { name: "4k", session: SESSIONS[0], token: u64::MAX, size: 4096, offset: 17 },
    Spec { name: "1m+1", session: SESSIONS[1], token: 1, size: (1 << 20) + 1, offset: 1 << 20 },
    Spec { name: "64m", session: SESSIONS[1], token: 0x6d65_6d66_6400_0040, size: 64 << 20, offset: (64 << 20) + 5 },
];

/// The state of the workload on one side.
#[derive(Default)]
pub(super) struct MemfdBasic {
    seed: u64,
    sessions: Vec<Session>,
    /// In the order of [`MEMFDS`]; `None` where the kernel did not give it back.
    memfds: Vec<Option<File>>,
    unpreserved: Option<Mapping>,
}

impl Workload for MemfdBasic {
    fn preserve(&mut self, seed: u64) -> Result<Vec<Probe>, StepError> {
        self.seed = seed;
        self.unpreserved = Some(Mapping::locked_page().map_err(StepError::agent("a page of memory"))?);
        // All content is there before the kernel is asked for anything: memory that is short is our trouble.
        for (index, spec) in MEMFDS.iter().enumerate() {
            self.memfds.push(Some(make(spec, seed, index as u64)?));
        }
        let device = open_device()?;
        for name in SESSIONS {
            let session = device
                .create_session(name)
                .map_err(StepError::refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION", format!("session {name}")))?;
            for (spec, memfd) in MEMFDS.iter().zip(&self.memfds).filter(|(spec, _)| spec.session == name) {
                let memfd = memfd.as_ref().ok_or_else(|| StepError::Agent(format!("memfd {} is gone", spec.name)))?;
                session.preserve(memfd.as_fd(), spec.token).map_err(StepError::refused(
                    "ioctl LIVEUPDATE_SESSION_PRESERVE_FD",
                    format!("memfd {}", spec.name),
                ))?;
            }
            self.sessions.push(session);
        }
        Ok(Vec::new())
    }

    fn locate(&self, place: &Place) -> Result<Option<u64>, StepError> {
        let address = match place {
            Place::Unpreserved => self.unpreserved.as_ref().map(|page| page.physical_address(0)),
            Place::Memfd { memfd, page } => {
                let at = page * PAGE as u64;
                let index = MEMFDS.iter().position(|spec| spec.name == memfd && at < spec.size);
                let file = index.and_then(|index| self.memfds.get(index)).and_then(Option::as_ref);
                file.map(|file| Mapping::page_of(file, at).and_then(|page| page.physical_address(0)))
            }
        };
        address.transpose().map_err(StepError::agent(format!("the address of {place:?}")))
    }

    fn retrieve(&mut self, seed: u64) -> Result<Vec<Probe>, StepError> {
        self.seed = seed;
        let device = open_device()?;
        let mut probes = Vec::new();
        let mut taken: Vec<Option<Session>> = Vec::new();
        for name in SESSIONS {
            let session = device.retrieve_session(name);
            probes.push(Probe::compare(format!("session {name} retrieve"), "a session", said(&session, "a session")));
            taken.push(session.ok());
        }
        for spec in &MEMFDS {
            let session =
                SESSIONS.iter().position(|name| *name == spec.session).and_then(|index| taken[index].as_ref());
            let memfd = session.map(|session| session.retrieve(spec.token));
            let observed = memfd.as_ref().map_or_else(|| "no session".to_owned(), |memfd| said(memfd, "a descriptor"));
            probes.push(Probe::compare(format!("memfd {} retrieve", spec.name), "a descriptor", observed));
            self.memfds.push(memfd.and_then(Result::ok).map(File::from));
        }
        self.sessions = taken.into_iter().flatten().collect();
        Ok(probes)
    }

    fn verify(&mut self) -> Result<Vec<Probe>, StepError> {
        let mut probes = Vec::new();
        for (index, (spec, memfd)) in MEMFDS.iter().zip(&self.memfds).enumerate() {
            // One that was not retrieved has its own probe, which did not hold.
            let Some(memfd) = memfd else { continue };
            let probe = |what: &str| format!("memfd {} {what}", spec.name);
            // A kernel that does not give back what it took in has lost it: an errno is what was observed.
            let offset = seek(memfd, SeekFrom::Current(0));
            probes.push(Probe::compare(probe("offset"), spec.offset, observed(offset)));
            let size = fstat(memfd).map(|stat| stat.st_size);
            probes.push(Probe::compare(probe("size"), spec.size, observed(size)));
            let differs = first_difference(memfd, spec.size, self.seed, index as u64);
            let content = differs.map(|place| place.map_or_else(|| SAME.to_owned(), |place| place.to_string()));
            probes.push(Probe::compare(probe("content"), SAME, observed(content)));
        }
        Ok(probes)
    }

    fn finish(&mut self) -> Result<Vec<Probe>, StepError> {
        let mut probes = Vec::new();
        for session in self.sessions.drain(..) {
            // Each session is closed here, after it said that it is finished.
            probes.push(Probe::compare("session finish", "finished", said(&session.finish(), "finished")));
        }
        let device = open_device()?;
        for name in SESSIONS {
            let again = device.retrieve_session(name);
            probes.push(Probe::compare(format!("session {name} after finish"), "ENOENT", said(&again, "still there")));
        }
        Ok(probes)
    }
}

const SAME: &str = "every byte as it was";

/// How many pages are made or read at a time.
const CHUNK_PAGES: usize = 64;

fn make(spec: &Spec, seed: u64, memfd: u64) -> Result<File, StepError> {
    let what = format!("memfd {}", spec.name);
    let fd: OwnedFd = memfd_create(spec.name, MemfdFlags::CLOEXEC).map_err(StepError::agent(&what))?;
    let file = File::from(fd);
    let mut chunk = vec![[0; PAGE]; CHUNK_PAGES];
    let pages = spec.size.div_ceil(PAGE as u64);
    for start in (0..pages).step_by(CHUNK_PAGES) {
        for (page, bytes) in (start..pages).zip(&mut chunk) {
            fill_page(seed, memfd, page, bytes);
        }
        let at = start * PAGE as u64;
        let length = (spec.size - at).min((CHUNK_PAGES * PAGE) as u64) as usize;
        file.write_all_at(&chunk.as_flattened()[..length], at).map_err(StepError::agent(&what))?;
    }
    seek(&file, SeekFrom::Start(spec.offset)).map_err(StepError::agent(&what))?;
    Ok(file)
}

/// Where a memfd is not what it was.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    page: u64,
    /// In bytes from the start of the page.
    offset: usize,
    expected: u8,
    observed: u8,
    /// How many pages differ in all.
    pages: u64,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { page, offset, expected, observed, pages } = self;
        write!(f, "page {page} offset {offset} is {observed:#04x}, was {expected:#04x} (differing pages: {pages})")
    }
}

/// Compares the first `size` bytes; a file that is shorter reads as zeros there, and has its size probe.
fn first_difference(file: &File, size: u64, seed: u64, memfd: u64) -> rustix::io::Result<Option<Difference>> {
    let mut found: Option<Difference> = None;
    let mut chunk = vec![[0; PAGE]; CHUNK_PAGES];
    let mut expected = [0; PAGE];
    let pages = size.div_ceil(PAGE as u64);
    for start in (0..pages).step_by(CHUNK_PAGES) {
        let at = start * PAGE as u64;
        let length = (size - at).min((CHUNK_PAGES * PAGE) as u64) as usize;
        read_or_zero(file, &mut chunk.as_flattened_mut()[..length], at)?;
        for (page, observed) in (start..pages).zip(&chunk) {
            fill_page(seed, memfd, page, &mut expected);
            let bytes = (size - page * PAGE as u64).min(PAGE as u64) as usize;
            if observed[..bytes] == expected[..bytes] {
                continue;
            }
            let offset = observed.iter().zip(&expected).position(|(o, e)| o != e).unwrap_or_default();
            let first = found.get_or_insert(Difference {
                page,
                offset,
                expected: expected[offset],
                observed: observed[offset],
                pages: 0,
            });
            first.pages += 1;
        }
    }
    Ok(found)
}

fn read_or_zero(file: &File, mut bytes: &mut [u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let length = rustix::io::pread(file, &mut *bytes, at)?;
        if length == 0 {
            bytes.fill(0);
            break;
        }
        bytes = &mut bytes[length..];
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (File, &'static Spec, u64) {
        let (index, spec) = MEMFDS.iter().enumerate().find(|(_, spec)| spec.name == name).unwrap();
        (make(spec, 42, index as u64).unwrap(), spec, index as u64)
    }

    #[test]
    fn what_was_made_is_found_the_same() {
        for spec in &MEMFDS {
            let (file, spec, index) = made(spec.name);
            assert_eq!(file.metadata().unwrap().len(), spec.size);
            assert_eq!(seek(&file, SeekFrom::Current(0)).unwrap(), spec.offset);
            assert_eq!(first_difference(&file, spec.size, 42, index).unwrap(), None, "{}", spec.name);
        }
    }

    #[test]
    fn one_byte_is_found_with_its_page_and_offset() {
        for (name, at, page, offset) in [
            ("1", 0, 0, 0),
            ("1m+1", 1 << 20, 256, 0),
            ("1m+1", 4096 * 3 + 17, 3, 17),
            ("64m", (64 << 20) - 1, 16383, 4095),
        ] {
            let (file, spec, index) = made(name);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let found = first_difference(&file, spec.size, 42, index).unwrap().unwrap();
            assert_eq!((found.page, found.offset, found.pages), (page, offset, 1), "{name}");
            assert_eq!(found.observed, found.expected ^ 1);
        }
    }

    #[test]
    fn two_swapped_pages_and_another_seed_and_a_short_file_are_found() {
        let (file, spec, index) = made("1m+1");
        let (mut first, mut second) = ([0; PAGE], [0; PAGE]);
        file.read_exact_at(&mut first, 0).unwrap();
        file.read_exact_at(&mut second, PAGE as u64).unwrap();
        file.write_all_at(&second, 0).unwrap();
        file.write_all_at(&first, PAGE as u64).unwrap();
        assert_eq!(first_difference(&file, spec.size, 42, index).unwrap().unwrap().pages, 2);

        let (file, spec, index) = made("4k");
        assert!(first_difference(&file, spec.size, 43, index).unwrap().is_some());
        file.set_len(100).unwrap();
        assert_eq!(first_difference(&file, spec.size, 42, index).unwrap().unwrap().offset, 100);
    }

    #[test]
    fn tokens_are_unique_in_their_session_and_shared_between_sessions() {
        for (index, spec) in MEMFDS.iter().enumerate() {
            let twin = MEMFDS[..index].iter().find(|other| (other.session, other.token) == (spec.session, spec.token));
            assert!(twin.is_none(), "{}", spec.name);
        }
        assert!(MEMFDS.iter().filter(|spec| spec.token == 1).count() > 1);
    }
}
