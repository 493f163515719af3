//! Another process, of any user: a virtual machine monitor, a broker, whoever has descriptors and may die. It is the agent once
//! more; it does what it is told over a Unix socket, by which descriptors go both ways (unix(7), SCM_RIGHTS).

use crate::luo::{Device, Session};
use crate::memfd::Memfd;
use crate::workloads::{errno, errno_name};
use luqual_protocol::AGENT;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A user whom nobody knows (Documentation/admin-guide/sysctl/fs.rst, overflowuid).
pub(crate) const NOBODY: u32 = 65534;

/// The other process, from outside. It is killed with this.
pub(crate) struct Peer {
    line: Line,
    child: Child,
}

/// How it is spoken to. Whoever has a copy may, one at a time.
pub(crate) struct Line(UnixStream);

impl Peer {
    /// Starts one that runs as `user`.
    pub(crate) fn start(user: u32) -> Result<Self, String> {
        Self::start_role("peer", user)
    }

    /// The same in namespaces of its own, where it is root.
    pub(crate) fn start_apart(user: u32) -> Result<Self, String> {
        Self::start_role("peer-apart", user)
    }

    /// Starts a virtual machine monitor ([`crate::vmm`]).
    pub(crate) fn start_vmm(user: u32) -> Result<Self, String> {
        let monitor = Self::start_role("vmm", user)?;
        // All of a machine's memory is locked while it has a device.
        let pid = Pid::from_child(&monitor.child);
        let unlimited = Rlimit { current: None, maximum: None };
        let raised = prlimit(Some(pid), Resource::Memlock, unlimited);
        raised.map(|_| monitor).map_err(|errno| format!("prlimit: {}", errno_name(errno)))
    }

    /// Starts an orchestrator ([`crate::orchestrator`]).
    pub(crate) fn start_orchestrator() -> Result<Self, String> {
        Self::start_role("orchestrator", 0)
    }

    fn start_role(role: &str, user: u32) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| format!("socketpair: {error}"))?;
        let mut command = Command::new(AGENT);
        let command = command.arg(role).uid(user).gid(user).stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.stdout(Stdio::null()).spawn().map_err(|error| format!("{AGENT}: {error}"))?;
        Ok(Self { line: Line(ours), child })
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|error| format!("kill: {error}"))
    }
}

impl Deref for Peer {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Line {
    /// Tells it to do something, and hears what came of it: a text, and perhaps a descriptor.
    pub(crate) fn ask(&self, words: &str, fd: Option<BorrowedFd<'_>>) -> Result<(String, Option<OwnedFd>), String> {
        send(&self.0, words, fd)?;
        receive(&self.0)?.ok_or_else(|| format!("a process went away when it was told to {words}"))
    }

    /// The same for what has to be done.
    pub(crate) fn tell(&self, words: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), String> {
        let (answer, _) = self.ask(words, fd)?;
        if answer == DONE { Ok(()) } else { Err(format!("{words}: {answer}")) }
    }

    /// The same for a descriptor that has to come.
    pub(crate) fn give(&self, name: &str) -> Result<OwnedFd, String> {
        let (answer, given) = self.ask(&format!("give {name}"), None)?;
        given.ok_or_else(|| format!("a process gave no {name}: {answer}"))
    }
}

#[cfg(test)]
impl Line {
    /// From the other end: what was asked, which is answered so.
    pub(crate) fn answer(&self, answer: &str, fd: Option<BorrowedFd<'_>>) -> Result<String, String> {
        let (words, _) = receive(&self.0)?.ok_or("nothing was asked")?;
        send(&self.0, answer, fd).map(|()| words)
    }
}

impl From<OwnedFd> for Line {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is answered when something was done.
pub(crate) const DONE: &str = "done";

fn send(socket: &UnixStream, text: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let line = format!("{text}\n");
    let sent = sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL);
    sent.map(drop).map_err(|errno| format!("sendmsg: {}", errno_name(errno)))
}

/// One line and its descriptor; `None` when the other end is closed. Each side waits for the other's answer, so that no two
/// lines are under way.
fn receive(socket: &UnixStream) -> Result<Option<(String, Option<OwnedFd>)>, String> {
    let (mut text, mut fd) = (Vec::new(), None);
    while !text.ends_with(b"\n") {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = received.map_err(|errno| format!("recvmsg: {}", errno_name(errno)))?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fd = fds.next();
            }
        }
        if length == 0 {
            return Ok(None);
        }
        text.extend(&bytes[..length]);
    }
    Ok(Some((String::from_utf8_lossy(text.trim_ascii_end()).into_owned(), fd)))
}

/// `luqual-agent peer`.
pub(crate) fn run() -> Result<(), String> {
    let mut held = BTreeMap::new();
    serve(|words, fd| obey(&mut held, words, fd))
}

/// Does what it is told over its standard input, to the end of that.
pub(crate) fn serve(mut obey: impl FnMut(&[&str], Option<OwnedFd>) -> Result<Answer, String>) -> Result<(), String> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("socket: {error}"))?;
    let socket = UnixStream::from(socket);
    while let Some((words, fd)) = receive(&socket)? {
        let words: Vec<&str> = words.split(' ').collect();
        let (answer, fd) = obey(&words, fd).unwrap_or_else(|why| (why, None));
        send(&socket, &answer, fd.as_ref().map(AsFd::as_fd))?;
    }
    Ok(())
}

/// A text, and perhaps a descriptor.
pub(crate) type Answer = (String, Option<OwnedFd>);

/// | words | |
/// | --- | --- |
/// | `take NAME` | holds the descriptor that comes with it |
/// | `give NAME` | sends a copy of it |
/// | `drop NAME` | closes it |
/// | `make NAME SIZE SEED` | makes a memfd with known content |
/// | `compare NAME SIZE SEED` | `same`, or where it is not |
/// | `write NAME` | writes a byte at its start |
/// | `create SESSION NAME` | asks the device for a new session of that name |
/// | `session SESSION NAME` | asks the device for the one of that name |
/// | `preserve SESSION NAME TOKEN` | asks a session to preserve it |
/// | `retrieve SESSION NAME TOKEN` | asks a session for it |
/// | `finish SESSION` | tells a session that all was taken over |
/// | `open PATH` | opens a file |
/// | `hold NAME PATH` | opens a file, and holds it |
/// | `link PATH` | where a link leads |
fn obey(held: &mut BTreeMap<String, OwnedFd>, words: &[&str], fd: Option<OwnedFd>) -> Result<Answer, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    let copy = |held: &BTreeMap<String, OwnedFd>, name: &str| {
        let fd = held.get(name).ok_or_else(|| format!("{name} is not held"))?;
        fd.try_clone().map_err(|error| format!("dup: {error}"))
    };
    let open = |path: &str| File::options().read(true).write(true).open(path);
    let said = |result: Result<(), Errno>| result.map_or_else(errno_name, |()| DONE.to_owned());
    let answer = match words {
        ["take", name] => {
            held.insert((*name).to_owned(), fd.ok_or("no descriptor came with it")?);
            DONE.to_owned()
        }
        ["give", name] => return copy(held, name).map(|fd| (DONE.to_owned(), Some(fd))),
        ["drop", name] => held.remove(*name).map(|_| DONE.to_owned()).ok_or("it is not held")?,
        ["make", name, size, seed] => {
            let memfd = Memfd::new((*name).to_owned().leak(), number(size)?);
            let file = memfd.make(number(seed)?).map_err(|error| format!("memfd: {error}"))?;
            held.insert((*name).to_owned(), file.into());
            DONE.to_owned()
        }
        ["compare", name, size, seed] => {
            let memfd = Memfd::new((*name).to_owned().leak(), number(size)?);
            let file = File::from(copy(held, name)?);
            let differs = memfd.difference(&file, number(seed)?);
            differs.map_or_else(errno_name, |place| place.map_or_else(|| SAME.to_owned(), |place| place.to_string()))
        }
        ["write", name] => {
            let written = File::from(copy(held, name)?).write_all_at(&[0], 0);
            said(written.map_err(|error| errno(&error)))
        }
        [what @ ("create" | "session"), session, name] => {
            let ask = |device: Device| match *what {
                "create" => device.create_session(name),
                _ => device.retrieve_session(name),
            };
            match Device::open().and_then(ask) {
                Ok(found) => {
                    held.insert((*session).to_owned(), found.into());
                    DONE.to_owned()
                }
                Err(errno) => errno_name(errno),
            }
        }
        ["finish", session] => said(Session::from(copy(held, session)?).finish()),
        ["preserve", session, name, token] => {
            let session = Session::from(copy(held, session)?);
            said(session.preserve(copy(held, name)?.as_fd(), number(token)?))
        }
        ["retrieve", session, name, token] => match Session::from(copy(held, session)?).retrieve(number(token)?) {
            Ok(fd) => {
                held.insert((*name).to_owned(), fd);
                DONE.to_owned()
            }
            Err(errno) => errno_name(errno),
        },
        ["open", path] => said(open(path).map(drop).map_err(|error| errno(&error))),
        ["hold", name, path] => {
            let opened = open(path).map_err(|error| format!("{path}: {error}"))?;
            held.insert((*name).to_owned(), opened.into());
            DONE.to_owned()
        }
        ["link", path] => {
            let target = std::fs::read_link(path);
            target.map_or_else(|error| errno_name(errno(&error)), |target| target.display().to_string())
        }
        words => return Err(format!("it does not know how to {}", words.join(" "))),
    };
    Ok((answer, None))
}

/// What is said of a memfd that is as it was made.
pub(crate) const SAME: &str = "same";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_descriptors_go_over_a_socket() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send(&one, "take it", Some(file.as_fd())).unwrap();
        let (text, fd) = receive(&other).unwrap().unwrap();
        assert_eq!((text.as_str(), fd.is_some()), ("take it", true));
        drop(one);
        assert!(receive(&other).unwrap().is_none());
    }

    #[test]
    fn it_does_what_it_is_told() {
        let mut held = BTreeMap::new();
        let mut tell = |words: &str, fd: Option<OwnedFd>| obey(&mut held, &words.split(' ').collect::<Vec<_>>(), fd);
        assert_eq!(tell("make a 5000 7", None).unwrap().0, DONE);
        assert_eq!(tell("compare a 5000 7", None).unwrap().0, SAME);
        assert!(tell("compare a 5000 8", None).unwrap().0.starts_with("page 0"));
        let given = tell("give a", None).unwrap().1.unwrap();
        assert_eq!(tell("take b", Some(given)).unwrap().0, DONE);
        assert_eq!(tell("write b", None).unwrap().0, DONE);
        assert_ne!(tell("compare a 5000 7", None).unwrap().0, SAME);
        assert_eq!(tell("open /nowhere", None).unwrap().0, "ENOENT");
        assert_eq!(tell("link /nowhere", None).unwrap().0, "ENOENT");
        assert!(tell("link /proc/self/ns/pid", None).unwrap().0.starts_with("pid:["));
        assert_eq!(tell("session s name", None).unwrap().0, "ENOENT");
        assert_eq!(tell("create s name", None).unwrap().0, "ENOENT");
        assert_eq!(tell("preserve a b 1", None).unwrap().0, "ENOTTY");
        assert_eq!(tell("finish a", None).unwrap().0, "ENOTTY");
        for wrong in ["hold d /nowhere", "take c", "give c", "dance", "make d x 1"] {
            assert!(tell(wrong, None).is_err(), "{wrong}");
        }
    }
}
