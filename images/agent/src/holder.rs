//! The process that holds what the workloads preserve. The kernel drops a session when its descriptor is closed, so this process
//! lives until the kexec, whatever becomes of the SSH connection.

use crate::workloads::{self, Context, StepError};
use luqual_protocol::{Located, Moment, Reply, Request, Said};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// The agent's folder of sockets and small files.
pub(crate) const FOLDER: &str = "/run/luqual";
/// The socket of the holder. /init binds it, so that it exists before anyone connects.
pub(crate) const SOCKET: &str = "/run/luqual/holder";

/// `luqual-agent hold`: serves one request per connection, one connection at a time, for ever.
pub(crate) fn run() -> Result<(), String> {
    let inherited = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("socket: {error}"))?;
    let listener = UnixListener::from(inherited);
    let mut held: Held = BTreeMap::new();
    for stream in listener.incoming() {
        let served = stream.map_err(|error| error.to_string()).and_then(|stream| serve(&mut held, stream));
        if let Err(message) = served {
            crate::log::say(&format!("luqual-agent: holder: {message}"));
        }
    }
    Ok(())
}

/// The contexts of the workloads that were started, by name.
type Held = BTreeMap<String, Context>;

fn serve(held: &mut Held, stream: UnixStream) -> Result<(), String> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut line).map_err(|error| error.to_string())?;
    let request = serde_json::from_str(&line).map_err(|error| format!("`{}`: {error}", line.trim_end()))?;
    let mut text = serde_json::to_string(&answer(held, request)).map_err(|error| error.to_string())?;
    text.push('\n');
    reader.into_inner().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn answer(held: &mut Held, request: Request) -> Reply {
    match request {
        // The workload was retrieved in this boot, and is preserved for the next kernel.
        Request::Preserve { workload, limit_s, .. } if held.contains_key(&workload) => {
            carry_out(later_step(held, &workload), within(limit_s, Context::preserve))
        }
        Request::Preserve { workload, seed, device, limit_s } => {
            carry_out(first_step(held, &workload, seed, 0, device), within(limit_s, Context::preserve))
        }
        Request::Retrieve { workload, seed, hop, device } => {
            carry_out(first_step(held, &workload, seed, hop, device), Context::retrieve)
        }
        Request::Verify { workload, limit_s } => {
            carry_out(later_step(held, &workload), within(limit_s, Context::verify))
        }
        Request::Finish { workload } => carry_out(later_step(held, &workload), Context::finish),
        Request::Inject { workload, item } => {
            carry_out(later_step(held, &workload), |context| workloads::corrupt(context, item))
        }
        Request::Flip { workload, place, offset } => {
            carry_out(later_step(held, &workload), |context| context.flip(&place, offset))
        }
        Request::Tamper { workload, fault, names } if fault.moment() == Moment::Arrived => {
            match workloads::before_retrieve(&workload, fault, &names) {
                Ok(()) => crate::facts::done(Said::default()),
                Err(error) => crate::facts::not_done(error.into(), Said::default()),
            }
        }
        Request::Tamper { workload, fault, names } => {
            carry_out(later_step(held, &workload), |context| context.tamper(fault, &names))
        }
        Request::Locate { workload, place } => match later_step(held, &workload).map(|it| it.locate(&place)) {
            Ok(Ok(address)) => Reply::Located(Located { address }),
            Ok(Err(error)) => crate::facts::not_done(error.into(), Said::default()),
            Err(message) => Reply::failed(message),
        },
        // `call` asks this before the kexec, to see that the holder still answers.
        Request::Kexec => crate::facts::done(Said::default()),
        Request::Hello { .. } | Request::Load { .. } | Request::KernelLog | Request::Panic => {
            Reply::failed("the holder process does not handle this request")
        }
    }
}

/// A step whose program, if it runs one, is killed after that many seconds.
fn within(
    limit_s: Option<u64>,
    step: impl FnOnce(&mut Context) -> Result<(), StepError>,
) -> impl FnOnce(&mut Context) -> Result<(), StepError> {
    move |context| {
        context.set_limit(limit_s);
        step(context)
    }
}

/// Carries out a step. What it found counts, whether it came to its end or not.
fn carry_out(context: Result<&mut Context, String>, step: impl FnOnce(&mut Context) -> Result<(), StepError>) -> Reply {
    let context = match context {
        Ok(context) => context,
        Err(message) => return Reply::failed(message),
    };
    let done = step(context);
    let said = context.end_step();
    match done {
        Ok(()) => crate::facts::done(said),
        Err(error) => crate::facts::not_done(error.into(), said),
    }
}

/// The context of a workload that starts now.
fn first_step<'a>(
    held: &'a mut Held,
    name: &str,
    seed: u64,
    hop: u32,
    device: Option<String>,
) -> Result<&'a mut Context, String> {
    if held.contains_key(name) {
        return Err(format!("workload {name} was already started in this boot"));
    }
    let case = workloads::find(name).ok_or_else(|| format!("this agent has no workload {name}"))?;
    Ok(held.entry(name.to_owned()).or_insert(Context::new(case, seed, hop, device)))
}

/// The context of a workload that was started before.
fn later_step<'a>(held: &'a mut Held, name: &str) -> Result<&'a mut Context, String> {
    held.get_mut(name).ok_or_else(|| format!("workload {name} was not started in this boot"))
}

/// Sends a request to the holder and waits for its reply.
pub(crate) fn ask(request: &Request) -> Result<Reply, String> {
    let asked = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(SOCKET)?;
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    let line = asked().map_err(|error| format!("the holder process at {SOCKET}: {error}"))?;
    if line.is_empty() {
        return Err("the holder process ended before it answered".to_owned());
    }
    serde_json::from_str(&line).map_err(|error| format!("the holder process answered `{}`: {error}", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::NotDone;

    #[test]
    fn steps_out_of_order_are_refused() {
        let mut held = Held::new();
        let verify = Request::Verify { workload: "memfd.basic".into(), limit_s: None };
        assert!(
            matches!(answer(&mut held, verify), Reply::NotDone { why: NotDone::Failed { message }, .. } if message.contains("not started"))
        );
        let unknown = Request::Retrieve { workload: "memfd.unknown".into(), seed: 1, hop: 1, device: None };
        assert!(
            matches!(answer(&mut held, unknown), Reply::NotDone { why: NotDone::Failed { message }, .. } if message.contains("no workload"))
        );
        assert!(matches!(answer(&mut held, Request::KernelLog), Reply::NotDone { .. }));
    }
}
