//! A cell of a run is made again with what it was made with, and compared; and an update is qualified.

use super::room::{CHANGES, Room, ended};
use crate::error::{EngineError, ErrorKind};
use crate::fakes::Ends;
use crate::interactive::Interactive;
use crate::qualify::qualify;
use crate::repro::{Comparison, ReproRequest, Reproduction, repro};
use luqual_model::{Outcome, Policy, Reproduced};
use std::fs;

const ONE: [&str; 1] = ["kexec.long-command-line"];
const SHARED: [&str; 2] = ["memfd.basic", "memfd.empty-grows"];

async fn again(room: &Room, request: &ReproRequest) -> Result<Reproduction, EngineError> {
    let done = repro(&room.context(), request).await;
    room.is_quiet();
    done
}

async fn compared(room: &Room, cell: &str) -> Comparison {
    let done = again(room, &room.repro_request(cell)).await.unwrap_or_else(|error| panic!("{error}"));
    Comparison::of(&done.now.unwrap(), &done.then)
}

#[tokio::test(start_paused = true)]
async fn a_red_cell_is_made_again_with_its_seed_and_once() {
    let room = Room::whose(|_, _| Ends::Lost);
    let mut run = room.request(&["kexec.crash-kernel", "kexec.long-command-line"]);
    (run.execution.repeat, run.execution.retries) = (2, 1);
    room.run(&run).await;
    let (then, boots) = (room.json("run"), room.boots());
    assert_eq!(compared(&room, "long-command-line").await, Comparison::AsThen);
    let again = room.json("again");
    assert_eq!((again.cells.len(), room.boots()), (1, boots + 1));
    let (now, old) = (&again.cells[0], &then.cells[1]);
    assert_eq!((now.seed, &now.id, now.outcome), (old.seed, &old.id, old.outcome));
    let repeated = Reproduced { run: then.run.id, cell: old.id.clone(), seed: old.seed, waits: true, bundle: None };
    assert_eq!(again.run.settings.reproduces, Some(repeated));
    assert_eq!((again.run.settings.repeat, again.run.settings.retries), (1, 0));
    assert_eq!(again.run.kernels, then.run.kernels);
}

#[tokio::test(start_paused = true)]
async fn of_several_attempts_the_worst_is_made_again() {
    let room = Room::whose(|boot, _| if boot.number == 1 { Ends::Lost } else { Ends::Well });
    let mut run = room.request(&ONE);
    run.execution.repeat = 3;
    room.run(&run).await;
    let cell = &room.json("run").cells[0];
    room.machines.end(|_, _| Ends::Lost);
    assert_eq!(compared(&room, ONE[0]).await, Comparison::AsThen);
    let seed = room.json("again").cells[0].seed;
    assert!(seed == cell.attempts[1].seed && seed != cell.attempts[0].seed);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_ends_otherwise_is_told_and_a_dead_qemu_says_nothing() {
    for (now, comparison) in [
        (Ends::Well, Comparison::NotAsThen),
        (Ends::Crashed, Comparison::NotAsThen),
        (Ends::WithQemu, Comparison::NothingKnown),
        (Ends::Unstarted, Comparison::NothingKnown),
        (Ends::Lost, Comparison::AsThen),
    ] {
        let room = Room::whose(|_, _| Ends::Lost);
        room.run(&room.request(&ONE)).await;
        room.machines.end(move |_, _| now);
        assert_eq!(compared(&room, ONE[0]).await, comparison, "{now:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cell_of_a_shared_boot_is_made_again_with_the_others() {
    // Together they are lost, and alone they are not: nobody knows the reason, and it takes both to see it.
    let room = Room::whose(|boot, _| if boot.number == 0 { Ends::Lost } else { Ends::Well });
    room.run(&room.request(&SHARED)).await;
    assert_eq!(room.json("run").cells[0].outcome, Outcome::Lost);
    room.machines.end(|_, _| Ends::Lost);
    let boots = room.boots();
    assert_eq!(compared(&room, "empty-grows").await, Comparison::AsThen);
    assert_eq!((room.json("again").cells.len(), room.boots()), (2, boots + 1), "both in one boot, and none alone");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_again_with_what_is_another_unless_that_is_asked_for() {
    for (change, told) in CHANGES {
        let room = Room::whose(|_, _| Ends::Lost);
        room.run(&room.request(&ONE)).await;
        change(&room);
        let mut request = room.repro_request(ONE[0]);
        let error = again(&room, &request).await.err().unwrap_or_else(|| panic!("{told}"));
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(told), "{error}");
        assert!(!room.path("again").exists() && room.boots() == 1, "{told}");
        request.anyway = true;
        assert!(again(&room, &request).await.is_ok(), "{told}");
        assert!(room.notices.borrow().iter().any(|it| it.starts_with("Differs") && it.contains(told)), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_is_told_what_it_was_told_then() {
    let room = Room::whose(|_, _| Ends::Lost);
    room.run(&room.request(&ONE)).await;
    assert!(!room.last_command_line().contains("printk.time"));
    room.other_command_line();
    assert_eq!(compared(&room, ONE[0]).await, Comparison::AsThen);
    assert!(room.last_command_line().contains(" printk.time=1 "), "{}", room.last_command_line());
}

#[tokio::test(start_paused = true)]
async fn what_a_user_added_to_the_command_line_is_added_again() {
    let room = Room::whose(|_, _| Ends::Lost);
    let mut request = room.request(&ONE);
    request.execution.append.source = "mem=2G".into();
    room.run(&request).await;
    assert!(room.last_command_line().contains(" mem=2G "), "{}", room.last_command_line());
    room.machines.booted.borrow_mut().clear();
    assert_eq!(compared(&room, ONE[0]).await, Comparison::AsThen);
    assert!(room.last_command_line().contains(" mem=2G "), "{}", room.last_command_line());
}

#[tokio::test(start_paused = true)]
async fn what_the_user_ends_is_not_compared() {
    let room = Room::whose(|_, _| Ends::Lost);
    room.run(&room.request(&ONE)).await;
    room.ends_after(Some(10));
    let done = again(&room, &room.repro_request(ONE[0])).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(done.now.is_none() && done.run.record.run.interrupted);
    assert!(ended(&room.events("again")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_has_not_ended_or_is_not_there_is_told() {
    let room = Room::new();
    room.ends_after(Some(3));
    room.run(&room.request(&ONE)).await;
    room.ends_after(None);
    for (cell, told) in [(ONE[0], "has not ended in that run"), ("vfio", "the run has no cell `vfio`")] {
        let error = again(&room, &room.repro_request(cell)).await.err().unwrap();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(told), "{error}");
        assert!(!room.path("again").exists());
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_is_qualified_by_how_its_cells_end_and_the_pages_say_so() {
    for (ends, goes) in [(Ends::Well, true), (Ends::Lost, false), (Ends::Refused, false), (Ends::Crashed, false)] {
        let room = Room::whose(move |_, _| ends);
        let done = qualify(&room.context(), &room.request(&SHARED), &Policy::own(), Interactive::default()).await;
        let (run, qualification) = done.unwrap_or_else(|error| panic!("{error}"));
        let text = fs::read_to_string(run.folder.join("qualification.txt")).unwrap();
        assert_eq!(text, qualification.text(&run.record.run));
        assert_eq!((qualification.go(), text.contains("NO-GO")), (goes, !goes), "{ends:?}: {text}");
        assert!(run.folder.join(crate::qualify::QUALIFICATION_PAGE).exists());
    }
}
