//! Each way in which each phase can end.

use super::trial::{Trial, fails, refused};
use crate::fake::{Play, Script, pages};
use crate::observe::LateLog;
use luqual_model::{Outcome, Phase, Side, kernel_after};
use luqual_protocol::{Archived, KernelLog, Located, NotDone, Probe, Reply, Request, Said, find_workload};
use luqual_vm::MachineEnd;
use std::time::Duration;

/// The phase that a request belongs to, in an update of one hop.
fn phase_of(hop: u32, request: &Request) -> Phase {
    match request {
        Request::Hello { .. } if hop == 0 => Phase::Handshake,
        Request::Hello { .. } => Phase::Reconnect,
        Request::Preserve { .. } => Phase::Preserve,
        Request::Load { .. } => Phase::Load,
        Request::Kexec => Phase::Kexec,
        // The log of a kernel that is about to be left.
        Request::KernelLog if hop == 0 => Phase::Boot,
        Request::Retrieve { .. } => Phase::Retrieve,
        Request::Verify { .. } => Phase::Verify,
        Request::Finish { .. } => Phase::Finish,
        _ => Phase::Collect,
    }
}

/// A guest that does well but in one phase.
fn but_in(phase: Phase, play: Play) -> Trial {
    let plays = move |hop, request: &Request| if phase_of(hop, request) == phase { play.clone() } else { Play::Well };
    Trial::of(Script::plays(plays))
}

async fn ends(phase: Phase, play: Play, outcome: Outcome, title: &str) {
    let tried = but_in(phase, play).run().await;
    let told = tried.told();
    assert_eq!((told.0, told.1), (outcome, phase), "{}", told.2);
    assert!(told.2.contains(title), "{}", told.2);
}

const OOPS: &str = "[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008";

/// Tests of one phase: `name: what the guest does in it, the outcome, a part of the title;`.
macro_rules! ways {
    ($module:ident, $phase:expr; $($name:ident: $play:expr, $outcome:ident, $title:expr;)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    ends($phase, $play, Outcome::$outcome, $title).await;
                }
            )*
        }
    };
}

/// A phase in which a guest that ticks is asked for something, and what its refusal comes to, and a lack of something.
macro_rules! asked {
    ($module:ident, $phase:expr, $refused:ident, $missing:ident) => {
        ways! { $module, $phase;
            a_panic_is_a_crash: Play::End(MachineEnd::Panicked), Crashed, "the guest panicked";
            a_reset_is_a_crash: Play::End(MachineEnd::Reset), Crashed, "the guest reset the machine";
            a_power_off_is_a_crash: Play::End(MachineEnd::PoweredOff), Crashed, "powered the machine off";
            a_qemu_that_ends_is_no_crash: Play::End(MachineEnd::Qemu("QEMU ended".into())), HarnessFailed, "QEMU ended";
            a_guest_that_ticks_is_no_hang: Play::Silent, HarnessFailed, "the guest runs, but its agent did not answer";
            an_agent_that_fails_is_no_crash:
                Play::Reply(Reply::failed("no memory")), HarnessFailed, "no memory";
            what_is_missing_is_named: Play::Reply(NotDone::Missing { what: "no device".into() }.into()), $missing, "no device";
            a_refusal_names_call_and_errno: refused(), $refused, "EBUSY";
            an_answer_out_of_turn_is_the_agents_fault:
                Play::Reply(Reply::Located(Located { address: None })), HarnessFailed, "a reply of the wrong kind";
        }
    };
}

asked!(preserve, Phase::Preserve, Refused, Skipped);
asked!(load, Phase::Load, Refused, HarnessFailed);
asked!(kexec, Phase::Kexec, Refused, HarnessFailed);
asked!(retrieve, Phase::Retrieve, Incompatible, Lost);
asked!(verify, Phase::Verify, Lost, Lost);
asked!(finish, Phase::Finish, Lost, Lost);

ways! { silence, Phase::Verify;
    without_ticks_is_a_hang: Play::Hang, Crashed, "hang: the ticks stopped; the deadline of verify is";
    of_a_connection_that_ended_is_no_hang: Play::Cut, HarnessFailed, "the connection ended";
    after_an_oops_is_a_crash: Play::Say(OOPS, Box::new(Play::Cut)), Crashed, "NULL pointer dereference";
    beyond_the_deadline_is_not_waited_for:
        Play::After(Duration::from_secs(3600), Box::new(Play::Well)), HarnessFailed, "did not answer";
}

ways! { agents_death, Phase::Preserve;
    is_no_crash: Play::Cut, HarnessFailed, "the connection ended";
}

ways! { handshake, Phase::Handshake;
    a_panic_is_a_crash: Play::End(MachineEnd::Panicked), Crashed, "the guest panicked";
    silence_is_held_against_the_kernel: Play::Silent, Crashed, "the deadline of handshake is";
    an_agent_of_another_version_is_no_crash:
        Play::Reply(Reply::failed("protocol version 6")), HarnessFailed, "protocol version 6";
    another_answer_is_no_handshake: refused(), HarnessFailed, "answered the handshake with";
}

ways! { reconnect, Phase::Reconnect;
    a_panic_is_a_crash: Play::End(MachineEnd::Panicked), Crashed, "the guest panicked";
    a_reset_is_a_crash: Play::End(MachineEnd::Reset), Crashed, "the guest reset the machine";
    a_qemu_that_ends_is_no_crash: Play::End(MachineEnd::Qemu("QEMU ended".into())), HarnessFailed, "QEMU ended";
    an_agent_that_listens_and_never_answers_is_told: Play::Silent, HarnessFailed, "the agent listens";
    the_error_of_the_last_connection_is_told: Play::Cut, HarnessFailed, "the connection ended before the command did";
}

ways! { collect, Phase::Collect;
    a_panic_is_a_crash: Play::End(MachineEnd::Panicked), Crashed, "the guest panicked";
    a_connection_that_ends_is_no_crash: Play::Cut, HarnessFailed, "the connection ended";
    a_guest_that_ticks_is_no_hang: Play::Silent, HarnessFailed, "the guest runs";
}

#[tokio::test(start_paused = true)]
async fn a_crash_without_a_line_is_of_the_kernel_that_runs_in_its_phase() {
    let (source, target) = (Some(Side::Source), Some(Side::Target));
    for (phase, side) in
        [(Phase::Preserve, source), (Phase::Kexec, source), (Phase::Reconnect, target), (Phase::Retrieve, target)]
    {
        let tried = but_in(phase, Play::End(MachineEnd::Reset)).run().await;
        assert_eq!(tried.record.unwrap().side, side, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_well_survives_and_passes_all_phases() {
    let tried = Trial::default().run().await;
    assert_eq!(tried.told(), (Outcome::Survived, Phase::Collect, ""));
    assert_eq!(tried.passed(), Phase::ALL);
    assert!(tried.record.unwrap().blackout.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_is_a_loss_where_it_failed_and_the_rest_is_still_done() {
    let tried = but_in(Phase::Verify, fails()).run().await;
    assert_eq!(tried.told(), (Outcome::Lost, Phase::Verify, "memfd 4k content: expected as it was, observed another"));
    assert_eq!(tried.passed(), Phase::ALL);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_just_in_time_counts() {
    let late = Play::After(Duration::from_secs(119), Box::new(Play::Well));
    assert_eq!(but_in(Phase::Verify, late).run().await.told().0, Outcome::Survived);
}

/// A guest whose kernel after `hop` kexecs has these words in its log, and is tainted so when its log is read.
fn told_by(hop: u32, line: &'static str, taint: u64, workload: &'static str) -> Trial {
    let plays = move |now, request: &Request| match request {
        Request::KernelLog if now == hop => {
            Play::Reply(Reply::KernelLog(KernelLog { lines: vec![line.to_owned()], taint, vmcoreinfo: None }))
        }
        _ => Play::Well,
    };
    Trial { workload: Some(workload), ..Trial::of(Script::plays(plays)) }
}

#[tokio::test(start_paused = true)]
async fn what_any_kernel_says_of_itself_counts() {
    const WARNING: &str = "WARNING: kernel/liveupdate/luo_file.c:1 at luo_freeze, CPU#0: a/1";
    for workload in ["memfd.basic", "lifecycle.there-and-back"] {
        let hops = find_workload(workload).unwrap().update.hops;
        for hop in 0..=hops {
            for (line, taint) in [(WARNING, 0), ("nothing", 512)] {
                let record = told_by(hop, line, taint, workload).run().await.record.unwrap();
                assert_eq!(record.outcome, Outcome::Survived);
                let [told] = record.tainted.as_slice() else { panic!("{workload} {hop}: {:?}", record.tainted) };
                let what = if taint == 0 { line } else { "taint 512 (W)" };
                assert_eq!(*told, format!("{}: {what}", kernel_after(hop)));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_luqual_brings_without_a_signature_taints_nothing() {
    const UNSIGNED: u64 = 1 << 13;
    const SIGNED: &[u8] = b"ELF~Module signature appended~\n";
    for (module, hop, taint, told) in [
        (Some(&b"ELF"[..]), 1, UNSIGNED, None),
        (Some(b"ELF"), 1, UNSIGNED | 512, Some("target: taint 512 (W)")),
        // Nothing else explains the flag.
        (Some(b"ELF"), 0, UNSIGNED, Some("source: taint 8192 (E)")),
        (Some(SIGNED), 1, UNSIGNED, Some("target: taint 8192 (E)")),
        (None, 1, UNSIGNED, Some("target: taint 8192 (E)")),
    ] {
        let trial = Trial { module, ..told_by(hop, "nothing", taint, "memfd.basic") };
        let record = trial.run().await.record.unwrap();
        assert_eq!(record.tainted, told.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{module:?} {hop}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_kernel_says_after_it_was_last_asked_counts() {
    const WARNING: &str = "WARNING: kernel/liveupdate/luo_file.c:1 at luo_freeze, CPU#0: a/1";
    let hops = find_workload("lifecycle.there-and-back").unwrap().update.hops;
    for hop in 0..hops {
        for (line, taint) in [(Some(WARNING), 0), (None, 512)] {
            let lines: Vec<String> = line.into_iter().map(str::to_owned).collect();
            let late =
                move |now| Ok(if now == hop { LateLog { lines: lines.clone(), taint } } else { LateLog::default() });
            let script = Script { says_late: Box::new(late), ..Script::default() };
            let trial = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::of(script) };
            let record = trial.run().await.record.unwrap();
            assert_eq!(record.outcome, Outcome::Survived);
            let what = line.unwrap_or("taint 512 (W)");
            assert_eq!(record.tainted, [format!("{}: {what}", kernel_after(hop))]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_was_not_heard_to_its_end_is_not_judged() {
    let script = Script { says_late: Box::new(|_| Err("its log buffer is gone".to_owned())), ..Script::default() };
    let tried = Trial::of(script).run().await;
    assert_eq!(tried.told().0, Outcome::HarnessFailed);
    assert!(tried.told().2.contains("its log buffer is gone"), "{:?}", tried.told());
}

#[tokio::test(start_paused = true)]
async fn the_log_of_a_kernel_that_is_left_is_read_under_the_guard() {
    for (play, outcome, title) in [
        (Play::End(MachineEnd::Panicked), Outcome::Crashed, "the guest panicked"),
        (Play::Silent, Outcome::HarnessFailed, "the guest runs"),
        (Play::Cut, Outcome::HarnessFailed, "the connection ended"),
        (Play::Reply(Reply::failed("no memory")), Outcome::HarnessFailed, "no memory"),
    ] {
        let told = but_in(Phase::Boot, play).run().await;
        let told = told.told();
        assert!(told.0 == outcome && told.2.contains(title), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_step_found_before_it_ended_counts() {
    let [call, errno, about] = ["ioctl", "EBUSY", "a session"].map(str::to_owned);
    let refused = NotDone::Refused { call, errno, about };
    let missing = NotDone::Missing { what: "a device".into() };
    let failed = NotDone::Failed { message: "no memory".into() };
    let got = Probe::compare("memfd 1 retrieve", "yes", "yes");
    let lost = Probe::compare("memfd 1 content", "as it was", "another");
    for (phase, why, probe, outcome, title) in [
        (
            Phase::Preserve,
            &refused,
            &lost,
            Outcome::Lost,
            "memfd 1 content: expected as it was, observed another; then",
        ),
        (Phase::Preserve, &refused, &got, Outcome::Refused, "EBUSY"),
        (Phase::Retrieve, &refused, &got, Outcome::Lost, "after some of it was retrieved"),
        (Phase::Verify, &missing, &lost, Outcome::Lost, "memfd 1 content"),
        (Phase::Verify, &missing, &got, Outcome::Lost, "was preserved: a device"),
        (Phase::Verify, &failed, &lost, Outcome::HarnessFailed, "no memory"),
    ] {
        let said = Said { probes: vec![probe.clone()], ..Said::default() };
        let play = Play::Reply(Reply::NotDone { why: why.clone(), said, taint: 512 });
        let record = but_in(phase, play).run().await.record.unwrap();
        assert!(record.outcome == outcome && record.title.contains(title), "{}: {}", record.outcome, record.title);
        assert!(record.probes.iter().any(|it| it.name == probe.name), "{:?}", record.probes);
        let side = if phase == Phase::Preserve { "source" } else { "target" };
        assert_eq!(record.tainted, [format!("{side}: taint 512 (W)")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_a_later_reply_no_longer_has_counts() {
    for (phase, side) in [(Phase::Preserve, "source"), (Phase::Retrieve, "target")] {
        let done = Reply::Done { said: Said { pages: pages(), ..Said::default() }, taint: 512 };
        let record = but_in(phase, Play::Reply(done)).run().await.record.unwrap();
        assert_eq!(record.tainted, [format!("{side}: taint 512 (W)")]);
        // A target that retrieved without a word is not believed.
        let outcome = if side == "source" { Outcome::Survived } else { Outcome::HarnessFailed };
        assert_eq!(record.outcome, outcome, "{}", record.title);
    }
}

/// A kernel that was not given by the host says nothing of the target.
#[tokio::test(start_paused = true)]
async fn a_guest_that_loads_other_files_than_it_was_given_goes_no_further() {
    let loaded = vec![Archived::new("/bin/luqual-agent", 0o100_755, b"another")];
    let reply = Reply::Done { said: Said { loaded, ..Said::default() }, taint: 0 };
    let title = "/bin/luqual-agent is not the one that it was given";
    ends(Phase::Load, Play::Reply(reply), Outcome::HarnessFailed, title).await;
}

/// The host as a witness of memory, beside a guest that finds nothing.
mod memory {
    use super::*;

    async fn told(fault: &'static str, workload: &'static str) -> (Outcome, Phase, Vec<String>) {
        let trial = Trial { fault: Some(fault), workload: Some(workload), ..Trial::default() };
        let record = trial.run().await.record.unwrap();
        let failed = record.probes.iter().filter(|probe| !probe.passed);
        (record.outcome, record.phase, failed.map(|probe| probe.name.clone()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_in_an_update_is_lost_though_the_guest_says_all_is_well() {
        for fault in ["flip:4k:0:17", "flip-hidden:4k:0:17"] {
            let (outcome, _, failed) = told(fault, "memfd.basic").await;
            assert_eq!((outcome, failed), (Outcome::Lost, vec!["memfd host: pages of 4k after the kexec".to_owned()]));
        }
        assert_eq!(told("flip-unpreserved", "memfd.basic").await, (Outcome::Survived, Phase::Collect, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn each_update_is_looked_at() {
        let record = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::default() }.run().await.record;
        let probes = record.unwrap().probes;
        for name in [
            "memfd host: pages of 4k before the kexec",
            "memfd host: pages of 4k after the kexec",
            "memfd host: places of 4k",
        ] {
            assert_eq!(probes.iter().filter(|probe| probe.name == name && probe.passed).count(), 2, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_is_not_told_is_no_pass() {
        for phase in [Phase::Preserve, Phase::Retrieve] {
            let play = Play::Reply(Reply::Done { said: Said::default(), taint: 0 });
            ends(phase, play, Outcome::HarnessFailed, "memfd.basic: the agent did not say where").await;
        }
    }
}
