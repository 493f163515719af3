//! How a guest is reached, and how its kernel is told from others.

use super::identity::Identity;
use crate::judge::{Link, Stop};
use crate::lab::{Guest, Machine};
use luqual_guest::{AgentLog, Keys};
use luqual_protocol::{Hello, Reply, Request, VERSION};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often a guest is tried that did not say that it listens: its word may be lost on the console.
const RETRY: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take, for the key exchange of an emulated guest.
const ATTEMPT: Duration = Duration::from_secs(10);
/// After a failed attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects when the guest says for the `times`-th time that it listens, and now and then in case that was lost. What came of it is
/// written into `link`; the phase's deadline bounds this.
pub(crate) async fn connect(
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
            // QEMU takes a connection before the guest does and repeats it after seconds: when the guest speaks
            // up, a new one is sooner there.
            tokio::select! {
                connected = attempt => connected,
                () = machine.listens(times) => continue,
            }
        };
        match connected {
            Ok(Ok(guest)) => return guest.into(),
            // Nobody there yet, or the connection died with the kernel before.
            Ok(Err(why)) => {
                link.borrow_mut().error = Some(why);
                sleep(PAUSE).await;
            }
            Err(_) => link.borrow_mut().error = Some(format!("not answered within {} s", ATTEMPT.as_secs())),
        }
    }
}

/// Connects until the one that answers is the next kernel, after `hop` kexecs. The one before may still answer; any other
/// kernel is an error.
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
        match hello(&*guest).await {
            Ok(hello) if now.has_nonce_of(&hello) => sleep(PAUSE).await,
            Ok(hello) => {
                next.check(&hello).map_err(Stop::WrongKernel)?;
                return Ok((guest, hello));
            }
            // Its last connection, cut by the kexec. There is none that could be cut to a guest that goes on alone.
            Err(Stop::Agent(why)) if guest.agent_is_asked() => {
                link.borrow_mut().error = Some(why);
                sleep(PAUSE).await;
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// The handshake: who are you?
pub(crate) async fn hello(guest: &dyn Guest) -> Result<Hello, Stop> {
    match ask(guest, &Request::Hello { protocol: VERSION }).await? {
        Reply::Hello(hello) => Ok(hello),
        Reply::Failed { message } => Err(Stop::Agent(message)),
        reply => Err(Stop::Agent(format!("no handshake: {reply:?}"))),
    }
}

pub(crate) async fn ask(guest: &dyn Guest, request: &Request) -> Result<Reply, Stop> {
    guest.ask(request).await.map_err(Stop::Agent)
}
