//! What happens at once, too late, or never.

use super::trial::{Trial, Tried, fails, refused};
use crate::fake::{Play, Script};
use crate::observe::Withheld;
use luqual_config::Deadlines;
use luqual_model::{Outcome, Phase};
use luqual_protocol::{Hello, Kernel, Reply, Request};
use luqual_vm::MachineEnd;
use std::cell::RefCell;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A guest that refuses to preserve, and then does that when its state is looked at.
fn refuses_then(play: Play) -> Script {
    Script::plays(move |_, request| match request {
        Request::Preserve { .. } => refused(),
        Request::Verify { .. } => play.clone(),
        _ => Play::Well,
    })
}

fn ends_without_a_record_before(tried: &Tried, limit: Duration) {
    assert!(tried.record.is_none() && tried.took < limit, "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn the_user_ends_a_boot_at_any_moment() {
    let whole = Trial::default().run().await.took;
    assert!(whole > SECOND, "{whole:?}");
    let moments = 60;
    let mut ended = 0;
    for moment in 0..moments {
        let after = whole.mul_f64(f64::from(moment) / f64::from(moments));
        let tried = Trial { interrupted_after: Some(after), ..Trial::default() }.run().await;
        ended += u32::from(tried.record.is_none());
        // Once it is in its teardown, all is decided.
        assert!(tried.record.is_none() || tried.passed().contains(&Phase::Collect), "{after:?}: {:?}", tried.passed());
    }
    assert!(ended > moments * 3 / 4, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn the_user_ends_a_boot_that_waits_for_ever() {
    let verify = |_: u32, request: &Request| match request {
        Request::Verify { .. } => Play::Silent,
        _ => Play::Well,
    };
    let trial = Trial { interrupted_after: Some(10 * SECOND), ..Trial::of(Script::plays(verify)) };
    ends_without_a_record_before(&trial.run().await, 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_user_ends_a_wait_between_two_steps() {
    let trial = Trial { interrupted_after: Some(Duration::from_millis(720)), waits: true, ..Trial::default() };
    let tried = trial.run().await;
    ends_without_a_record_before(&tried, SECOND * 2);
    assert!(!tried.passed().contains(&Phase::Preserve), "{:?}", tried.passed());
}

#[tokio::test(start_paused = true)]
async fn the_user_ends_a_look_at_what_a_refusal_left() {
    let trial = Trial { interrupted_after: Some(5 * SECOND), ..Trial::of(refuses_then(Play::Silent)) };
    ends_without_a_record_before(&trial.run().await, 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_ends_while_a_refusal_is_looked_at_has_crashed() {
    let tried = Trial::of(refuses_then(Play::End(MachineEnd::Panicked))).run().await;
    assert_eq!(tried.told().0, Outcome::Crashed);
    assert!(tried.took < 20 * SECOND, "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refused_and_has_not_kept_its_state_has_lost_it() {
    let tried = Trial::of(refuses_then(fails())).run().await;
    let (outcome, phase, title) = tried.told();
    assert_eq!((outcome, phase), (Outcome::Lost, Phase::Preserve));
    assert!(title.contains("then the source had lost state: memfd 4k content"), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refused_and_answers_no_more_has_lost_it() {
    let tried = Trial::of(refuses_then(Play::Silent)).run().await;
    let (outcome, _, title) = tried.told();
    assert!(outcome == Outcome::Lost && title.ends_with("had lost state: no answer"), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_start_is_the_hosts_failure() {
    let script = Script { does_not_start: Some("no room".into()), ..Script::default() };
    assert_eq!(Trial::of(script).run().await.told(), (Outcome::HarnessFailed, Phase::Boot, "no room"));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_never_listens_is_a_hang() {
    for (silent, phase) in [(0, Phase::Boot), (1, Phase::Reconnect)] {
        let boots_in = Box::new(move |hop| (hop != silent).then_some(SECOND));
        let tried = Trial::of(Script { boots_in, ..Script::default() }).run().await;
        let (outcome, at, title) = tried.told();
        assert_eq!((outcome, at), (Outcome::Crashed, phase), "{title}");
        assert!(title.starts_with("hang: the agent never answered;"), "{title}");
    }
}

/// A source that listens after so many seconds, on a machine that the host stops for the first so many.
fn stopped(listens: Option<u64>, stopped: u64) -> Script {
    let withheld = move |since: Duration| {
        let stopped = since.min(Duration::from_secs(stopped));
        Withheld { stopped, ..Withheld::default() }
    };
    let boots_in = move |hop| if hop == 0 { listens.map(Duration::from_secs) } else { Some(SECOND) };
    Script { boots_in: Box::new(boots_in), withheld: Box::new(withheld), ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_the_host_stops_for_a_while_has_as_much_more_time() {
    let deadline = Deadlines::default().stretched(4).of(Phase::Boot).as_secs();
    for (listens, expected) in [(deadline + 29, Outcome::Survived), (deadline + 31, Outcome::Crashed)] {
        let tried = Trial::of(stopped(Some(listens), 30)).run().await;
        let (outcome, _, title) = tried.told();
        assert_eq!(outcome, expected, "{title}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_the_host_stops_for_ever_is_not_a_hang() {
    let tried = Trial::of(stopped(None, u64::MAX)).run().await;
    let (outcome, phase, title) = tried.told();
    assert_eq!((outcome, phase), (Outcome::HarnessFailed, Phase::Boot), "{title}");
    assert!(title.contains("the host did not let the machine run: QEMU was stopped by a signal for"), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_word_was_lost_is_reached_all_the_same() {
    let script = Script { says_that_it_listens: Box::new(|_| false), ..Script::default() };
    let tried = Trial::of(script).run().await;
    assert_eq!(tried.told().0, Outcome::Survived);
    assert!(tried.took < 10 * SECOND, "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_listens_and_is_not_reached_is_not_held_against_its_kernel() {
    for hop in [0, 1] {
        let connects = move |at: u32, _| if at == hop { Err(Some("SSH: key exchange".to_owned())) } else { Ok(()) };
        let tried = Trial::of(Script { connects: Box::new(connects), ..Script::default() }).run().await;
        let (outcome, _, title) = tried.told();
        assert_eq!(outcome, Outcome::HarnessFailed, "{title}");
        assert!(title.contains("the agent listens") && title.contains("SSH: key exchange"), "{title}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_a_network_is_told_at_once_and_not_held_against_its_kernel() {
    for (hop, expected) in [(0, Outcome::Skipped), (1, Outcome::HarnessFailed)] {
        let connects = move |at: u32, _| if at == hop { Err(None) } else { Ok(()) };
        let is_unreachable = Box::new(move |at: u32| at == hop);
        let script = Script { connects: Box::new(connects), is_unreachable, ..Script::default() };
        let tried = Trial::of(script).run().await;
        let (outcome, _, title) = tried.told();
        assert_eq!(outcome, expected, "{title}");
        assert!(title.contains("no network card") && tried.took < 20 * SECOND, "{title}: {:?}", tried.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_answered_is_tried_again() {
    let connects = |_, attempt| if attempt == 0 { Err(None) } else { Ok(()) };
    let tried = Trial::of(Script { connects: Box::new(connects), ..Script::default() }).run().await;
    assert_eq!(tried.told().0, Outcome::Survived);
    // Ten seconds for the first to each kernel.
    assert!((20..40).contains(&tried.took.as_secs()), "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn connections_that_fail_for_a_while_are_tried_again() {
    let connects = |_, attempt| if attempt < 50 { Err(Some("reset".to_owned())) } else { Ok(()) };
    let tried = Trial::of(Script { connects: Box::new(connects), ..Script::default() }).run().await;
    assert_eq!(tried.told().0, Outcome::Survived);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_is_not_the_target_is_never_taken_for_it() {
    type Wrong = fn(Hello) -> Hello;
    let wrongs: [(Wrong, &str); 3] = [
        (|hello| Hello { nonce: "0".into(), ..hello }, "has nonce 0"),
        (|hello| Hello { release: "old".into(), ..hello }, "has release old, new has new"),
        (|hello| Hello { build_id: "x".into(), ..hello }, "has build id x"),
    ];
    for (wrong, told) in wrongs {
        let hello = move |hop, hello| if hop == 1 { wrong(hello) } else { hello };
        let tried = Trial::of(Script { hello: Box::new(hello), ..Script::default() }).run().await;
        let (outcome, phase, title) = tried.told();
        assert_eq!((outcome, phase), (Outcome::HarnessFailed, Phase::Reconnect), "{title}");
        assert!(title.contains(told), "{title}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_still_answers_is_not_taken_for_the_target() {
    let nonce = RefCell::new(String::new());
    let hello = move |hop, hello: Hello| {
        if hop == 0 {
            nonce.borrow_mut().clone_from(&hello.nonce);
        }
        Hello { nonce: nonce.borrow().clone(), ..hello }
    };
    let tried = Trial::of(Script { hello: Box::new(hello), ..Script::default() }).run().await;
    let (outcome, phase, title) = tried.told();
    assert_eq!((outcome, phase), (Outcome::HarnessFailed, Phase::Reconnect), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_not_left_is_told_by_its_ticks() {
    let plays = |_: u32, request: &Request| match request {
        Request::Kexec => Play::Cut,
        _ => Play::Well,
    };
    let tried = Trial::of(Script::plays(plays)).run().await;
    let (outcome, phase, title) = tried.told();
    assert_eq!((outcome, phase), (Outcome::HarnessFailed, Phase::Kexec), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_source_without_the_device_is_skipped() {
    let hello = |_, hello| Hello { liveupdate: false, ..hello };
    let tried = Trial::of(Script { hello: Box::new(hello), ..Script::default() }).run().await;
    assert_eq!(tried.told().0, Outcome::Skipped);
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_is_told_after_the_last_answer_is_a_crash() {
    let plays = |_: u32, request: &Request| match request {
        Request::KernelLog => Play::Say("[    9.000000] Kernel panic - not syncing: late", Box::new(Play::Well)),
        _ => Play::Well,
    };
    assert_eq!(Trial::of(Script::plays(plays)).run().await.told().0, Outcome::Crashed);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_cannot_be_ended_in_time_leaves_nothing() {
    let tried = Trial::of(Script { never_quits: true, ..Script::default() }).run().await;
    assert_eq!(tried.told().0, Outcome::Survived);
}

#[tokio::test(start_paused = true)]
async fn an_injected_panic_is_found_in_each_phase() {
    for (fault, phase) in [
        ("panic:preserve", Phase::Preserve),
        ("panic:load", Phase::Load),
        ("panic:kexec", Phase::Kexec),
        ("panic:retrieve", Phase::Retrieve),
        ("panic:verify", Phase::Verify),
        ("panic:finish", Phase::Finish),
        ("panic:collect", Phase::Collect),
    ] {
        let tried = Trial { fault: Some(fault), ..Trial::default() }.run().await;
        assert_eq!((tried.told().0, tried.told().1), (Outcome::Crashed, phase));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_qemu_is_a_failure_of_the_host_in_each_phase() {
    for (fault, phase) in [
        ("kill-qemu:boot", Phase::Boot),
        ("kill-qemu:handshake", Phase::Handshake),
        ("kill-qemu:preserve", Phase::Preserve),
        ("kill-qemu:kexec", Phase::Kexec),
        ("kill-qemu:reconnect", Phase::Reconnect),
        ("kill-qemu:verify", Phase::Verify),
        ("kill-qemu:collect", Phase::Collect),
    ] {
        let tried = Trial { fault: Some(fault), ..Trial::default() }.run().await;
        let (outcome, at, title) = tried.told();
        assert_eq!((outcome, at), (Outcome::HarnessFailed, phase), "{title}");
        assert!(title.contains("SIGKILL"), "{title}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_does_not_inject_says_nothing_of_the_kernels() {
    let plays = |_: u32, request: &Request| match request {
        Request::Tamper { .. } => Play::Reply(Reply::failed("there is no such memfd")),
        _ => Play::Well,
    };
    for fault in ["guest:offset:4k", "guest:session-taken:small", "guest:longer:4k"] {
        let tried = Trial { fault: Some(fault), ..Trial::of(Script::plays(plays)) }.run().await;
        let (outcome, _, title) = tried.told();
        let told = title.contains(&format!("`{fault}` was not injected")) && title.contains("no such memfd");
        assert!(outcome == Outcome::HarnessFailed && told, "{title}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_kernel_is_loaded_with_the_options_and_the_image_of_the_fault() {
    let wrong = |_: u32, request: &Request| match request {
        Request::Load { kernel, command_line, .. } if *kernel == Kernel::Source || command_line.contains("x=y") => {
            Play::End(MachineEnd::Panicked)
        }
        _ => Play::Well,
    };
    for (fault, outcome) in
        [("options:1:x=y", Outcome::Crashed), ("options:0:x=y", Outcome::Survived), ("wrong-kernel", Outcome::Crashed)]
    {
        let tried = Trial { fault: Some(fault), ..Trial::of(Script::plays(wrong)) }.run().await;
        assert_eq!(tried.told().0, outcome, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_could_not_be_injected_is_told() {
    let tried = Trial { fault: Some("kill-holder:verify"), ..Trial::default() }.run().await;
    let (outcome, _, title) = tried.told();
    assert!(outcome == Outcome::HarnessFailed && title.contains("`kill hold` was not injected"), "{title}");
}

#[tokio::test(start_paused = true)]
async fn a_place_for_a_fault_that_is_never_told_ends_at_a_deadline() {
    let plays = |_: u32, request: &Request| match request {
        Request::Locate { .. } => Play::Silent,
        _ => Play::Well,
    };
    let tried = Trial { fault: Some("flip:4k:0:0"), ..Trial::of(Script::plays(plays)) }.run().await;
    assert_ne!(tried.told().0, Outcome::Survived);
    assert!(tried.took < 600 * SECOND, "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn updates_in_a_row_are_steps_of_one_list() {
    let tried = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::default() }.run().await;
    assert_eq!(tried.told().0, Outcome::Survived);
    assert_eq!(tried.passed().into_iter().filter(|phase| *phase == Phase::Kexec).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_one_update_is_not_handed_to_the_next() {
    let plays = |hop: u32, request: &Request| match request {
        Request::Verify { .. } if hop == 1 => fails(),
        _ => Play::Well,
    };
    let trial = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::of(Script::plays(plays)) };
    let tried = trial.run().await;
    assert_eq!(tried.told().0, Outcome::Lost);
    let passed = tried.passed();
    assert_eq!(passed.iter().filter(|phase| **phase == Phase::Kexec).count(), 1);
    // The log that is read before a kexec is read though none follows.
    assert!(passed.ends_with(&[Phase::Finish, Phase::Load, Phase::Collect, Phase::Teardown]), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_to_hand_on_is_a_source_that_refused() {
    let plays = |hop: u32, request: &Request| match request {
        Request::Preserve { .. } if hop == 1 => refused(),
        _ => Play::Well,
    };
    let trial = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::of(Script::plays(plays)) };
    assert_eq!(trial.run().await.told().0, Outcome::Refused);
}

/// A guest that goes on alone: it does by itself what is injected, and powers its machine off at its end.
async fn alone(fault: Option<&'static str>, plays: impl Fn(u32, &Request) -> Option<Play> + 'static) -> Tried {
    let plays = move |hop: u32, request: &Request| match (plays(hop, request), request) {
        (Some(play), _) => play,
        (None, Request::KernelLog) => Play::Last(MachineEnd::PoweredOff),
        (None, _) => Play::Well,
    };
    Trial { fault, deterministic: true, ..Trial::of(Script::plays(plays)) }.run().await
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_on_alone_passes_the_same_phases() {
    let tried = alone(None, |_, _| None).await;
    assert_eq!(tried.told(), (Outcome::Survived, Phase::Collect, ""));
    assert_eq!(tried.passed(), Phase::ALL);
    // It does not wait while the host looks at its memory.
    assert!(tried.record.unwrap().probes.iter().all(|probe| !probe.name.starts_with("memfd host: ")));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_on_alone_panics_by_itself_in_each_phase() {
    for (fault, phase) in [
        ("panic:preserve", Phase::Preserve),
        ("panic:kexec", Phase::Kexec),
        ("panic:verify", Phase::Verify),
        ("panic:collect", Phase::Collect),
    ] {
        let tried = alone(Some(fault), move |hop, request| {
            let now = match request {
                Request::Preserve { .. } => Phase::Preserve,
                Request::Kexec => Phase::Kexec,
                Request::Verify { .. } => Phase::Verify,
                Request::KernelLog if hop > 0 => Phase::Collect,
                _ => return None,
            };
            (now == phase).then_some(Play::End(MachineEnd::Panicked))
        });
        let tried = tried.await;
        assert_eq!((tried.told().0, tried.told().1), (Outcome::Crashed, phase), "{}", tried.told().2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_on_alone_and_does_not_power_off_is_late() {
    let tried = alone(None, |_, request| matches!(request, Request::KernelLog).then_some(Play::Well)).await;
    assert_ne!(tried.told().0, Outcome::Survived);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_no_after_a_silence_has_refused() {
    let plays = |_: u32, request: &Request| match request {
        Request::Kexec => Play::Pause(Duration::from_millis(500), Box::new(refused())),
        _ => Play::Well,
    };
    let tried = Trial::of(Script::plays(plays)).run().await;
    let (outcome, _, title) = tried.told();
    assert!(outcome == Outcome::Refused && title.contains("EBUSY"), "{outcome}: {title}");
    assert!(tried.took < 20 * SECOND, "{:?}", tried.took);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_on_alone_and_fails_is_no_crash_though_it_powers_off() {
    let tried = alone(None, |_, request| {
        let failed = || luqual_protocol::Reply::failed("no memory");
        matches!(request, Request::Verify { .. }).then(|| Play::LastReply(failed(), MachineEnd::PoweredOff))
    });
    let tried = tried.await;
    let (outcome, _, title) = tried.told();
    assert!(outcome == Outcome::HarnessFailed && title == "no memory", "{outcome}: {title}");
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_the_first_update_is_handed_on_once_and_no_more() {
    let plays = |hop: u32, request: &Request| match request {
        Request::Preserve { .. } if hop == 0 => fails(),
        _ => Play::Well,
    };
    let trial = Trial { workload: Some("lifecycle.there-and-back"), ..Trial::of(Script::plays(plays)) };
    let tried = trial.run().await;
    assert_eq!(tried.told().0, Outcome::Lost);
    assert_eq!(tried.passed().into_iter().filter(|phase| *phase == Phase::Kexec).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_ends_qemu_before_it_ends_the_run_is_no_failure_of_the_host() {
    let ends = || {
        Script::plays(|_, request| match request {
            Request::Verify { .. } => Play::End(MachineEnd::Qemu("QEMU ended (signal: 15 (SIGTERM))".into())),
            _ => Play::Well,
        })
    };
    let tried = Trial::of(ends()).run().await;
    assert_eq!(tried.told().0, Outcome::HarnessFailed);
    // While its console is read to its end.
    let interrupted_after = Some(tried.took - Duration::from_millis(100));
    assert!(Trial { interrupted_after, ..Trial::of(ends()) }.run().await.record.is_none());
}
