//! A helper process: a client, a broker, a virtual machine monitor, of any user, which has descriptors of its own and can be
//! killed. It is the agent in another role, and obeys commands over a [`Channel`].

use crate::channel::{Answer, Channel, DONE, serve};
use crate::errno::{errno, errno_name};
use crate::luo::{Device, Session};
use crate::memfd::Memfd;
use crate::own;
use luqual_protocol::AGENT;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

/// The user `nobody`, who has no rights (Documentation/admin-guide/sysctl/fs.rst, overflowuid).
pub(crate) const NOBODY: u32 = 65534;

/// A running helper process. Dropping this kills the process.
pub(crate) struct Helper {
    channel: Channel,
    child: Child,
}

impl Helper {
    /// Starts a helper that runs as `user`.
    pub(crate) fn start(user: u32) -> Result<Self, String> {
        Self::start_role(ROLE, user)
    }

    /// The same in namespaces of its own, in which it is root ([`crate::namespaces`]).
    pub(crate) fn start_isolated(user: u32) -> Result<Self, String> {
        Self::start_role("helper-isolated", user)
    }

    /// Starts a virtual machine monitor.
    pub(crate) fn start_monitor(user: u32) -> Result<Self, String> {
        let monitor = Self::start_role("vmm", user)?;
        // VFIO locks all memory of a machine that has a device.
        let pid = Pid::from_child(&monitor.child);
        let unlimited = Rlimit { current: None, maximum: None };
        let raised = prlimit(Some(pid), Resource::Memlock, unlimited);
        raised.map(|_| monitor).map_err(|errno| format!("prlimit: {}", errno_name(errno)))
    }

    /// Starts the process that brings virtual machines through an update.
    pub(crate) fn start_orchestrator() -> Result<Self, String> {
        Self::start_role("orchestrator", 0)
    }

    fn start_role(role: &str, user: u32) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| format!("socketpair: {error}"))?;
        let mut command = own::command();
        let command = command.arg(role).uid(user).gid(user).stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.stdout(Stdio::null()).spawn().map_err(|error| format!("{AGENT}: {error}"))?;
        Ok(Self { channel: OwnedFd::from(ours).into(), child })
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process and waits until it has ended.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|error| format!("kill: {error}"))
    }
}

impl Deref for Helper {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of this role on the command line.
pub(crate) const ROLE: &str = "helper";

/// `luqual-agent helper`.
pub(crate) fn run() -> Result<(), String> {
    let mut held = BTreeMap::new();
    serve(|words, fd| obey(&mut held, words, fd))
}

/// Obeys one command. NAME and SESSION are names of descriptors that the helper holds.
///
/// | command | effect |
/// | --- | --- |
/// | `take NAME` | holds the descriptor that comes with the command |
/// | `give NAME` | answers with a copy of the descriptor |
/// | `drop NAME` | closes the descriptor |
/// | `make NAME SIZE SEED` | makes a memfd with known content |
/// | `compare NAME SIZE SEED` | compares a memfd with that content: answers `same`, or the first difference |
/// | `write NAME` | writes a byte at the start of the file |
/// | `create SESSION TEXT` | creates the session with the name TEXT |
/// | `session SESSION TEXT` | retrieves the session with the name TEXT |
/// | `preserve SESSION NAME TOKEN` | preserves the descriptor in the session |
/// | `retrieve SESSION NAME TOKEN` | retrieves a descriptor from the session |
/// | `finish SESSION` | finishes the session |
/// | `open PATH` | opens the file and closes it again |
/// | `hold NAME PATH` | opens the file and holds it |
/// | `link PATH` | answers with the target of the symbolic link |
///
/// A call that the kernel refuses is answered with the errno's name.
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
        words => return Err(format!("a helper has no command `{}`", words.join(" "))),
    };
    Ok((answer, None))
}

/// The answer to `compare` for a memfd that has its content.
pub(crate) const SAME: &str = "same";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_obeys_each_command() {
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
