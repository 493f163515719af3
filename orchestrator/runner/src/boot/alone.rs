//! A boot without a connection to the guest, which makes it deterministic: the first initramfs has all requests, and
//! the guest writes its replies to a file. Steps that need the host while the guest runs are left out.

use super::Boot;
use crate::inject::Fault;
use crate::judge::Stop;
use luqual_protocol::Requirement;
use luqual_vm::{ANSWERS, CONSOLE_RAW, MachineEnd};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// Whether the output of the boot is the guest's alone. It is not if the host ended the machine, since the host's
/// clock differs each time.
pub(super) fn is_of_its_own(stop: &Stop, end: Option<&MachineEnd>) -> bool {
    let is_by_the_host = matches!(stop, Stop::Deadline { .. } | Stop::Host(_) | Stop::Interrupted);
    let has_ended = matches!(end, Some(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff));
    has_ended && !is_by_the_host
}

/// The SHA-256 of the output of the boot: its console, then its replies. `None` if a file cannot be read.
pub(super) async fn digest(logs: &Path) -> Option<String> {
    let logs = logs.to_owned();
    // The files have megabytes: do not block the event loop that watches other machines.
    let digested = tokio::task::spawn_blocking(move || {
        let mut digest = Sha256::new();
        for name in [CONSOLE_RAW, ANSWERS] {
            digest.update(fs::read(logs.join(name)).ok()?);
        }
        Some(luqual_files::digest::hex(&digest.finalize()))
    });
    digested.await.ok()?
}

/// Why a boot cannot run without a connection; `None` if it can.
pub(super) fn needs_the_host(boot: &Boot<'_>, fault: Option<&Fault>) -> Option<String> {
    let [part] = boot.parts.as_slice() else { return Some("cells that share a boot are not deterministic".to_owned()) };
    let workload = part.workload;
    if let Some(device) = workload.device {
        return Some(format!("{} has {device}, a live device, and is not deterministic", workload.name));
    }
    if workload.requires.contains(&Requirement::Kvm) {
        return Some(format!(
            "{} has virtual machines that the host observes, and is not deterministic",
            workload.name
        ));
    }
    match fault {
        None => None,
        Some(fault) if fault.needs_no_host() => None,
        Some(fault) => Some(format!("{fault} is injected by the host, which is not deterministic")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Withheld;
    use luqual_model::Phase;

    #[test]
    fn what_the_host_ended_has_no_digest() {
        let late = Stop::Deadline {
            phase: Phase::Verify,
            seconds: 2,
            silent_ms: None,
            link: None,
            withheld: Withheld::default(),
        };
        // An NMI has it panic.
        assert!(!is_of_its_own(&late, Some(&MachineEnd::Panicked)) && !is_of_its_own(&late, None));
        let failed = Stop::Agent("x".to_owned());
        assert!(is_of_its_own(&failed, Some(&MachineEnd::PoweredOff)) && !is_of_its_own(&failed, None));
        assert!(is_of_its_own(&Stop::Complete, Some(&MachineEnd::PoweredOff)));
        let panicked = MachineEnd::Panicked;
        assert!(is_of_its_own(&Stop::Machine(panicked.clone()), Some(&panicked)));
        assert!(!is_of_its_own(&Stop::Complete, Some(&MachineEnd::Qemu("killed".to_owned()))));
    }
}
