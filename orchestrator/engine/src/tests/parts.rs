//! Parts of a run are the run, however many there are; and what are not the parts of one run is not merged.

use super::room::{Essence, NEW, OLD, Room, concluded, copy_cut};
use crate::conclusion::Conclusion;
use crate::error::EngineError;
use crate::fakes::Ends;
use crate::folder::{Finished, IfExists};
use crate::merge::merge;
use crate::request::{Demand, Pairs, Part, RunRequest};
use luqual_model::Event;
use luqual_runner::JOURNAL;
use std::fs;
use std::path::PathBuf;

/// Four pairs, of which each has a boot of two cells, and two of one.
fn request(room: &Room, part: Option<(u32, u32)>) -> RunRequest {
    let name = part.map_or("whole".to_owned(), |(number, of)| format!("{number}-of-{of}"));
    RunRequest {
        pairs: Pairs::Matrix("square".to_owned()),
        partition: part.map(|(number, of)| Part { number, of }),
        report_dir: Some(room.path(&name)),
        ..room.request(&[])
    }
}

fn room() -> Room {
    Room::whose(|boot, workload| match (boot.source.as_str(), boot.target.as_str(), workload) {
        (OLD, NEW, "memfd.empty-grows") => Ends::Crashed,
        (NEW, OLD, "kexec.crash-kernel") => Ends::Lost,
        (NEW, NEW, "kexec.long-command-line") => Ends::Refused,
        _ => Ends::Well,
    })
}

async fn part(room: &Room, number: u32, of: u32) -> PathBuf {
    room.run(&request(room, Some((number, of)))).await.folder
}

async fn parts(room: &Room, of: u32) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for number in 1..=of {
        folders.push(part(room, number, of).await);
    }
    folders
}

fn merged(room: &Room, parts: &[PathBuf], name: &str) -> Result<Finished, EngineError> {
    merge(&room.context(), parts, Some(&room.path(name)))
}

/// They are refused with that, and nothing is made.
fn not_merged(room: &Room, parts: &[PathBuf], told: &str) {
    Room::refused(merged(room, parts, "none"), told);
    assert!(!room.path("none").exists(), "{told}");
}

#[tokio::test(start_paused = true)]
async fn all_parts_together_are_the_run() {
    let room = room();
    let mut whole = request(&room, None);
    whole.execution.seed = None;
    let whole = {
        let run = room.run(&whole).await;
        (Essence::all(&room.json("whole")), room.json("whole").run.planned, concluded(&run))
    };
    assert_eq!(whole.0.len(), 16);
    let boots = room.boots();
    // There are twelve boots, and so parts without any.
    for of in [1, 2, 3, 5, 8, 13] {
        let mut folders = parts(&room, of).await;
        assert_eq!(room.boots() - boots, boots * (1 + [1, 2, 3, 5, 8, 13].iter().position(|it| *it == of).unwrap()));
        // The order in which they are given is nobody's business.
        folders.reverse();
        let name = format!("merged-{of}");
        let run = merged(&room, &folders, &name).unwrap_or_else(|error| panic!("{of}: {error}"));
        let json = room.json(&name);
        assert_eq!((Essence::all(&json), json.run.planned, concluded(&run)), whole, "{of} parts");
        assert!(json.run.partition.is_none() && json.run.duration_us.is_some());
        for cell in &json.cells {
            assert!(room.path(&name).join(&cell.folder).join("console.log").exists(), "{}", cell.folder);
        }
        // It can be read again as any run.
        assert_eq!(room.events(&name).last(), Some(&Event::RunFinished { interrupted: false }));
    }
}

#[tokio::test(start_paused = true)]
async fn parts_draw_what_the_whole_draws() {
    let room = room();
    room.run(&request(&room, None)).await;
    merged(&room, &parts(&room, 5).await, "merged").unwrap_or_else(|error| panic!("{error}"));
    let seeds = |name: &str| room.json(name).cells.iter().map(|cell| cell.seed).collect::<Vec<u64>>();
    assert_eq!(seeds("whole"), seeds("merged"));
    // Where nobody gives a seed, all parts have one; otherwise they could not be merged.
    let mut folders = Vec::new();
    for number in 1..=2 {
        let mut request = request(&room, Some((number, 2)));
        request.execution.seed = None;
        folders.push(room.run(&request).await.folder);
    }
    assert!(merged(&room, &folders, "without").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_part_of_which_nothing_is_to_run_is_a_success() {
    let room = room();
    let run = room.run(&request(&room, Some((13, 13)))).await;
    assert_eq!((concluded(&run), room.boots()), (Conclusion::AsExpected, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_cut_off_and_resumed_is_the_part() {
    let room = room();
    room.run(&request(&room, None)).await;
    let folders = parts(&room, 2).await;
    let whole = fs::read_to_string(folders[0].join(JOURNAL)).unwrap();
    // In the middle of a boot of two cells: one has ended, and the other has not.
    let boot = whole.find("\"boot-ended\"").unwrap();
    let cut = boot + whole[boot..].find("\"cell-finished\"").unwrap();
    let cut = cut + whole[cut..].find('\n').unwrap() + 1;
    copy_cut(&folders[0], &room.path("cut"), cut);
    let cut = [room.path("cut"), folders[1].clone()];
    let unfinished = merged(&room, &cut, "unfinished").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(concluded(&unfinished), Conclusion::HarnessFailed, "of some cells nothing is known");
    room.try_resume("cut").await.unwrap_or_else(|error| panic!("{error}"));
    merged(&room, &cut, "merged").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Essence::all(&room.json("merged")), Essence::all(&room.json("whole")));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_the_user_ended_makes_a_whole_that_the_user_ended() {
    let room = room();
    let first = part(&room, 1, 2).await;
    room.ends_after(Some(20));
    let second = part(&room, 2, 2).await;
    let run = merged(&room, &[first, second], "merged").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(concluded(&run), Conclusion::Interrupted);
    assert_eq!(
        Conclusion::of(&run.record, Demand { survived: true, strict: true, allow_skips: true }),
        Conclusion::Interrupted
    );
}

#[tokio::test(start_paused = true)]
async fn parts_of_other_runs_are_not_merged() {
    type Change<'a> = &'a dyn Fn(&Room, &mut RunRequest);
    let room = Room::new();
    let first = part(&room, 1, 2).await;
    let changes: [(Change<'_>, &str); 10] = [
        (&|_, it| it.execution.seed = Some(8), "differ in settings"),
        (&|_, it| it.execution.retries = 1, "differ in settings"),
        (&|_, it| it.execution.repeat = 2, "differ in settings"),
        (&|_, it| it.execution.inject = Some("kill-qemu:verify".into()), "differ in settings"),
        (&|_, it| it.partition = Some(Part { number: 2, of: 3 }), "parts of different selections"),
        (&|_, it| drop(it.selection.filter.replace("source(9.2)".into())), "parts of different selections"),
        (&|_, it| it.pairs = Pairs::Matrix("update".into()), "parts of different selections"),
        // As many cells, and others.
        (&|_, it| it.selection.profiles = vec!["vfio-intel".into()], "parts of different selections"),
        (&|room, _| room.kernel(NEW, "9.2.0-other"), "differ in kernel"),
        (&|room, _| *room.tool.borrow_mut() = "luqual other".into(), "differ in the version of luqual"),
    ];
    for (number, (change, told)) in changes.into_iter().enumerate() {
        let mut request = request(&room, Some((2, 2)));
        request.report_dir = Some(room.path(&format!("other-{number}")));
        change(&room, &mut request);
        let other = room.run(&request).await.folder;
        room.kernel(NEW, NEW);
        *room.tool.borrow_mut() = "luqual test".into();
        not_merged(&room, &[first.clone(), other], told);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_each_part_once_is_not_merged() {
    let room = Room::new();
    let of_three = parts(&room, 3).await;
    let [one, two, three] = [0, 1, 2].map(|number| of_three[number].clone());
    not_merged(&room, &[one.clone(), two.clone()], "part 3 of 3 is missing");
    not_merged(&room, &[three.clone(), one.clone()], "part 2 of 3 is missing");
    not_merged(&room, &[one.clone(), two.clone(), three.clone(), two.clone()], "are both part 2 of 3");
    not_merged(&room, &[], "there is nothing to merge");
    not_merged(&room, &[one.clone(), room.path("nowhere")], "there is no run");
    let whole = room.run(&request(&room, None)).await.folder;
    not_merged(&room, &[whole.clone(), one.clone()], "is not a part of a run");
    // A folder that has a run is none for another.
    let journal = fs::read(whole.join(JOURNAL)).unwrap();
    Room::refused(merged(&room, &[one, two, three], "whole"), "already has a run");
    assert_eq!(fs::read(whole.join(JOURNAL)).unwrap(), journal);
}

#[tokio::test(start_paused = true)]
async fn a_part_is_run_once_and_then_told_that_nothing_is_left() {
    let room = room();
    let request = request(&room, Some((1, 2)));
    room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    let boots = room.boots();
    room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(room.boots(), boots);
    let mut second = request.clone();
    second.partition = Some(Part { number: 2, of: 2 });
    Room::refused(room.try_run(&second, IfExists::Resume).await, "another part");
}
