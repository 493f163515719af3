//! Requests from a file instead of from a host: for a guest that nobody talks to, such as the bench's baseline.

use crate::log::say;
use luqual_protocol::{AUTORUN as FILE, AUTORUN_DONE, Reply, Request};

/// Does all of them in order, up to the first that did not go well, says how it ended, and powers the machine off.
pub(crate) fn run() -> Result<(), String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    match text.lines().try_for_each(obey) {
        Ok(()) => say(AUTORUN_DONE),
        Err(why) => say(&format!("luqual-agent: {why}")),
    }
    rustix::system::reboot(rustix::system::RebootCommand::PowerOff).map_err(|errno| format!("power off: {errno}"))
}

/// What is left for the next kernel: all behind the first kexec.
pub(crate) fn left(requests: &[u8]) -> &[u8] {
    let mut rest = requests;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        if matches!(serde_json::from_slice(line), Ok(Request::Kexec)) {
            break;
        }
    }
    rest
}

fn obey(line: &str) -> Result<(), String> {
    let request = serde_json::from_str::<Request>(line).map_err(|error| format!("{FILE}: {error}"))?;
    let reply = crate::call::answer(&request);
    if went_well(&reply) { Ok(()) } else { Err(format!("{request:?}: {reply:?}")) }
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

    #[test]
    fn each_kernel_does_what_comes_before_its_kexec() {
        let (kexec, log) = ("{\"request\":\"kexec\"}\n", "{\"request\":\"kernel-log\"}\n");
        let all = [log, kexec, log, kexec, log].concat();
        let then = left(all.as_bytes());
        assert_eq!(then, [log, kexec, log].concat().as_bytes());
        assert_eq!(left(left(then)), b"");
    }

    #[test]
    fn a_broken_probe_or_a_refusal_is_not_well() {
        let probes = |observed| vec![Probe::compare("size", 1, observed)];
        let done = |observed| Reply::Done { said: Said { probes: probes(observed), ..Said::default() }, taint: 0 };
        assert!(went_well(&done(1)));
        assert!(!went_well(&done(2)));
        assert!(!went_well(&Reply::Failed { message: String::new() }));
        assert!(obey("not a request").is_err());
    }
}
