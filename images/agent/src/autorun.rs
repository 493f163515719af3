//! Requests from a file instead of from a host: for a guest that nobody talks to, such as one that has to do the same each time.

use crate::log::say;
use luqual_protocol::{ANSWERS, AUTORUN as FILE, AUTORUN_DONE, Reply, Request};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Write;

/// Does all of them in order, writes down each reply, says whether all went well, and powers the machine off.
pub(crate) fn run() -> Result<(), String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let mut answers = answers();
    let mut course = Course::default();
    for line in text.lines() {
        let request = serde_json::from_str::<Request>(line).map_err(|error| format!("{FILE}: {error}"))?;
        if course.leaves_out(&request) {
            continue;
        }
        let reply = crate::call::answer(&request);
        write_down(answers.as_mut(), &reply)?;
        let more = course.after(&request, &reply);
        for request in more.into_iter().flatten() {
            write_down(answers.as_mut(), &crate::call::answer(&request))?;
        }
        if course.is_over {
            break;
        }
    }
    match &course.unwell {
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

/// How it has gone so far, in this kernel.
#[derive(Default)]
struct Course {
    /// The workloads that were to be preserved.
    preserved: Vec<String>,
    /// The first that did not go well.
    unwell: Option<String>,
    /// Something did not come through the update: nothing more is learnt by another one.
    is_out: bool,
    is_over: bool,
}

impl Course {
    fn leaves_out(&self, request: &Request) -> bool {
        self.is_out && !matches!(request, Request::KernelLog)
    }

    /// Takes in a reply. What was refused in a source has its state looked at once more.
    fn after(&mut self, request: &Request, reply: &Reply) -> Option<Vec<Request>> {
        if let Request::Preserve { workload, .. } = request {
            self.preserved.push(workload.clone());
        }
        if self.unwell.is_none() && !went_well(reply) {
            self.unwell = Some(format!("{request:?}: {reply:?}"));
        }
        match reply {
            Reply::Hello(_) | Reply::Located(_) | Reply::KernelLog(_) | Reply::Done { .. } => {
                // A part of the request to hand on is still done; what begins an update is not.
                self.is_out |= matches!(request, Request::Finish { .. }) && self.unwell.is_some();
                None
            }
            Reply::Refused { .. } => {
                self.is_over = true;
                Some(self.preserved.iter().map(|workload| Request::Verify { workload: workload.clone() }).collect())
            }
            Reply::Missing { .. } | Reply::Failed { .. } => {
                self.is_over = true;
                None
            }
        }
    }
}

fn went_well(reply: &Reply) -> bool {
    match reply {
        Reply::Hello(_) | Reply::Located(_) | Reply::KernelLog(_) => true,
        Reply::Done { said, .. } => said.probes.iter().all(|probe| probe.held),
        Reply::Refused { .. } | Reply::Missing { .. } | Reply::Failed { .. } => false,
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

    fn workload() -> String {
        "memfd.basic".to_owned()
    }

    #[test]
    fn a_broken_probe_or_a_refusal_is_not_well() {
        assert!(went_well(&done(1)));
        assert!(!went_well(&done(2)));
        assert!(!went_well(&Reply::Failed { message: String::new() }));
    }

    #[test]
    fn what_was_broken_is_not_handed_on_and_the_log_is_told_all_the_same() {
        let mut course = Course::default();
        let preserve = Request::Preserve { workload: workload(), seed: 1, device: None };
        assert_eq!(course.after(&Request::Verify { workload: workload() }, &done(2)), None);
        assert!(!course.leaves_out(&Request::Finish { workload: workload() }));
        assert_eq!(course.after(&Request::Finish { workload: workload() }, &done(1)), None);
        assert!(course.leaves_out(&preserve) && course.leaves_out(&Request::Kexec));
        assert!(!course.leaves_out(&Request::KernelLog) && !course.is_over);
    }

    #[test]
    fn what_was_refused_is_looked_at_once_more_and_ends_it() {
        let mut course = Course::default();
        let preserve = Request::Preserve { workload: workload(), seed: 1, device: None };
        let refused = Reply::Refused { call: "x".into(), errno: "EBUSY".into(), about: String::new() };
        assert_eq!(course.after(&preserve, &done(1)), None);
        assert_eq!(course.after(&Request::Kexec, &refused), Some(vec![Request::Verify { workload: workload() }]));
        assert!(course.is_over);
        let mut course = Course::default();
        assert_eq!(course.after(&preserve, &Reply::Failed { message: String::new() }), None);
        assert!(course.is_over);
    }
}
