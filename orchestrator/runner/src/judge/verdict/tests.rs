//! Verdicts on evidence that is written down here.

mod host;

use super::*;
use crate::judge::owed::Owed;
use crate::observe::Withheld;
use luqual_config::own_machine;
use luqual_model::{Accel, Emulation, Probe, QemuVersion};
use luqual_vm::Mode;

fn complete() -> Evidence {
    Evidence {
        phase: Phase::Finish,
        first_failed: None,
        stop: Stop::Complete,
        side: Side::Target,
        probes: vec![passed("memfd 1 retrieve"), passed("memfd 1 content")],
        owed: None,
        findings: Vec::new(),
        provoked: Vec::new(),
        taints: vec![0, 0],
        emulation: emulation("q35-intel", QemuVersion(99, 0, 0), Accel::Tcg),
    }
}

fn emulation(profile: &str, qemu: QemuVersion, accel: Accel) -> Emulation {
    Mode::plain(accel).emulation(qemu, own_machine(profile).unwrap())
}

fn passed(name: &str) -> Probe {
    Probe { name: name.into(), expected: "a".into(), observed: "a".into(), passed: true }
}

fn failed(name: &str) -> Probe {
    Probe { name: name.into(), expected: "a".into(), observed: "b".into(), passed: false }
}

fn said(kind: FindingKind, side: Side, text: &str) -> Finding {
    Finding { kind, side, hop: u32::from(side == Side::Target), at_us: 0, line: 1, text: text.into(), function: None }
}

fn refused(call: &str, errno: &str) -> Refusal {
    Refusal { call: call.into(), errno: errno.into(), about: "/dev/liveupdate".into() }
}

fn outcome(evidence: &Evidence) -> Outcome {
    judge(evidence).outcome
}

#[test]
fn all_probes_held_is_a_survival() {
    let verdict = judge(&complete());
    let (title, tainted) = (String::new(), Vec::new());
    let phase = Phase::Finish;
    assert_eq!(verdict, Verdict { outcome: Outcome::Survived, title, refusal: None, side: None, phase, tainted });
}

#[test]
fn a_clock_that_the_emulator_made_wrong_is_not_the_kernels() {
    let line = said(FindingKind::Clock, Side::Target, "tsc: PIT calibration deviates from HPET: 267321 2592875");
    let clock = || failed("machine host: clock over the update");
    let of = |findings: &[Finding], probes, accel| {
        let emulation = emulation("q35-intel", QemuVersion(99, 0, 0), accel);
        outcome(&Evidence { findings: findings.to_vec(), probes, emulation, ..complete() })
    };
    let lines = std::slice::from_ref(&line);
    assert_eq!(of(lines, vec![clock()], Accel::Tcg), Outcome::HarnessFailed);
    // It spoils nothing else, and excuses nothing else.
    assert_eq!(of(lines, vec![passed("machine clock over the update")], Accel::Tcg), Outcome::Survived);
    assert_eq!(of(lines, vec![clock(), failed("memfd 1 content")], Accel::Tcg), Outcome::Lost);
    assert_eq!(of(lines, vec![clock()], Accel::Kvm), Outcome::Lost);
    assert_eq!(of(&[], vec![clock()], Accel::Tcg), Outcome::Lost);
}

#[test]
fn nothing_checked_is_no_survival() {
    assert_eq!(outcome(&Evidence { probes: Vec::new(), ..complete() }), Outcome::HarnessFailed);
}

#[test]
fn one_broken_probe_is_a_loss_that_names_it() {
    let verdict =
        judge(&Evidence { probes: vec![passed("x"), failed("memfd 64m content"), failed("y")], ..complete() });
    assert_eq!(verdict.outcome, Outcome::Lost);
    assert_eq!(verdict.title, "memfd 64m content: expected a, observed b");
}

#[test]
fn no_crash_line_on_either_side_lets_a_cell_survive() {
    for side in [Side::Source, Side::Target] {
        for kind in [FindingKind::Panic, FindingKind::Oops, FindingKind::Bug] {
            let verdict = judge(&Evidence { findings: vec![said(kind, side, "the line")], ..complete() });
            assert_eq!((verdict.outcome, verdict.title.as_str()), (Outcome::Crashed, "the line"));
        }
    }
}

#[test]
fn a_warning_a_stall_or_a_taint_taints_a_survival() {
    for kind in [FindingKind::Warning, FindingKind::Stall, FindingKind::HungTask] {
        let verdict = judge(&Evidence { findings: vec![said(kind, Side::Source, "the line")], ..complete() });
        assert_eq!(
            (verdict.outcome, verdict.tainted.as_slice()),
            (Outcome::Survived, &["source: the line".to_owned()][..])
        );
    }
    let verdict = judge(&Evidence { taints: vec![0, 1 << 9 | 1 << 7], ..complete() });
    assert_eq!(verdict.tainted, ["target: taint 640 (DW)"]);
}

/// Each way to end, with what it ends in.
fn ends() -> Vec<(Outcome, Evidence)> {
    let refused = |side| Stop::Refused { refused: refused("ioctl X", "EBUSY"), side, intact: Ok(()) };
    let stopped = |stop| Evidence { stop, probes: Vec::new(), ..complete() };
    vec![
        (Outcome::Survived, complete()),
        (Outcome::Lost, Evidence { probes: vec![failed("x")], ..complete() }),
        (Outcome::Incompatible, stopped(refused(Side::Target))),
        (Outcome::Refused, stopped(refused(Side::Source))),
        (Outcome::Crashed, stopped(Stop::Machine(MachineEnd::Panicked))),
        (Outcome::Skipped, stopped(Stop::Requirement("LUO".into()))),
        (Outcome::HarnessFailed, stopped(Stop::Agent("x".into()))),
    ]
}

#[test]
fn whatever_the_outcome_a_warning_and_a_taint_of_any_kernel_count() {
    let ends = ends();
    assert_eq!(ends.iter().map(|(outcome, _)| *outcome).collect::<Vec<_>>(), Outcome::ALL);
    for (ends_as, evidence) in ends {
        for (hop, name) in [(0, "source"), (1, "target"), (2, "after kexec 2")] {
            let mut warned = evidence.clone();
            warned.findings = vec![Finding { hop, ..said(FindingKind::Warning, Side::after(hop), "WARNING: x") }];
            let verdict = judge(&warned);
            assert_eq!((verdict.outcome, verdict.tainted), (ends_as, vec![format!("{name}: WARNING: x")]));
            let mut tainted = evidence.clone();
            tainted.taints = vec![0; 3];
            tainted.taints[hop as usize] = 512;
            let verdict = judge(&tainted);
            assert_eq!((verdict.outcome, verdict.tainted), (ends_as, vec![format!("{name}: taint 512 (W)")]));
        }
    }
}

#[test]
fn an_error_that_a_kernel_lives_with_taints_a_survival_and_no_loss() {
    let error = said(FindingKind::Error, Side::Source, "Out of memory: Killed process 71 (hold)");
    for (outcome, evidence) in ends() {
        let verdict = judge(&Evidence { findings: vec![error.clone()], ..evidence });
        let tainted = if outcome == Outcome::Survived { vec![format!("source: {}", error.text)] } else { Vec::new() };
        assert_eq!((verdict.outcome, verdict.tainted), (outcome, tainted));
    }
    // What the workload asked for is no sign of anything; a warning always is.
    let provoked = |finding: &Finding| {
        let (findings, provoked) = (vec![finding.clone()], vec!["Killed process 71"]);
        judge(&Evidence { findings, provoked, ..complete() }).tainted.len()
    };
    let warning = said(FindingKind::Warning, Side::Source, "WARNING: Killed process 71");
    assert_eq!((provoked(&error), provoked(&warning)), (0, 1));
}

#[test]
fn a_crash_is_not_tainted_by_itself_but_by_what_came_before() {
    let warning = said(FindingKind::Warning, Side::Source, "WARNING: x");
    let oops = said(FindingKind::Oops, Side::Target, "Oops: y");
    let after = said(FindingKind::Warning, Side::Target, "WARNING: z");
    let panic = said(FindingKind::Panic, Side::Target, "Kernel panic - not syncing: Fatal exception");
    let crashed = |findings| judge(&Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() });
    assert_eq!(crashed(vec![oops.clone(), after.clone(), panic.clone()]).tainted, Vec::<String>::new());
    let verdict = crashed(vec![warning, oops, after, panic]);
    assert_eq!((verdict.outcome, verdict.title.as_str()), (Outcome::Crashed, "Oops: y"));
    assert_eq!(verdict.tainted, ["source: WARNING: x"]);
}

#[test]
fn the_first_line_of_a_crash_is_its_title() {
    let findings = vec![
        said(FindingKind::Kho, Side::Target, "KHO: found"),
        said(FindingKind::Oops, Side::Target, "BUG: kernel NULL pointer dereference"),
        said(FindingKind::Panic, Side::Target, "Kernel panic - not syncing: Fatal exception"),
    ];
    let evidence = Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() };
    assert_eq!(judge(&evidence).title, "BUG: kernel NULL pointer dereference");
}

#[test]
fn a_crash_is_known_by_its_line_and_its_function_and_panic_on_warn_by_the_warning() {
    let crashed = |findings| judge(&Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() });
    let at = |kind, text: &str, function: &str| Finding {
        function: Some(function.to_owned()),
        ..said(kind, Side::Target, text)
    };
    let int3 = |function| at(FindingKind::Oops, "Oops: int3: 0000 [#1] SMP NOPTI", function);
    assert_eq!(crashed(vec![int3("sched_clock_cpu")]).title, "Oops: int3: 0000 [#1] SMP NOPTI, in sched_clock_cpu");
    assert_ne!(crashed(vec![int3("a")]).title, crashed(vec![int3("b")]).title);
    // The line has it.
    let warning = at(FindingKind::Warning, "WARNING: at kho_restore_page+0xb1/0x140, CPU#1: a/48", "kho_restore_page");
    let other = said(FindingKind::Warning, Side::Source, "WARNING: at other+0x1/0x2");
    let panic = said(FindingKind::Panic, Side::Target, "Kernel panic - not syncing: kernel: panic_on_warn set ...");
    let verdict = crashed(vec![other.clone(), warning, panic.clone()]);
    assert_eq!(verdict.outcome, Outcome::Crashed);
    assert_eq!(verdict.title, "WARNING: at kho_restore_page+…/…, CPU#…: a/…");
    // Another kernel's warning is not its cause.
    assert_eq!(crashed(vec![other, panic.clone()]).title, panic.text);
}

#[test]
fn who_refused_what_and_who_crashed_is_told() {
    let stop = |side, errno| Stop::Refused { refused: refused("ioctl X", errno), side, intact: Ok(()) };
    for (side, probes, outcome) in [
        (Side::Source, vec![passed("x")], Outcome::Refused),
        (Side::Target, Vec::new(), Outcome::Incompatible),
        (Side::Target, vec![passed("x retrieve")], Outcome::Lost),
    ] {
        let verdict = judge(&Evidence { stop: stop(side, "EIO"), probes, ..complete() });
        assert_eq!((verdict.outcome, verdict.side), (outcome, Some(side)));
        assert_eq!(verdict.refusal, Some(refused("ioctl X", "EIO")));
    }
    for ran in [Side::Source, Side::Target] {
        let stop = Stop::Machine(MachineEnd::Reset);
        let silent = judge(&Evidence { stop: stop.clone(), side: ran, findings: Vec::new(), ..complete() });
        assert_eq!((silent.outcome, silent.side, silent.refusal), (Outcome::Crashed, Some(ran), None));
        // A line says whose it was, whoever is thought to run.
        let findings = vec![said(FindingKind::Oops, Side::Source, "Oops: x")];
        assert_eq!(judge(&Evidence { stop, side: ran, findings, ..complete() }).side, Some(Side::Source));
    }
    assert_eq!(judge(&Evidence { probes: vec![failed("x")], ..complete() }).side, None);
}

#[test]
fn the_death_of_init_is_the_agents() {
    let line = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100";
    let findings = vec![said(FindingKind::Panic, Side::Source, line)];
    assert_eq!(
        outcome(&Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() }),
        Outcome::HarnessFailed
    );
}

#[test]
fn an_agent_that_was_killed_for_its_memory_after_an_update_is_the_kernels() {
    let ended = |side, exitcode: &str| {
        let line = format!("Kernel panic - not syncing: Attempted to kill init! exitcode={exitcode}");
        let findings = vec![said(FindingKind::Panic, side, &line)];
        outcome(&Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() })
    };
    // SIGSEGV, SIGBUS, SIGILL; with a core, too.
    for exitcode in ["0x0000000b", "0x00000007", "0x00000004", "0x0000008b"] {
        assert_eq!(ended(Side::Target, exitcode), Outcome::Crashed, "{exitcode}");
        assert_eq!(ended(Side::Source, exitcode), Outcome::HarnessFailed, "{exitcode}");
    }
    // An exit, SIGABRT, and what cannot be read.
    for exitcode in ["0x00000100", "0x00000b00", "0x00000006", "0x", "?"] {
        assert_eq!(ended(Side::Target, exitcode), Outcome::HarnessFailed, "{exitcode}");
    }
}

#[test]
fn machines_that_stop_are_crashes_unless_it_was_qemu() {
    for stop in [MachineEnd::Panicked, MachineEnd::Reset, MachineEnd::PoweredOff] {
        assert_eq!(outcome(&Evidence { stop: Stop::Machine(stop), ..complete() }), Outcome::Crashed);
    }
    let stop = Stop::Machine(MachineEnd::Qemu("killed by signal 9".into()));
    // Even with a crash on the console: who knows what the dying QEMU did to the guest.
    let findings = vec![said(FindingKind::Panic, Side::Target, "Kernel panic")];
    assert_eq!(outcome(&Evidence { stop, findings, ..complete() }), Outcome::HarnessFailed);
}

#[test]
fn the_panic_that_the_host_asked_for_is_no_cause() {
    let findings = vec![said(FindingKind::Panic, Side::Target, "Kernel panic - not syncing: NMI: Not continuing")];
    let judged = |stop| judge(&Evidence { stop, findings: findings.clone(), ..complete() });
    let late = |silent_ms| {
        judged(Stop::Deadline {
            phase: Phase::Reconnect,
            seconds: 60,
            silent_ms,
            link: None,
            withheld: Withheld::default(),
        })
    };
    assert_eq!(late(Some(3)).outcome, Outcome::HarnessFailed);
    assert_eq!(late(None).outcome, Outcome::Crashed);
    assert!(late(None).title.starts_with("hang: the agent never answered"), "{}", late(None).title);
    assert_eq!(late(None).tainted, [""; 0], "it taints nothing either");
    // Where nobody asked, an NMI is the machine's.
    assert!(judged(Stop::Machine(MachineEnd::Panicked)).title.contains("NMI: Not continuing"));
}

#[test]
fn a_refusal_in_the_source_needs_an_intact_source() {
    let stop = |intact| Stop::Refused { refused: refused("ioctl X", "EBUSY"), side: Side::Source, intact };
    assert_eq!(outcome(&Evidence { stop: stop(Ok(())), ..complete() }), Outcome::Refused);
    assert_eq!(outcome(&Evidence { stop: stop(Err("memfd 1".into())), ..complete() }), Outcome::Lost);
    let verdict = judge(&Evidence { stop: stop(Ok(())), probes: vec![passed("x"), failed("y")], ..complete() });
    assert_eq!(verdict.outcome, Outcome::Lost);
    assert_eq!(verdict.title, "y: expected a, observed b; then ioctl X: EBUSY (/dev/liveupdate)");
}

#[test]
fn a_target_that_refuses_as_a_whole_is_incompatible() {
    let line = "KHO: setup: handover FDT (0x1) is incompatible with 'kho-v4': -22";
    let findings = vec![said(FindingKind::HandoverRefused, Side::Target, line)];
    let stop = |errno| Stop::Refused { refused: refused("open", errno), side: Side::Target, intact: Ok(()) };
    // By its log, with or without a device, and when nothing could be retrieved.
    for stop in [stop("ENOENT"), stop("EIO")] {
        let verdict = judge(&Evidence { stop, findings: findings.clone(), probes: Vec::new(), ..complete() });
        // The address is another one in the next boot.
        let title = line.replace("0x1", "…");
        assert_eq!((verdict.outcome, verdict.title), (Outcome::Incompatible, title));
    }
    let nothing = vec![failed("session a retrieve"), failed("memfd 1 retrieve")];
    assert_eq!(outcome(&Evidence { probes: nothing, findings: findings.clone(), ..complete() }), Outcome::Incompatible);
    // By an errno from the device.
    assert_eq!(outcome(&Evidence { stop: stop("EIO"), probes: Vec::new(), ..complete() }), Outcome::Incompatible);
    // Not after it gave something out.
    assert_eq!(outcome(&Evidence { stop: stop("EBUSY"), ..complete() }), Outcome::Lost);
    // Something of it was used all the same: then it is not the whole.
    let some = vec![passed("session a retrieve"), failed("memfd 1 retrieve")];
    assert_eq!(outcome(&Evidence { probes: some, findings, ..complete() }), Outcome::Lost);
}

#[test]
fn a_refusal_that_the_source_printed_is_not_the_targets() {
    let findings = vec![said(FindingKind::HandoverRefused, Side::Source, "KHO: disabling KHO revival")];
    assert_eq!(outcome(&Evidence { probes: vec![failed("memfd 1 retrieve")], findings, ..complete() }), Outcome::Lost);
}

#[test]
fn a_target_without_the_device_has_lost_what_it_took() {
    let stop = Stop::Refused { refused: refused("open", "ENOENT"), side: Side::Target, intact: Ok(()) };
    let findings = vec![said(FindingKind::Kho, Side::Target, "KHO: found kexec handover data.")];
    let verdict = judge(&Evidence { stop, findings, probes: Vec::new(), ..complete() });
    assert_eq!(verdict.outcome, Outcome::Lost);
    assert_eq!(verdict.title, "the target has no /dev/liveupdate; its console: KHO: found kexec handover data.");
}

#[test]
fn a_deadline_is_a_hang_only_when_the_guest_is_silent() {
    let stop = |silent_ms| Stop::Deadline {
        phase: Phase::Verify,
        seconds: 60,
        silent_ms,
        link: None,
        withheld: Withheld::default(),
    };
    assert_eq!(outcome(&Evidence { stop: stop(Some(3)), ..complete() }), Outcome::HarnessFailed);
    assert_eq!(outcome(&Evidence { stop: stop(Some(59_000)), ..complete() }), Outcome::Crashed);
    assert_eq!(outcome(&Evidence { stop: stop(None), ..complete() }), Outcome::Crashed);
    // A kernel that says why is heard, whoever ticks.
    let findings = vec![said(FindingKind::HungTask, Side::Source, "INFO: task hold:70 blocked")];
    assert_eq!(outcome(&Evidence { stop: stop(Some(3)), findings, ..complete() }), Outcome::Crashed);
}

#[test]
fn who_was_heard_before_is_not_said_to_be_never_heard() {
    let late = |phase| {
        let verdict = judge(&Evidence {
            stop: Stop::Deadline { phase, seconds: 2, silent_ms: None, link: None, withheld: Withheld::default() },
            ..complete()
        });
        assert_eq!(verdict.outcome, Outcome::Crashed);
        verdict.title
    };
    for phase in [Phase::Boot, Phase::Reconnect] {
        assert_eq!(late(phase), format!("hang: the agent never answered; the deadline of {phase} is 2 s"));
    }
    let unknown = "no answer; without ticks, a kernel that hangs cannot be told from an agent that is late";
    // Whatever phase a probe was broken in before.
    for phase in [Phase::Kexec, Phase::Verify] {
        assert_eq!(late(phase), format!("{unknown}; the deadline of {phase} is 2 s"));
    }
}

#[test]
fn nothing_is_claimed_of_kernels_when_the_tool_or_the_agent_failed() {
    for stop in [Stop::Host("x".into()), Stop::Agent("x".into()), Stop::WrongKernel("x".into()), Stop::Interrupted] {
        assert_eq!(outcome(&Evidence { stop, ..complete() }), Outcome::HarnessFailed);
    }
    assert_eq!(outcome(&Evidence { stop: Stop::Requirement("LUO".into()), ..complete() }), Outcome::Skipped);
}

#[test]
fn what_a_crash_took_away_is_no_requirement_and_no_fault_of_the_agent() {
    let oops = said(FindingKind::Oops, Side::Source, "Oops: general protection fault");
    let init = said(FindingKind::Panic, Side::Source, "Kernel panic - not syncing: Attempted to kill init!");
    let missing = Stop::Requirement("no /dev/liveupdate".into());
    let findings = vec![oops.clone()];
    assert_eq!(outcome(&Evidence { stop: missing, findings, ..complete() }), Outcome::Crashed);
    let ended = |findings| outcome(&Evidence { stop: Stop::Machine(MachineEnd::Panicked), findings, ..complete() });
    assert_eq!(ended(vec![init.clone()]), Outcome::HarnessFailed);
    assert_eq!(ended(vec![oops, init]), Outcome::Crashed);
}

#[test]
fn only_a_complete_cell_survives() {
    let stops = [
        Stop::Requirement("x".into()),
        Stop::Refused { refused: refused("open", "EIO"), side: Side::Target, intact: Ok(()) },
        Stop::Machine(MachineEnd::Reset),
        Stop::Deadline {
            phase: Phase::Verify,
            seconds: 1,
            silent_ms: Some(0),
            link: None,
            withheld: Withheld::default(),
        },
        Stop::WrongKernel("x".into()),
        Stop::Agent("x".into()),
        Stop::Host("x".into()),
        Stop::Interrupted,
    ];
    for stop in stops {
        assert_ne!(outcome(&Evidence { stop, ..complete() }), Outcome::Survived);
    }
}

#[test]
fn a_loss_is_decided_by_its_first_failed_probe_and_a_crash_where_it_comes() {
    let first_failed = Some(Phase::Preserve);
    let probes = vec![failed("x")];
    let lost = judge(&Evidence { first_failed, probes: probes.clone(), ..complete() });
    assert_eq!((lost.outcome, lost.phase), (Outcome::Lost, Phase::Preserve));
    let findings = vec![said(FindingKind::Panic, Side::Target, "Kernel panic - not syncing: x")];
    let phase = Phase::Reconnect;
    let crashed = judge(&Evidence { phase, first_failed, probes, findings, ..complete() });
    assert_eq!((crashed.outcome, crashed.phase), (Outcome::Crashed, Phase::Reconnect));
}

#[test]
fn a_survival_has_every_probe_that_the_workload_owes_and_no_other() {
    let owed = |names: &[&'static str]| Some(vec![names.iter().map(|name| (*name, 1)).collect::<Owed<'_>>()]);
    let whole = ["memfd 1 retrieve", "memfd 1 content"];
    assert_eq!(outcome(&Evidence { owed: owed(&whole), ..complete() }), Outcome::Survived);
    let more = judge(&Evidence { owed: owed(&["memfd 1 retrieve", "memfd 1 content", "memfd 1 size"]), ..complete() });
    assert_eq!(more.outcome, Outcome::HarnessFailed);
    assert_eq!(more.title, "the guest did not tell what the workload owes: missing: memfd 1 size");
    let forged = vec![passed("looks good"); 5];
    let forged = Evidence { owed: owed(&whole), probes: forged, ..complete() };
    assert_eq!(outcome(&forged), Outcome::HarnessFailed);
    // A probe that failed ends some workloads before their last one.
    let lost = Evidence { owed: owed(&whole), probes: vec![failed("memfd 1 retrieve")], ..complete() };
    assert_eq!(outcome(&lost), Outcome::Lost);
}
