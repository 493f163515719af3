//! `luqual-agent orchestrator`: what brings virtual machines through an update. It is root and has no descriptor but the lines to the
//! broker and to the monitors; each of its words names what has to be so, and finds out what of it is: one that took over from an
//! orchestrator that died begins at the beginning.

use crate::peer::{Answer, DONE, Line, serve};
use crate::vfio::IOMMU;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;

/// The session, as the broker is told of it.
pub(crate) const SESSION: &str = "machines";
/// What is handed over of each machine, in the order of their tokens.
pub(crate) const ITEMS: [&str; 2] = ["memory", "state"];

/// What the broker calls an item of a machine.
pub(crate) fn item(name: &str, number: &str) -> String {
    format!("{name}-{number}")
}

/// Does what it is told over its standard input, to the end of that.
pub(crate) fn run() -> Result<(), String> {
    let mut lines = Lines::default();
    serve(|words, fd| lines.obey(words, fd))
}

/// Those that it can speak to: the broker, and the monitors by number.
#[derive(Default)]
struct Lines(BTreeMap<String, Line>);

/// What a kernel answers for a token that is in use: it is preserved already (kernel/liveupdate/luo_file.c, luo_preserve_file()).
const PRESERVED: &str = "EEXIST";

/// | words | |
/// | --- | --- |
/// | `take NAME` | has the line that comes with it: `broker`, or a monitor's number |
/// | `pause N` | the machine is paused and saved |
/// | `detach N` | it has no device |
/// | `preserve N TOKEN` | its memory and state are preserved, from this token on |
/// | `claim NAME` | the broker has the session of that name |
/// | `retrieve N TOKEN` | memory and state are retrieved, and the monitor has them |
/// | `restore N` | the machine is there, paused |
/// | `run N` | it runs |
/// | `attach N NODE` | it has the device of this node, which the broker opened |
///
/// What a kernel refuses is answered as `ITEM: ERRNO`.
impl Lines {
    fn obey(&mut self, words: &[&str], fd: Option<OwnedFd>) -> Result<Answer, String> {
        let token = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
        let answer = match words {
            ["take", name] => {
                self.0.insert((*name).to_owned(), fd.ok_or("no descriptor came with it")?.into());
                DONE.to_owned()
            }
            [what @ ("detach" | "pause" | "restore" | "run"), number] => self.line(number)?.ask(what, None)?.0,
            ["preserve", number, first] => self.preserve(number, token(first)?)?,
            ["claim", name] => {
                let broker = self.line("broker")?;
                match broker.give(SESSION) {
                    Ok(_) => DONE.to_owned(),
                    Err(_) => broker.ask(&format!("session {SESSION} {name}"), None)?.0,
                }
            }
            ["retrieve", number, first] => self.retrieve(number, token(first)?)?,
            ["attach", number, node] => self.attach(number, node)?,
            words => return Err(format!("an orchestrator does not know how to {}", words.join(" "))),
        };
        Ok((answer, None))
    }

    fn line(&self, name: &str) -> Result<&Line, String> {
        self.0.get(name).ok_or_else(|| format!("there is no line to {name}"))
    }

    fn preserve(&self, number: &str, first: u64) -> Result<String, String> {
        let (broker, monitor) = (self.line("broker")?, self.line(number)?);
        for (token, name) in (first..).zip(ITEMS) {
            let (fd, item) = (monitor.give(name)?, item(name, number));
            broker.tell(&format!("take {item}"), Some(fd.as_fd()))?;
            let (answer, _) = broker.ask(&format!("preserve {SESSION} {item} {token}"), None)?;
            if answer != DONE && answer != PRESERVED {
                return Ok(format!("{name}: {answer}"));
            }
        }
        Ok(DONE.to_owned())
    }

    fn attach(&self, number: &str, node: &str) -> Result<String, String> {
        let (broker, monitor) = (self.line("broker")?, self.line(number)?);
        for (name, path) in [("vfio", node), ("iommufd", IOMMU)] {
            broker.tell(&format!("hold {name} {path}"), None)?;
            monitor.tell(&format!("take {name}"), Some(broker.give(name)?.as_fd()))?;
            broker.tell(&format!("drop {name}"), None)?;
        }
        Ok(monitor.ask("attach", None)?.0)
    }

    fn retrieve(&self, number: &str, first: u64) -> Result<String, String> {
        let (broker, monitor) = (self.line("broker")?, self.line(number)?);
        for (token, name) in (first..).zip(ITEMS) {
            let item = item(name, number);
            let fd = match broker.give(&item) {
                Ok(fd) => fd,
                Err(_) => {
                    let (answer, _) = broker.ask(&format!("retrieve {SESSION} {item} {token}"), None)?;
                    if answer != DONE {
                        return Ok(format!("{name}: {answer}"));
                    }
                    broker.give(&item)?
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

    /// A process that answers each of its words in turn.
    fn played(answers: &'static [(&str, &str, bool)]) -> (Line, std::thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = Line::from(OwnedFd::from(theirs));
        let thread = std::thread::spawn(move || {
            for (words, answer, gives) in answers {
                let fd = gives.then(|| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
                assert_eq!(theirs.answer(answer, fd.as_ref().map(AsFd::as_fd)).unwrap(), *words);
            }
        });
        (Line::from(OwnedFd::from(ours)), thread)
    }

    fn lines(broker: Line, monitor: Line) -> Lines {
        Lines([("broker".to_owned(), broker), ("3".to_owned(), monitor)].into())
    }

    #[test]
    fn what_is_preserved_already_is_not_refused_and_what_is_refused_is_told() {
        let (broker, broker_played) = played(&[
            ("take memory-3", DONE, false),
            ("preserve machines memory-3 64", PRESERVED, false),
            ("take state-3", DONE, false),
            ("preserve machines state-3 65", "ENOENT", false),
        ]);
        let (monitor, monitor_played) = played(&[("give memory", DONE, true), ("give state", DONE, true)]);
        let mut lines = lines(broker, monitor);
        assert_eq!(lines.obey(&["preserve", "3", "64"], None).unwrap().0, "state: ENOENT");
        broker_played.join().unwrap();
        monitor_played.join().unwrap();
    }

    #[test]
    fn what_the_broker_has_is_not_asked_for_again() {
        let (broker, broker_played) = played(&[
            ("give memory-3", DONE, true),
            ("give state-3", "it is not held", false),
            ("retrieve machines state-3 65", DONE, false),
            ("give state-3", DONE, true),
        ]);
        let (monitor, monitor_played) = played(&[("take memory", DONE, false), ("take state", DONE, false)]);
        let mut lines = lines(broker, monitor);
        assert_eq!(lines.obey(&["retrieve", "3", "64"], None).unwrap().0, DONE);
        assert!(lines.obey(&["pause", "4"], None).is_err());
        broker_played.join().unwrap();
        monitor_played.join().unwrap();
    }
}
