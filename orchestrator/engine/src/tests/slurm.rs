//! Which parts of a job array are to be run again, without a Slurm: the tasks are run here.

use super::room::{Essence, Room};
use crate::folder::IfExists;
use crate::kernels::{find_kernels, open_store};
use crate::merge::merge_into;
use crate::plan;
use crate::request::{Pairs, Part, RunRequest};
use crate::slurm::Parts;
use luqual_runner::JOURNAL;
use std::fs;

const OF: u32 = 3;

fn request(room: &Room) -> RunRequest {
    let pairs = Pairs::Matrix("square".to_owned());
    RunRequest { pairs, ..room.request(&["kexec.long-command-line", "memfd.basic", "memfd.empty-grows"]) }
}

/// Runs a task of the array, as Slurm would start it.
async fn task(room: &Room, parts: &Parts, number: u32) {
    let (partition, report_dir) = (Some(Part { number, of: OF }), Some(parts.folders()[number as usize - 1].clone()));
    let request = RunRequest { partition, report_dir, ..request(room) };
    room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(start_paused = true)]
async fn a_job_array_knows_which_parts_have_not_ended_and_merges_them_when_all_have() {
    let room = Room::new();
    room.run(&request(&room)).await;
    let (context, request) = (room.context(), request(&room));
    let store = open_store(&request.kernels).unwrap();
    let chosen = plan::choose(&store, &request).unwrap();
    let kernels = find_kernels(&context, &store, chosen.cells.iter()).await.unwrap();
    let parts = Parts::new(OF, &chosen, &room.path("array"));
    let unended = || parts.unended(&context, &request.execution, &kernels, &store);
    assert_eq!(unended().unwrap(), [1, 2, 3]);
    task(&room, &parts, 1).await;
    task(&room, &parts, 3).await;
    assert_eq!(unended().unwrap(), [2]);
    // A task that is cancelled, and one that is killed before its last line.
    room.ends_after(Some(20));
    task(&room, &parts, 2).await;
    room.ends_after(None);
    let journal = parts.folders()[2].join(JOURNAL);
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..text.rfind("{\"at_us\"").unwrap()]).unwrap();
    assert_eq!(unended().unwrap(), [2, 3]);
    let boots = room.boots();
    task(&room, &parts, 3).await;
    assert_eq!((unended().unwrap(), room.boots()), (vec![2], boots), "its cells had ended");
    task(&room, &parts, 2).await;
    assert!(unended().unwrap().is_empty());
    let make = || fs::create_dir_all(room.path("array")).map(|()| ("id".to_owned(), room.path("array")));
    merge_into(&context, &parts.folders(), || Ok(make().unwrap())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Essence::all(&room.json("array")), Essence::all(&room.json("run")));
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_a_part_with_another_run_is_told_before_anything_is_submitted() {
    let room = Room::new();
    let (context, mut request) = (room.context(), request(&room));
    let store = open_store(&request.kernels).unwrap();
    let chosen = plan::choose(&store, &request).unwrap();
    let kernels = find_kernels(&context, &store, chosen.cells.iter()).await.unwrap();
    let parts = Parts::new(OF, &chosen, &room.path("array"));
    task(&room, &parts, 2).await;
    request.execution.seed = Some(8);
    let error = parts.unended(&context, &request.execution, &kernels, &store).unwrap_err();
    assert!(error.to_string().contains("other settings"), "{error}");
}
