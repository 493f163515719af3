//! Connects to a guest, and tells its kernels apart.

use super::identity::Identity;
use crate::judge::{Link, Stop};
use crate::lab::{Guest, Machine};
use luqual_guest::{AgentLog, Keys};
use luqual_model::bounds::{PROBE_TEXT, cut};
use luqual_protocol::{Hello, NotDone, Reply, Request, VERSION};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The period of attempts to connect to a guest whose ready line did not come; the console can lose it.
const RETRY: Duration = Duration::from_secs(1);
/// The limit of one attempt to connect; the key exchange of an emulated guest takes seconds.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The pause after a failed attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// The guest has no network: luqual cannot reach it.
pub(crate) const UNREACHABLE: &str = "luqual cannot reach the guest, which has no network card that its kernel drives; if the \
                                      driver is a module, give the kernel's packages instead of its image";

/// Connects, unless the guest says that it cannot be reached: then [`None`].
pub(crate) async fn connect(
    machine: &dyn Machine,
    keys: &Keys,
    log: &AgentLog,
    times: usize,
    link: &RefCell<Link>,
) -> Option<Rc<dyn Guest>> {
    tokio::select! {
        guest = connect_somehow(machine, keys, log, times, link) => Some(guest),
        () = machine.says_unreachable() => None,
    }
}

/// Connects when the guest prints its ready line for the `times`-th time, and once each [`RETRY`] in case the line
/// was lost. `link` gets the result of each attempt. The deadline of the phase bounds this.
async fn connect_somehow(
    machine: &dyn Machine,
    keys: &Keys,
    log: &AgentLog,
    times: usize,
    link: &RefCell<Link>,
) -> Rc<dyn Guest> {
    loop {
        let listens = tokio::select! {
            biased;
            () = machine.listens(times) => true,
            () = sleep(RETRY) => false,
        };
        let attempt = timeout(ATTEMPT, machine.connect(keys, log));
        let connected = if listens {
            link.borrow_mut().listened = true;
            attempt.await
        } else {
            // QEMU accepts a connection before the guest does, and repeats it after seconds. When the ready line
            // comes, a new connection is faster.
            tokio::select! {
                connected = attempt => connected,
                () = machine.listens(times) => continue,
            }
        };
        match connected {
            Ok(Ok(guest)) => return guest.into(),
            // The guest does not listen yet, or the connection died with the previous kernel.
            Ok(Err(why)) => {
                link.borrow_mut().error = Some(why);
                sleep(PAUSE).await;
            }
            Err(_) => link.borrow_mut().error = Some(format!("not answered within {} s", ATTEMPT.as_secs())),
        }
    }
}

/// Connects until the next kernel answers, after `hop` kexecs. The previous kernel may still answer; any other kernel
/// is an error.
pub(crate) async fn connect_next(
    machine: &dyn Machine,
    keys: &Keys,
    log: &AgentLog,
    hop: u32,
    (now, next): (&Identity<'_>, &Identity<'_>),
    link: &RefCell<Link>,
) -> Result<(Rc<dyn Guest>, Hello), Stop> {
    loop {
        let guest = connect(machine, keys, log, hop as usize + 1, link).await;
        let guest = guest.ok_or_else(|| Stop::Host(UNREACHABLE.to_owned()))?;
        match hello(&*guest).await {
            Ok(hello) if now.has_nonce_of(&hello) => sleep(PAUSE).await,
            Ok(hello) => {
                next.check(&hello).map_err(Stop::WrongKernel)?;
                return Ok((guest, hello));
            }
            // The previous kernel's connection, which the kexec cut. A guest without a connection has none.
            Err(Stop::Agent(why)) if guest.agent_is_asked() => {
                link.borrow_mut().error = Some(why);
                sleep(PAUSE).await;
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Performs the handshake, which identifies the guest.
pub(crate) async fn hello(guest: &dyn Guest) -> Result<Hello, Stop> {
    match ask(guest, &Request::Hello { protocol: VERSION }).await? {
        Reply::Hello(hello) => Ok(hello),
        Reply::NotDone { why: NotDone::Failed { message }, .. } => Err(Stop::Agent(message)),
        reply => {
            let reply = cut(&format!("{reply:?}"), PROBE_TEXT);
            Err(Stop::Agent(format!("the agent answered the handshake with a reply of the wrong kind: {reply}")))
        }
    }
}

pub(crate) async fn ask(guest: &dyn Guest, request: &Request) -> Result<Reply, Stop> {
    guest.ask(request).await.map_err(Stop::Agent)
}
