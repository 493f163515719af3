//! What a fake machine does.

use crate::observe::{LateLog, Withheld};
use luqual_protocol::{Hello, Reply, Request};
use luqual_vm::MachineEnd;
use std::time::Duration;

/// What a fake guest does when it is asked for something.
#[derive(Clone, Debug)]
pub enum Play {
    /// What a guest does whose kernel keeps everything.
    Well,
    /// It replies that.
    Reply(Reply),
    /// It never answers, and ticks on.
    Silent,
    /// It never answers, and does not tick any more.
    Hang,
    /// The connection ends.
    Cut,
    /// The machine ends.
    End(MachineEnd),
    /// It does well, and the machine ends just after.
    Last(MachineEnd),
    /// It replies that, and the machine ends just after.
    LastReply(Reply, MachineEnd),
    /// It does not tick for that time, and then.
    Pause(Duration, Box<Play>),
    /// A line on the console, and then.
    Say(&'static str, Box<Play>),
    /// After that time.
    After(Duration, Box<Play>),
}

/// What a guest does when it is asked for something after so many kexecs.
type Plays = Box<dyn Fn(u32, &Request) -> Play>;

/// What a fake machine does. The default is one whose kernels keep everything.
pub struct Script {
    /// Why it cannot be started.
    pub does_not_start: Option<String>,
    /// How long a kernel takes until it listens; `None` is for ever.
    pub boots_in: Box<dyn Fn(u32) -> Option<Duration>>,
    /// Whether it says so, after so many kexecs.
    pub says_that_it_listens: Box<dyn Fn(u32) -> bool>,
    /// Whether the guest after so many kexecs says that it has no network.
    pub is_unreachable: Box<dyn Fn(u32) -> bool>,
    /// What comes of an attempt to connect, of those after so many kexecs from 0 on: an error, or nothing at all.
    pub connects: Box<dyn Fn(u32, usize) -> Result<(), Option<String>>>,
    /// What it answers to the handshake after so many kexecs.
    pub hello: Box<dyn Fn(u32, Hello) -> Hello>,
    /// What it does when it is asked for something after so many kexecs.
    pub plays: Plays,
    /// What each kernel logs after it was last asked, and the host reads.
    pub says_late: Box<dyn Fn(u32) -> Result<LateLog, String>>,
    /// How long the host did not let it run in that time since its start.
    pub withheld: Box<dyn Fn(Duration) -> Withheld>,
    /// Whether ending it takes for ever.
    pub never_quits: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            does_not_start: None,
            boots_in: Box::new(|_| Some(Duration::from_millis(700))),
            says_that_it_listens: Box::new(|_| true),
            is_unreachable: Box::new(|_| false),
            connects: Box::new(|_, _| Ok(())),
            hello: Box::new(|_, hello| hello),
            plays: Box::new(|_, _| Play::Well),
            says_late: Box::new(|_| Ok(LateLog::default())),
            withheld: Box::new(|_| Withheld::default()),
            never_quits: false,
        }
    }
}

impl Script {
    /// One that plays like this.
    pub fn plays(plays: impl Fn(u32, &Request) -> Play + 'static) -> Self {
        Self { plays: Box::new(plays), ..Self::default() }
    }
}
