//! `luqual-agent orchestrator`: brings virtual machines through an update. It runs as root and holds only its channels to the broker
//! and to the monitors. Each of its commands names a state to reach, and succeeds if that is reached already, so an orchestrator
//! that replaces a dead one starts from the beginning.

use crate::channel::{Answer, Channel, DONE, serve};
use crate::vfio::IOMMU;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;

/// The broker's name for the session.
pub(crate) const SESSION: &str = "machines";
/// What is handed over of each machine, in the order of the tokens.
pub(crate) const ITEMS: [&str; 2] = ["memory", "state"];

/// The broker's name for an item of a machine.
pub(crate) fn item(name: &str, number: &str) -> String {
    format!("{name}-{number}")
}

/// Obeys the commands that come over standard input.
pub(crate) fn run() -> Result<(), String> {
    let mut channels = Channels::default();
    serve(|words, fd| channels.obey(words, fd))
}

/// The channels to the broker and, by number, to the monitors.
#[derive(Default)]
struct Channels(BTreeMap<String, Channel>);

/// The kernel's answer for a token that is in use, which means that the item is preserved already (kernel/liveupdate/luo_file.c, luo_preserve_file()).
const PRESERVED: &str = "EEXIST";

/// | command | state that it reaches |
/// | --- | --- |
/// | `take NAME` | the channel that comes with it is that to `broker`, or to the monitor of this number |
/// | `pause N` | the machine is paused and saved |
/// | `detach N` | the machine has no device |
/// | `preserve N TOKEN` | its memory and its state are preserved, with tokens from this one on |
/// | `claim NAME` | the broker has the session of that name |
/// | `retrieve N TOKEN` | memory and state are retrieved, and the monitor has them |
/// | `restore N` | the machine exists, paused |
/// | `run N` | the machine runs |
/// | `attach N NODE` | the machine has the device of this node, which the broker opened |
///
/// A refusal of the kernel is answered as `ITEM: ERRNO`.
impl Channels {
    fn obey(&mut self, words: &[&str], fd: Option<OwnedFd>) -> Result<Answer, String> {
        let token = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
        let answer = match words {
            ["take", name] => {
                self.0.insert((*name).to_owned(), fd.ok_or("no descriptor came with it")?.into());
                DONE.to_owned()
            }
            [what @ ("detach" | "pause" | "restore" | "run"), number] => self.channel(number)?.ask(what, None)?.0,
            ["preserve", number, first] => self.preserve(number, token(first)?)?,
            ["claim", name] => {
                let broker = self.channel("broker")?;
                match broker.get_fd(SESSION) {
                    Ok(_) => DONE.to_owned(),
                    Err(_) => broker.ask(&format!("session {SESSION} {name}"), None)?.0,
                }
            }
            ["retrieve", number, first] => self.retrieve(number, token(first)?)?,
            ["attach", number, node] => self.attach(number, node)?,
            words => return Err(format!("the orchestrator has no command `{}`", words.join(" "))),
        };
        Ok((answer, None))
    }

    fn channel(&self, name: &str) -> Result<&Channel, String> {
        self.0.get(name).ok_or_else(|| format!("the orchestrator has no channel to {name}"))
    }

    fn preserve(&self, number: &str, first: u64) -> Result<String, String> {
        let (broker, monitor) = (self.channel("broker")?, self.channel(number)?);
        for (token, name) in (first..).zip(ITEMS) {
            let (fd, item) = (monitor.get_fd(name)?, item(name, number));
            broker.tell(&format!("take {item}"), Some(fd.as_fd()))?;
            let (answer, _) = broker.ask(&format!("preserve {SESSION} {item} {token}"), None)?;
            if answer != DONE && answer != PRESERVED {
                return Ok(format!("{name}: {answer}"));
            }
        }
        Ok(DONE.to_owned())
    }

    fn attach(&self, number: &str, node: &str) -> Result<String, String> {
        let (broker, monitor) = (self.channel("broker")?, self.channel(number)?);
        for (name, path) in [("vfio", node), ("iommufd", IOMMU)] {
            broker.tell(&format!("hold {name} {path}"), None)?;
            monitor.tell(&format!("take {name}"), Some(broker.get_fd(name)?.as_fd()))?;
            broker.tell(&format!("drop {name}"), None)?;
        }
        Ok(monitor.ask("attach", None)?.0)
    }

    fn retrieve(&self, number: &str, first: u64) -> Result<String, String> {
        let (broker, monitor) = (self.channel("broker")?, self.channel(number)?);
        for (token, name) in (first..).zip(ITEMS) {
            let item = item(name, number);
            let fd = match broker.get_fd(&item) {
                Ok(fd) => fd,
                Err(_) => {
                    let (answer, _) = broker.ask(&format!("retrieve {SESSION} {item} {token}"), None)?;
                    if answer != DONE {
                        return Ok(format!("{name}: {answer}"));
                    }
                    broker.get_fd(&item)?
                }
            };
            monitor.tell(&format!("take {name}"), Some(fd.as_fd()))?;
        }
        Ok(DONE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A process that expects these commands in turn, and answers each.
    fn scripted(answers: &'static [(&str, &str, bool)]) -> (Channel, std::thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = Channel::from(OwnedFd::from(theirs));
        let thread = std::thread::spawn(move || {
            for (words, answer, gives) in answers {
                let fd = gives.then(|| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
                assert_eq!(theirs.answer(answer, fd.as_ref().map(AsFd::as_fd)).unwrap(), *words);
            }
        });
        (Channel::from(OwnedFd::from(ours)), thread)
    }

    fn channels(broker: Channel, monitor: Channel) -> Channels {
        Channels([("broker".to_owned(), broker), ("3".to_owned(), monitor)].into())
    }

    #[test]
    fn an_item_that_is_preserved_already_counts_as_preserved_and_a_refusal_is_answered() {
        let (broker, broker_thread) = scripted(&[
            ("take memory-3", DONE, false),
            ("preserve machines memory-3 64", PRESERVED, false),
            ("take state-3", DONE, false),
            ("preserve machines state-3 65", "ENOENT", false),
        ]);
        let (monitor, monitor_thread) = scripted(&[("give memory", DONE, true), ("give state", DONE, true)]);
        let mut channels = channels(broker, monitor);
        assert_eq!(channels.obey(&["preserve", "3", "64"], None).unwrap().0, "state: ENOENT");
        broker_thread.join().unwrap();
        monitor_thread.join().unwrap();
    }

    #[test]
    fn an_item_that_the_broker_has_is_not_retrieved_again() {
        let (broker, broker_thread) = scripted(&[
            ("give memory-3", DONE, true),
            ("give state-3", "it is not held", false),
            ("retrieve machines state-3 65", DONE, false),
            ("give state-3", DONE, true),
        ]);
        let (monitor, monitor_thread) = scripted(&[("take memory", DONE, false), ("take state", DONE, false)]);
        let mut channels = channels(broker, monitor);
        assert_eq!(channels.obey(&["retrieve", "3", "64"], None).unwrap().0, DONE);
        assert!(channels.obey(&["pause", "4"], None).is_err());
        broker_thread.join().unwrap();
        monitor_thread.join().unwrap();
    }
}
