//! The user ends a run: before it begins, at each of its events, between boots; and it is resumed.

use super::room::{Essence, Room, concluded, ended};
use crate::conclusion::Conclusion;
use crate::error::ErrorKind;
use crate::fakes::Ends;
use crate::folder::IfExists;
use luqual_model::Event;

const TWO: [&str; 2] = ["kexec.crash-kernel", "kexec.long-command-line"];
/// Two that share a boot, and one with its own.
const THREE: [&str; 3] = ["kexec.crash-kernel", "memfd.basic", "memfd.empty-grows"];

#[tokio::test(start_paused = true)]
async fn a_run_that_is_ended_before_it_begins_leaves_nothing() {
    let room = Room::new();
    room.ends_after(Some(0));
    for existing in [IfExists::Fail, IfExists::Resume] {
        let error = room.try_run(&room.request(&TWO), existing).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(!room.path("run").exists() && room.boots() == 0 && room.heard.borrow().is_empty());
    }
}

/// Ends a run at each of its events, and resumes it.
async fn ended_everywhere(workloads: &[&str], jobs: u64, ending: impl Fn(&str) -> Ends + Copy + 'static) {
    let new = || Room::whose(move |_, workload| ending(workload));
    let whole = new();
    let mut request = whole.request(workloads);
    request.execution.jobs = Some(jobs);
    let run = whole.run(&request).await;
    let (expected, count) = (Essence::all(&whole.json("run")), whole.events("run").len());
    assert!(count > 30, "{count}");
    for after in 1..count {
        let room = new();
        let mut request = room.request(workloads);
        request.execution.jobs = Some(jobs);
        room.ends_after(Some(after));
        let cut = room.run(&request).await;
        let events = room.events("run");
        let before = ended(&events);
        // Who ends a run when its last cell has ended comes too late for that.
        let interrupted = before.len() < expected.len();
        assert_eq!(concluded(&cut), if interrupted { Conclusion::Interrupted } else { concluded(&run) }, "{after}");
        assert_eq!(events.last(), Some(&Event::RunFinished { interrupted }), "{after}");
        assert_eq!(room.json("run").run.interrupted, interrupted, "{after}");
        // What is told is what is written, to the end.
        let heard: Vec<Event> = room.heard.borrow().iter().map(|it| it.event.clone()).collect();
        assert_eq!(events, heard, "{after}");
        if after == 1 {
            assert!(!events.iter().any(begins), "a boot began after the user had ended the run: {events:?}");
        }

        room.ends_after(None);
        let resumed = room.try_resume("run").await.unwrap_or_else(|error| panic!("{after}: {error}"));
        assert_eq!(concluded(&resumed), concluded(&run), "{after}");
        let ended = ended(&room.events("run"));
        assert!(ended.len() == expected.len() && ended[..before.len()] == before, "{after}: {ended:?}");
        assert_eq!(Essence::all(&room.json("run")), expected, "{after}");
    }
}

fn begins(event: &Event) -> bool {
    matches!(event, Event::CellStarted { .. } | Event::BootStarted { .. })
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_at_any_event_of_cells_with_their_own_boots_starts_nothing_more() {
    ended_everywhere(&TWO, 1, |workload| if workload == TWO[0] { Ends::Lost } else { Ends::Well }).await;
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_at_any_event_of_a_shared_boot_starts_nothing_more() {
    ended_everywhere(&THREE, 1, |_| Ends::Well).await;
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_at_any_event_of_a_boot_that_crashes_starts_nothing_more() {
    ended_everywhere(&THREE[1..], 1, |workload| if workload == THREE[2] { Ends::Crashed } else { Ends::Well }).await;
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_ends_all_machines_that_run_at_once() {
    ended_everywhere(&TWO, 2, |_| Ends::Well).await;
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_at_any_event_of_several_attempts_makes_no_other_attempt() {
    for (repeat, retries) in [(3, 0), (1, 2)] {
        let run = async |after: Option<usize>| {
            let room = Room::whose(|_, _| Ends::Lost);
            let mut request = room.request(&TWO[..1]);
            (request.execution.repeat, request.execution.retries) = (repeat, retries);
            room.ends_after(after);
            let run = room.run(&request).await;
            (room.events("run"), room.boots(), concluded(&run))
        };
        let (whole, boots, _) = run(None).await;
        assert_eq!((boots, ended(&whole).len()), (3, 1));
        for after in 1..whole.len() {
            let (events, boots, concluded) = run(Some(after)).await;
            let has_ended = !ended(&events).is_empty();
            assert!(boots == 3 || !has_ended, "{after}: {boots} of its attempts say nothing of a cell");
            assert_eq!(concluded == Conclusion::Interrupted, !has_ended, "{after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_resumes_a_run_that_the_user_ended() {
    let room = Room::new();
    room.ends_after(Some(20));
    room.run(&room.request(&TWO)).await;
    // The user may end the resumed one too.
    room.ends_after(Some(5));
    let again = room.try_run(&room.request(&TWO), IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(concluded(&again), Conclusion::Interrupted);
    room.ends_after(None);
    let again = room.try_run(&room.request(&TWO), IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(concluded(&again), Conclusion::AsExpected);
    let events = room.events("run");
    assert_eq!(events.iter().filter(|it| matches!(it, Event::RunResumed { .. })).count(), 2);
    assert_eq!(ended(&events).len(), 2);
}
