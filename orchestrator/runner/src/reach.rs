//! How a guest is reached, and what proves that it is the one.

use crate::evidence::Stop;
use luqual_guest::{Agent, AgentLog, Keys, LinkError};
use luqual_model::KernelInfo;
use luqual_protocol::{Hello, NONCE_OPTION, READY_LINE, Reply, Request, VERSION};
use luqual_vm::{Machine, Mode, Profile, kernel_options};
use std::time::Duration;

/// How often a guest is tried that did not say that it is ready: its word may be lost on the console.
const RETRY: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take, for the key exchange of an emulated guest.
const ATTEMPT: Duration = Duration::from_secs(10);

/// What makes one boot of a kernel recognisable.
pub(crate) struct Identity<'a> {
    pub(crate) kernel: &'a KernelInfo,
    /// What its command line has besides.
    options: String,
    nonce: String,
}

impl Identity<'_> {
    /// The nonce has to be another for each boot.
    pub(crate) fn new<'a>(kernel: &'a KernelInfo, options: String, nonce: u64) -> Identity<'a> {
        Identity { kernel, options, nonce: format!("{nonce:016x}") }
    }

    pub(crate) fn command_line(&self, profile: &Profile, mode: Mode) -> String {
        let words = [&self.kernel.command_line, &self.options, &kernel_options(profile, mode)];
        let mut line =
            words.into_iter().filter(|words| !words.is_empty()).map(String::as_str).collect::<Vec<&str>>().join(" ");
        line.push_str(&format!(" {NONCE_OPTION}{}", self.nonce));
        line
    }

    /// Whether `hello` is this boot: its nonce, and the release and build id of the image that was given.
    pub(crate) fn check(&self, hello: &Hello) -> Result<(), String> {
        let differ = |what: &str, expected: &str, observed: &str| {
            Err(format!("the kernel that answered has {what} {observed}, {} has {expected}", self.kernel.name))
        };
        if hello.nonce != self.nonce {
            return differ("nonce", &self.nonce, &hello.nonce);
        }
        if hello.release != self.kernel.release {
            return differ("release", &self.kernel.release, &hello.release);
        }
        match &self.kernel.build_id {
            Some(build_id) if *build_id != hello.build_id => differ("build id", build_id, &hello.build_id),
            _ => Ok(()),
        }
    }
}

/// Connects when the guest says for the `times`-th time that it is ready, and now and then in case that was lost.
pub(crate) async fn reach(machine: &Machine, keys: &Keys, log: &AgentLog, times: usize) -> Agent {
    // A machine without one is never reached.
    let Some(port) = machine.ssh_port() else { return std::future::pending().await };
    let ready = || machine.console().saw(READY_LINE, times);
    loop {
        let told = tokio::select! {
            biased;
            () = ready() => true,
            () = tokio::time::sleep(RETRY) => false,
        };
        let attempt = tokio::time::timeout(ATTEMPT, Agent::connect(port, keys, log.clone()));
        let reached = if told {
            attempt.await
        } else {
            // QEMU takes a connection before the guest does and repeats it after seconds: when the guest speaks
            // up, a new one is sooner there.
            tokio::select! {
                reached = attempt => reached,
                () = ready() => continue,
            }
        };
        match reached {
            Ok(Ok(agent)) => return agent,
            // Nobody there yet, or the connection died with the kernel before: the phase's deadline bounds this.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Connects until the one that answers is the next kernel, after `hop` kexecs. The one before may still answer; any other
/// kernel is an error.
pub(crate) async fn reach_next(
    machine: &Machine,
    keys: &Keys,
    log: &AgentLog,
    hop: u32,
    now: &Identity<'_>,
    next: &Identity<'_>,
) -> Result<(Agent, Hello), Stop> {
    loop {
        let agent = reach(machine, keys, log, hop as usize + 1).await;
        match hello(&agent).await {
            Ok(hello) if hello.nonce == now.nonce => {}
            Ok(hello) => {
                next.check(&hello).map_err(Stop::Stranger)?;
                return Ok((agent, hello));
            }
            // Its last connection, cut by the kexec.
            Err(Stop::Agent(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
}

pub(crate) async fn hello(agent: &Agent) -> Result<Hello, Stop> {
    match ask(agent, &Request::Hello { protocol: VERSION }).await? {
        Reply::Hello(hello) => Ok(hello),
        Reply::Failed { message } => Err(Stop::Agent(message)),
        reply => Err(Stop::Agent(format!("no handshake: {reply:?}"))),
    }
}

pub(crate) async fn ask(agent: &Agent, request: &Request) -> Result<Reply, Stop> {
    agent.ask(request).await.map_err(|error: LinkError| Stop::Agent(chain(&error)))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
