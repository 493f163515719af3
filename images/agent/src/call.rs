//! One request, one reply: the host runs this over SSH, and a user can type it.

use crate::kexec;
use crate::workloads::StepError;
use crate::{facts, holder, inject};
use luqual_protocol::{Reply, Request, Said, VERSION};
use std::io::{BufRead, Write};

/// `luqual-agent call`: reads a request from standard input and prints the reply.
pub(crate) fn run() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| format!("standard input: {error}"))?;
    let request = serde_json::from_str(&line)
        .map_err(|error| format!("`{}` is not a request of protocol version {VERSION}: {error}", line.trim_end()))?;
    let reply = serde_json::to_string(&answer(&request)).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{reply}").map_err(|error| format!("standard output: {error}"))
}

/// Carries out a request, or has the holder carry it out.
pub(crate) fn answer(request: &Request) -> Reply {
    match request {
        Request::Hello { protocol } if *protocol != VERSION => {
            Reply::failed(format!("the host uses protocol version {protocol}, and this agent uses version {VERSION}"))
        }
        Request::Hello { .. } => facts::hello().map_or_else(Reply::failed, Reply::Hello),
        Request::KernelLog => facts::kernel_log().map_or_else(Reply::failed, Reply::KernelLog),
        Request::Load { kernel, carry, command_line } => match kexec::load(*kernel, carry, command_line) {
            Ok(loaded) => facts::done(Said { loaded, ..Said::default() }),
            Err(error) => facts::not_done(StepError::from(error).into(), Said::default()),
        },
        Request::Kexec => match holder::ask(request) {
            Ok(Reply::Done { .. }) => match kexec::go() {
                Some(errno) => {
                    let refused = StepError::refused("reboot LINUX_REBOOT_CMD_KEXEC", "the target kernel")(errno);
                    facts::not_done(refused.into(), Said::default())
                }
                None => Reply::failed("reboot LINUX_REBOOT_CMD_KEXEC returned 0, but the kernel still runs"),
            },
            Ok(reply) => Reply::failed(format!("the holder process is not ready: {reply:?}")),
            Err(message) => Reply::failed(message),
        },
        Request::Panic => Reply::failed(inject::panic().err().unwrap_or_default()),
        Request::Preserve { .. }
        | Request::Flip { .. }
        | Request::Tamper { .. }
        | Request::Inject { .. }
        | Request::Locate { .. }
        | Request::Retrieve { .. }
        | Request::Verify { .. }
        | Request::Finish { .. } => holder::ask(request).unwrap_or_else(Reply::failed),
    }
}
