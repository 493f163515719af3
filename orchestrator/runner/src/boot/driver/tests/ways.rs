//! Each way in which each phase can end.

use super::trial::{Trial, fails, refused};
use crate::fake::{Play, Script};
use luqual_model::{Outcome, Phase};
use luqual_protocol::{Located, Reply, Request};
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

/// A phase in which a guest that ticks is asked for something, and what its refusal comes to.
macro_rules! asked {
    ($module:ident, $phase:expr, $refused:ident) => {
        ways! { $module, $phase;
            a_panic_is_a_crash: Play::End(MachineEnd::Panicked), Crashed, "the guest panicked";
            a_reset_is_a_crash: Play::End(MachineEnd::Reset), Crashed, "the guest reset the machine";
            a_power_off_is_a_crash: Play::End(MachineEnd::PoweredOff), Crashed, "powered the machine off";
            a_qemu_that_ends_is_no_crash: Play::End(MachineEnd::Qemu("QEMU ended".into())), HarnessFailed, "QEMU ended";
            a_guest_that_ticks_is_no_hang: Play::Silent, HarnessFailed, "the guest runs, but its agent did not answer";
            an_agent_that_fails_is_no_crash:
                Play::Reply(Reply::Failed { message: "no memory".into() }), HarnessFailed, "no memory";
            what_is_missing_is_named: Play::Reply(Reply::Missing { what: "no device".into() }), Skipped, "no device";
            a_refusal_names_call_and_errno: refused(), $refused, "EBUSY";
            an_answer_out_of_turn_is_the_agents_fault:
                Play::Reply(Reply::Located(Located { address: None })), HarnessFailed, "a reply of the wrong kind";
        }
    };
}

asked!(preserve, Phase::Preserve, Refused);
asked!(load, Phase::Load, Refused);
asked!(kexec, Phase::Kexec, Refused);
asked!(retrieve, Phase::Retrieve, Incompatible);
asked!(verify, Phase::Verify, Lost);
asked!(finish, Phase::Finish, Lost);

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
        Play::Reply(Reply::Failed { message: "protocol version 6".into() }), HarnessFailed, "protocol version 6";
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
