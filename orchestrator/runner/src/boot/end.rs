//! The end of a boot: finds out why a machine hangs, reads the rest of its console, and keeps the evidence.

use super::driver::BootDriver;
use super::guard::At;
use super::vmcore::{dump, is_wanted};
use crate::judge::Stop;
use crate::lab::Machine;
use luqual_model::{Finding, Phase, Side};
use luqual_vm::{MachineEnd, Scanner};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

impl BootDriver<'_> {
    /// The side of the kernel that ran when the boot stopped. A kernel that is waited for has not proved itself yet, and it is
    /// the one that did not come.
    pub(super) fn side_at_end(&self) -> Side {
        let next = u32::from(self.guard().decided_in() == Phase::Reconnect);
        Side::after(self.hop + next)
    }

    /// Asks a hanging machine where it is, reads the console to its end, and ends the machine. Returns all findings,
    /// and the machine's end if it came earlier.
    pub(super) async fn end(&mut self, stop: &Stop) -> (Vec<Finding>, Option<MachineEnd>) {
        let Some(machine) = self.machine.take() else { return (Vec::new(), None) };
        let console = machine.console().clone();
        // A machine that the host does not let run answers nothing.
        let runs = stop.not_let_run().is_none();
        let (hangs, crashed) = (runs && matches!(stop, Stop::Deadline { .. }), runs && is_crash(stop));
        let vmcore = self.host.vmcore.filter(|it| is_wanted(*it, crashed));
        let mut deadline = self.host.deadlines.of(Phase::Teardown);
        if vmcore.is_some() {
            // A record may have an infinite deadline.
            deadline = deadline.saturating_add(DUMP);
        }
        let (memory_mib, taken) = (self.boot.profile.memory_mib, &self.host.cores_taken);
        let logs = self.logs.clone();
        let keep = self.host.keep.then_some(logs.as_path());
        let mut late = None;
        let ending = async {
            if crashed {
                write_registers(&*machine, &logs).await;
            }
            // Write the core first: the NMI below makes the kernel panic, which may end the machine.
            if let Some(vmcore) = vmcore {
                dump(&*machine, memory_mib, vmcore.limit_mib, taken, &logs).await;
            }
            if hangs {
                ask_why_it_hangs(&*machine).await;
            }
            let (quiet, at_most) = still_prints(stop);
            console.drain(Duration::from_millis(quiet), Duration::from_millis(at_most)).await;
            late = machine.ended();
            // The files of the machine are removed, whether it ends in time or not.
            machine.quit(keep).await.map_err(Stop::Host)
        };
        let at = At { phase: Phase::Teardown, hop: self.hop, part: None };
        let _: Result<(), Stop> = self.guard.last_phase(at, deadline, ending).await;
        let mut findings = console.findings();
        // A boot that has not survived has an end of its own; what was heard counts.
        let _ = self.add_late_log();
        for (hop, log) in &self.kernels.logs {
            add_lost_lines(&mut findings, *hop, log, self.guard.now_us());
        }
        (findings, late)
    }
}

/// Whether the stop is a crash or a hang of a kernel.
fn is_crash(stop: &Stop) -> bool {
    match stop {
        Stop::Machine(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff) | Stop::Deadline { .. } => {
            true
        }
        Stop::Machine(MachineEnd::Qemu(_)) => false,
        Stop::Complete | Stop::Requirement(_) | Stop::Lacks { .. } | Stop::Refused { .. } => false,
        Stop::WrongKernel(_) => false,
        Stop::Agent(_) | Stop::Host(_) | Stop::Interrupted | Stop::SessionClosed => false,
    }
}

/// How long the console has to be quiet, and how long to wait for that at most, both in milliseconds: a crash
/// continues to print after the host has seen it.
fn still_prints(stop: &Stop) -> (u64, u64) {
    match stop {
        // No kernel runs, or its output does not matter.
        Stop::Complete | Stop::Machine(MachineEnd::Reset | MachineEnd::PoweredOff) => (10, 1000),
        _ => (300, 5000),
    }
}

/// The limit for writing a machine's memory, which takes about 2 s.
const DUMP: Duration = Duration::from_secs(120);

/// Writes the registers of each processor, from QEMU.
async fn write_registers(machine: &dyn Machine, logs: &Path) {
    if let Ok(registers) = machine.registers().await {
        // Evidence beside the record, as the console is.
        let _ = fs::write(logs.join("registers.txt"), registers);
    }
}

/// Sends an NMI, so that the kernel prints where each processor is.
async fn ask_why_it_hangs(machine: &dyn Machine) {
    if machine.inject_nmi().await.is_ok() {
        // The panic that it causes ends the machine; a kernel that ignores it stays silent.
        let _ = timeout(Duration::from_secs(10), machine.wait_end()).await;
    }
}

/// Adds the findings that only a kernel's own log has, with line 0.
fn add_lost_lines(findings: &mut Vec<Finding>, hop: u32, kernel_log: &[String], at_us: u64) {
    let mut scanner = Scanner::default();
    scanner.set_hop(hop);
    for line in kernel_log {
        scanner.take(&format!("[    0.000000] {line}"), 0, at_us);
    }
    for finding in scanner.findings() {
        let known = findings.iter().any(|known| (known.hop, &known.text) == (hop, &finding.text));
        if !known {
            findings.push(finding.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Withheld;
    use luqual_model::{FindingKind, Side};

    #[test]
    fn what_ends_a_kernel_is_looked_into() {
        for end in [MachineEnd::Panicked, MachineEnd::Reset, MachineEnd::PoweredOff] {
            assert!(is_crash(&Stop::Machine(end)));
        }
        assert!(is_crash(&Stop::Deadline {
            phase: Phase::Verify,
            seconds: 1,
            silent_ms: None,
            link: None,
            withheld: Withheld::default()
        }));
        assert!(!is_crash(&Stop::Machine(MachineEnd::Qemu("killed".to_owned()))) && !is_crash(&Stop::Complete));
    }

    #[test]
    fn what_the_console_lost_comes_from_the_kernels_log_once() {
        let line = "KHO: disabling KHO revival".to_owned();
        let mut findings = Vec::new();
        add_lost_lines(&mut findings, 1, &[line.clone(), "nothing".to_owned()], 7);
        add_lost_lines(&mut findings, 1, std::slice::from_ref(&line), 8);
        assert_eq!(findings.len(), 1);
        // Another kernel said the same.
        add_lost_lines(&mut findings, 2, &[line], 9);
        assert_eq!((findings.len(), findings[1].hop), (2, 2));
        assert_eq!(
            (findings[0].kind, findings[0].side, findings[0].line),
            (FindingKind::HandoverRefused, Side::Target, 0)
        );
    }
}
