//! Requests from a file instead of from a host: for a guest that nobody talks to, such as one that has to do the same each time.

use crate::log::say;
use luqual_protocol::{ANSWERS, AUTORUN as FILE, AUTORUN_DONE, Next, Progression, Reply, Request};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Write;

/// Does all of them in order, writes down each reply, says whether all went well, and powers the machine off.
pub(crate) fn run() -> Result<(), String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let mut answers = answers();
    let mut progression = Progression::default();
    // The first that did not go well.
    let mut unwell = None;
    for line in text.lines() {
        let request = serde_json::from_str::<Request>(line).map_err(|error| format!("{FILE}: {error}"))?;
        if progression.leaves_out(&request) {
            continue;
        }
        let reply = crate::call::answer(&request);
        write_down(answers.as_mut(), &reply)?;
        if unwell.is_none() && !went_well(&reply) {
            unwell = Some(format!("{request:?}: {reply:?}"));
        }
        match progression.after(&request, &reply) {
            Next::GoOn => {}
            Next::LookAgain(requests) => {
                for request in requests {
                    write_down(answers.as_mut(), &crate::call::answer(&request))?;
                }
                break;
            }
            Next::Stop => break,
        }
    }
    match &unwell {
        None => say(AUTORUN_DONE),
        Some(why) => say(&format!("luqual-agent: {why}")),
    }
    rustix::system::reboot(rustix::system::RebootCommand::PowerOff).map_err(|errno| format!("power off: {errno}"))
}

/// The second serial port, as fast as it is and with nothing added to what is written; a guest may have none.
fn answers() -> Option<File> {
    let port = File::options().write(true).open(ANSWERS).ok()?;
    let mut settings = tcgetattr(&port).ok()?;
    settings.make_raw();
    settings.set_speed(115_200).ok()?;
    tcsetattr(&port, OptionalActions::Now, &settings).ok()?;
    Some(port)
}

fn write_down(answers: Option<&mut File>, reply: &Reply) -> Result<(), String> {
    let Some(port) = answers else { return Ok(()) };
    let failed = |error: std::io::Error| format!("{ANSWERS}: {error}");
    let mut line = serde_json::to_vec(reply).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    port.write_all(&line).map_err(failed)?;
    // What is still on its way is lost at a kexec.
    tcdrain(&*port).map_err(|errno| failed(errno.into()))
}

fn went_well(reply: &Reply) -> bool {
    match reply {
        Reply::Hello(_) | Reply::Located(_) | Reply::KernelLog(_) => true,
        Reply::Done { said, .. } => said.probes.iter().all(|probe| probe.passed),
        Reply::NotDone { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::Probe;
    use luqual_protocol::Said;

    fn done(observed: u32) -> Reply {
        let probes = vec![Probe::compare("size", 1, observed)];
        Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 }
    }

    #[test]
    fn a_broken_probe_or_a_refusal_is_not_well() {
        assert!(went_well(&done(1)));
        assert!(!went_well(&done(2)));
        assert!(!went_well(&Reply::failed("")));
    }
}
