//! Red that is the emulator's or the host's.

use super::*;
use luqual_vm::Scanner;
use std::time::Duration;

/// The findings of a console that was kept, with the host's time stamps, of the kernel after `hop` kexecs.
fn scanned(console: &str, hop: u32) -> Vec<Finding> {
    let mut scanner = Scanner::default();
    scanner.set_hop(hop);
    console.lines().zip(1..).for_each(|(line, number)| scanner.take(line, number, 0));
    scanner.findings().to_vec()
}

#[test]
fn an_oops_that_is_known_of_the_emulator_is_not_the_kernels() {
    let consoles = [
        include_str!("../../../../tests/consoles/int3-source.txt"),
        include_str!("../../../../tests/consoles/int3-target.txt"),
    ];
    for (hop, console) in (0..).zip(consoles) {
        let findings = scanned(console, hop);
        assert_eq!(findings[0].function.as_deref(), Some("sched_clock_cpu"));
        let mut taints = vec![0, 0];
        taints[hop as usize] = 1 << 7;
        let judged = |qemu, accel, taints: &[u64]| {
            let stop = Stop::Machine(MachineEnd::Panicked);
            let (findings, taints) = (findings.clone(), taints.to_vec());
            let emulation = emulation("q35-intel", qemu, accel);
            judge(&Evidence { stop, probes: Vec::new(), findings, taints, emulation, ..complete() })
        };
        let verdict = judged(QemuVersion(7, 2, 22), Accel::Tcg, &taints);
        assert_eq!(verdict.outcome, Outcome::HarnessFailed);
        assert!(verdict.title.contains("removed breakpoint") && verdict.title.contains("QEMU 8.1.0 mends it"));
        assert_eq!((verdict.tainted, verdict.side), (Vec::<String>::new(), None));
        // What the kernel says beside it counts.
        taints[hop as usize] |= 1 << 9;
        assert_eq!(judged(QemuVersion(7, 2, 22), Accel::Tcg, &taints).tainted.len(), 1);
        for (qemu, accel) in [(QemuVersion(8, 1, 0), Accel::Tcg), (QemuVersion(7, 2, 22), Accel::Kvm)] {
            let verdict = judged(qemu, accel, &taints);
            assert_eq!(verdict.outcome, Outcome::Crashed);
            assert_eq!((verdict.side, verdict.tainted.len()), (Some(Side::after(hop)), 1));
        }
    }
}

#[test]
fn a_boot_that_hangs_as_is_known_of_the_emulator_is_not_the_kernels() {
    let judged = |phase, profile| {
        let stop = late(phase, 60, Withheld::default());
        judge(&Evidence { stop, emulation: emulation(profile, QemuVersion(10, 0, 2), Accel::Tcg), ..complete() })
    };
    for phase in [Phase::Boot, Phase::Reconnect] {
        let verdict = judged(phase, "vfio-amd");
        assert_eq!(verdict.outcome, Outcome::HarnessFailed);
        assert!(verdict.title.contains("boot with AMD's IOMMU"), "{}", verdict.title);
        assert_eq!(judged(phase, "vfio-intel").outcome, Outcome::Crashed);
    }
    assert_eq!(judged(Phase::Verify, "vfio-amd").outcome, Outcome::Crashed);
}

#[test]
fn a_control_that_was_not_seen_says_nothing_of_a_kernel_and_hides_no_loss() {
    let control = failed("control host: bus mastering");
    let unseen = judge(&Evidence { probes: vec![passed("memfd 1 retrieve"), control.clone()], ..complete() });
    assert_eq!(unseen.outcome, Outcome::HarnessFailed);
    assert!(unseen.title.starts_with("control host: bus mastering: expected "), "{}", unseen.title);
    let lost = judge(&Evidence { probes: vec![control, failed("memfd 1 content")], ..complete() });
    assert_eq!((lost.outcome, lost.title.starts_with("memfd 1 content")), (Outcome::Lost, true));
}

fn late(phase: Phase, seconds: u64, withheld: Withheld) -> Stop {
    Stop::Deadline { phase, seconds, silent_ms: None, link: None, withheld }
}

#[test]
fn a_machine_that_the_host_did_not_let_run_says_nothing_of_its_kernel() {
    let judged = |phase, stopped| {
        let withheld = Withheld { stopped: Duration::from_secs(stopped), ..Withheld::default() };
        judge(&Evidence { stop: late(phase, 60, withheld), ..complete() })
    };
    for phase in [Phase::Boot, Phase::Reconnect, Phase::Verify] {
        // The deadline was extended by as much.
        assert_eq!(judged(phase, 60).outcome, Outcome::Crashed);
        let verdict = judged(phase, 61);
        assert_eq!(verdict.outcome, Outcome::HarnessFailed);
        assert!(verdict.title.contains("QEMU was stopped by a signal for 61.0 s"), "{}", verdict.title);
    }
    // What the kernel says of itself counts all the same.
    let findings = vec![said(FindingKind::Oops, Side::Source, "Oops: general protection fault")];
    let withheld = Withheld { stopped: Duration::from_secs(99), ..Withheld::default() };
    assert_eq!(
        outcome(&Evidence { stop: late(Phase::Verify, 60, withheld), findings, ..complete() }),
        Outcome::Crashed
    );
}
