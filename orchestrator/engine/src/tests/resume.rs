//! A run that was cut off is resumed, wherever it was; and what is not that run is refused.

use super::room::{CHANGES, Essence, NEW, OLD, Room, concluded, copy_cut, ended};
use crate::conclusion::Conclusion;
use crate::error::ErrorKind;
use crate::fakes::Ends;
use crate::folder::IfExists;
use crate::request::{AccelWanted, Part, RunRequest};
use luqual_model::{Event, QemuVersion};
use luqual_runner::JOURNAL;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;

/// The places in a journal at which a killed run may have left it: after each line, and in the middle of each that is of more than
/// a phase.
fn cuts(journal: &[u8]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for line in journal.split_inclusive(|byte| *byte == b'\n') {
        if !String::from_utf8_lossy(line).contains("\"event\":\"phase-") {
            cuts.push(start + line.len() / 2);
        }
        start += line.len();
        cuts.push(start);
    }
    cuts
}

/// A run with cells that end in several ways, of which two share a boot that crashes.
fn room() -> Room {
    Room::whose(|boot, workload| match (boot.target.as_str(), workload) {
        (NEW, "kexec.crash-kernel") => Ends::Lost,
        (NEW, "memfd.empty-grows") => Ends::Crashed,
        _ => Ends::Well,
    })
}

/// Resumes a run from each place of its journal, and compares what it comes to with the whole.
async fn resumed_from_everywhere(room: &Room, workloads: &[&str]) {
    let run = room.run(&room.request(workloads)).await;
    let whole = Essence::all(&room.json("run"));
    let journal = fs::read(run.folder.join(JOURNAL)).unwrap();
    let cuts = cuts(&journal);
    assert!(cuts.len() > 50, "{}", cuts.len());
    for cut in cuts {
        let name = format!("cut-{cut}");
        copy_cut(&run.folder, &room.path(&name), cut);
        let has_begun = journal[..cut].contains(&b'\n');
        let before = if has_begun { ended(&room.events_before(&name)) } else { Vec::new() };
        let boots = room.boots();
        if has_begun {
            let resumed = room.try_resume(&name).await.unwrap_or_else(|error| panic!("{cut}: {error}"));
            assert_eq!(concluded(&resumed), concluded(&run), "{cut}");
        } else {
            // It is none yet, and is begun.
            assert!(room.try_resume(&name).await.is_err());
            let mut request = room.request(workloads);
            request.report_dir = Some(room.path(&name));
            room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{cut}: {error}"));
        }
        let ended = ended(&room.events(&name));
        let unique: BTreeSet<&String> = ended.iter().collect();
        assert!(ended.len() == whole.len() && unique.len() == whole.len(), "{cut}: {ended:?}");
        assert_eq!(ended[..before.len()], before, "{cut}: what had ended stays");
        assert_eq!(Essence::all(&room.json(&name)), whole, "{cut}");
        if before.len() == whole.len() {
            assert_eq!(room.boots(), boots, "{cut}: there was nothing to boot");
        }
        let json = room.json(&name);
        assert!(!json.run.interrupted && json.run.duration_us.is_some(), "{cut}");
        fs::remove_dir_all(room.path(&name)).unwrap();
    }
}

impl Room {
    /// Those of a journal whose last line may not be whole.
    fn events_before(&self, name: &str) -> Vec<Event> {
        let text = fs::read_to_string(self.path(name).join(JOURNAL)).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str::<luqual_model::Stamped>(line).unwrap().event).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn cells_with_boots_of_their_own_are_resumed_from_every_line_of_the_journal() {
    resumed_from_everywhere(&room(), &["kexec.crash-kernel", "kexec.long-command-line"]).await;
}

#[tokio::test(start_paused = true)]
async fn cells_of_a_boot_that_crashed_are_resumed_from_every_line_of_the_journal() {
    resumed_from_everywhere(&room(), &["memfd.basic", "memfd.empty-grows"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_unfinished_cells_left_behind_is_removed_and_what_ended_ones_left_stays() {
    let room = Room::new();
    let run = room.run(&room.request(&["kexec.crash-kernel", "kexec.long-command-line"])).await;
    let journal = fs::read_to_string(run.folder.join(JOURNAL)).unwrap();
    let cells = room.json("run").cells;
    // The first has ended, and the second was killed.
    let cut = journal.find("\"cell-finished\"").unwrap();
    let cut = cut + journal[cut..].find('\n').unwrap() + 1;
    copy_cut(&run.folder, &room.path("cut"), cut);
    let marks: Vec<_> = cells.iter().map(|cell| room.path("cut").join(&cell.folder).join("mark")).collect();
    for mark in &marks {
        fs::create_dir_all(mark.parent().unwrap()).unwrap();
        fs::write(mark, "").unwrap();
    }
    room.try_resume("cut").await.unwrap_or_else(|error| panic!("{error}"));
    let first = ended(&room.events("cut"))[0].clone();
    for (cell, mark) in cells.iter().zip(marks) {
        assert_eq!(mark.exists(), cell.id.0 == first, "{}", cell.id);
    }
}

/// Runs two cells and cuts the run off after the first; returns its journal.
async fn cut_off(room: &Room) -> Vec<u8> {
    room.run(&room.request(&["kexec.crash-kernel", "kexec.long-command-line"])).await;
    let path = room.path("run").join(JOURNAL);
    let journal = fs::read_to_string(&path).unwrap();
    let cut = journal.find("\"cell-finished\"").unwrap();
    let cut = cut + journal[cut..].find('\n').unwrap() + 1;
    fs::write(&path, &journal[..cut]).unwrap();
    journal.into_bytes()[..cut].to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_run_is_not_resumed_with_anything_that_is_another() {
    for (change, told) in CHANGES {
        let room = Room::new();
        let journal = cut_off(&room).await;
        change(&room);
        Room::refused(room.try_resume("run").await, told);
        assert_eq!(fs::read(room.path("run").join(JOURNAL)).unwrap(), journal, "{told}: it was written to");
        assert_eq!(room.boots(), 2, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_is_told_what_it_was_told_before_the_run_was_cut_off() {
    let room = Room::new();
    cut_off(&room).await;
    room.other_command_line();
    room.try_resume("run").await.unwrap_or_else(|error| panic!("{error}"));
    assert!(room.last_command_line().contains(" printk.time=1 "), "{}", room.last_command_line());
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_is_gone_refuses_a_resume_only_where_it_is_needed() {
    let room = Room::new();
    let run = room.run(&room.request(&["memfd.basic"])).await;
    fs::remove_file(room.path(OLD)).unwrap();
    assert!(room.try_resume("run").await.is_ok(), "there is nothing left to run");
    let room = Room::new();
    cut_off(&room).await;
    fs::remove_file(room.path(OLD)).unwrap();
    Room::refused(room.try_resume("run").await, "is not here");
    drop(run);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_which_nothing_is_left_is_told_and_not_run() {
    let room = Room::whose(|_, _| Ends::Lost);
    room.run(&room.request(&["memfd.basic"])).await;
    let before = fs::read(room.path("run").join(JOURNAL)).unwrap();
    fs::remove_file(room.path("run/run.json")).unwrap();
    let resumed = room.try_resume("run").await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(concluded(&resumed), Conclusion::NotAsExpected, "what it came to stays what it was");
    assert!(room.notices.borrow().iter().any(|it| it.starts_with("NothingLeft")));
    assert_eq!(fs::read(room.path("run").join(JOURNAL)).unwrap(), before);
    assert_eq!((room.boots(), room.json("run").cells.len()), (1, 1), "its reports are written again");
}

#[tokio::test(start_paused = true)]
async fn what_the_harness_failed_of_runs_again_and_the_record_is_that_of_a_run_without_failures() {
    let workloads = ["kexec.crash-kernel", "memfd.basic", "memfd.empty-grows"];
    let undisturbed = Room::new();
    undisturbed.run(&undisturbed.request(&workloads)).await;
    let whole = Essence::all(&undisturbed.json("run"));
    // QEMU dies in a boot of two, and then alone or not, and in a boot of its own.
    for (killed, deaths, runs_again) in [("memfd.basic", 1, 2), ("memfd.basic", 2, 1), ("kexec.crash-kernel", 1, 1)] {
        let boots_of_it = RefCell::new(Vec::new());
        let room = Room::whose(move |boot, workload| {
            let mut boots = boots_of_it.borrow_mut();
            if workload == killed && !boots.contains(&boot.number) {
                boots.push(boot.number);
            }
            let dies = workload == killed && boots.iter().take(deaths).any(|number| *number == boot.number);
            if dies { Ends::WithQemu } else { Ends::Well }
        });
        let first = room.run(&room.request(&workloads)).await;
        assert_eq!(concluded(&first), Conclusion::HarnessFailed);
        let boots = room.boots();
        let resumed = room.try_resume("run").await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(concluded(&resumed), Conclusion::AsExpected, "{killed}");
        assert_eq!(Essence::all(&room.json("run")), whole, "{killed}");
        assert_eq!(room.boots(), boots + runs_again, "{killed}: each in a boot of its own");
        let again = room.try_resume("run").await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((concluded(&again), room.boots()), (Conclusion::AsExpected, boots + runs_again), "{killed}");
        let is_resume = |event: &&Event| matches!(event, Event::RunResumed { again, .. } if again.len() == runs_again);
        assert_eq!(room.events("run").iter().filter(is_resume).count(), 1, "{killed}");
    }
}

#[tokio::test]
async fn what_is_no_run_is_not_resumed() {
    let room = Room::new();
    Room::refused(room.try_resume("nowhere").await, "there is no run");
    fs::create_dir(room.path("run")).unwrap();
    Room::refused(room.try_resume("run").await, "there is no run");
    let other = "{\"at_us\":0,\"event\":\"run-started\",\"run\":{\"schema_version\":99}}\n";
    for (text, told) in [(other, "schema version 99"), ("nonsense\n", "line 1")] {
        fs::write(room.path("run").join(JOURNAL), text).unwrap();
        Room::refused(room.try_resume("run").await, told);
        assert_eq!(fs::read_to_string(room.path("run").join(JOURNAL)).unwrap(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_resumes_what_was_cut_off_and_runs_nothing_that_ended() {
    let room = room();
    let request = room.request(&["kexec.crash-kernel", "kexec.long-command-line"]);
    let first = room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    let (whole, concluded_first) = (Essence::all(&room.json("run")), concluded(&first));
    let again = room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((concluded(&again), room.boots()), (concluded_first, 2), "there was nothing to do");
    let room = self::room();
    cut_off(&room).await;
    // Where nobody gives a seed it is the one that the run has.
    for seed in [Some(7), None] {
        let mut request = request_in(&room);
        request.execution.seed = seed;
        let resumed = room.try_run(&request, IfExists::Resume).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(concluded(&resumed), concluded_first);
        assert_eq!((Essence::all(&room.json("run")), room.boots()), (whole.clone(), 3));
    }
}

fn request_in(room: &Room) -> RunRequest {
    room.request(&["kexec.crash-kernel", "kexec.long-command-line"])
}

#[tokio::test(start_paused = true)]
async fn another_request_is_refused_in_the_folder_with_what_differs() {
    let room = Room::new();
    let journal = cut_off(&room).await;
    let refused = async |change: &dyn Fn(&mut RunRequest), told: &str| {
        let mut request = request_in(&room);
        change(&mut request);
        Room::refused(room.try_run(&request, IfExists::Resume).await, told);
        assert_eq!(fs::read(room.path("run").join(JOURNAL)).unwrap(), journal, "{told}: it was written to");
        assert_eq!(room.boots(), 2, "{told}");
    };
    refused(&|it| it.execution.seed = Some(8), "other settings").await;
    refused(&|it| it.execution.retries = 1, "other settings").await;
    refused(&|it| it.execution.repeat = 2, "other settings").await;
    refused(&|it| it.execution.inject = Some("kill-qemu:verify".into()), "other settings").await;
    refused(&|it| it.execution.deterministic = true, "other settings").await;
    refused(&|it| it.partition = Some(Part { number: 1, of: 2 }), "another part").await;
    refused(&|it| drop(it.selection.workloads.pop()), "another selection").await;
    refused(&|it| it.selection.workloads.push("memfd.basic".into()), "another selection").await;
    refused(&|it| it.selection.profiles = vec!["vfio-intel".into()], "another selection").await;
    refused(&|it| it.machine.accel = AccelWanted::Kvm, "another accelerator").await;
    room.expect_of("kexec.crash-kernel", "lost");
    refused(&|_| {}, "other expectations").await;
    room.expect("");
    room.kernel(NEW, "9.2.0-other");
    refused(&|_| {}, "another kernel").await;
    room.kernel(NEW, NEW);
    *room.tool.borrow_mut() = "luqual other".into();
    refused(&|_| {}, "another luqual").await;
    *room.tool.borrow_mut() = "luqual test".into();
    room.machines.found.borrow_mut().qemu.version = QemuVersion(99, 1, 0);
    refused(&|_| {}, "another QEMU").await;
    room.machines.found.borrow_mut().qemu.version = QemuVersion(99, 0, 0);
    let resumed = room.try_run(&request_in(&room), IfExists::Resume).await;
    assert!(resumed.is_ok() && room.boots() == 3, "and the one that it is is resumed");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_another_luqual_writes_is_not_resumed() {
    let room = Room::new();
    cut_off(&room).await;
    let journal = fs::File::open(room.path("run").join(JOURNAL)).unwrap();
    journal.lock().unwrap();
    let error = room.try_resume("run").await.err().unwrap();
    assert!(error.to_string().contains("another luqual runs this run; wait until it ends"), "{error}");
    assert_eq!((error.kind(), room.boots()), (ErrorKind::Usage, 2));
    drop(journal);
    assert!(room.try_resume("run").await.is_ok());
}
