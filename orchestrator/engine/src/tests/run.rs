//! A run: what it leaves behind, what it comes to, and what is refused before it begins.

use super::room::{Essence, NEW, OLD, Room, WORKLOADS, concluded, ended};
use crate::conclusion::Conclusion;
use crate::error::ErrorKind;
use crate::fakes::Ends;
use crate::folder::IfExists;
use crate::interactive::Interactive;
use crate::request::{AccelWanted, Demand, MachineChoice, Pairs};
use luqual_model::{Event, Outcome, Status};
use luqual_runner::JOURNAL;
use std::fs;

const ONE: [&str; 1] = ["kexec.long-command-line"];
const TWO: [&str; 2] = ["kexec.crash-kernel", "kexec.long-command-line"];
const SHARED: [&str; 2] = ["memfd.basic", "memfd.empty-grows"];

#[tokio::test(start_paused = true)]
async fn a_run_leaves_a_journal_a_record_and_a_page_that_agree() {
    let room = Room::new();
    let run = room.run(&room.request(&[])).await;
    assert_eq!(concluded(&run), Conclusion::AsExpected);
    // Two cells share a boot.
    assert_eq!((room.boots(), room.machines.most.get()), (3, 1));
    let (events, json) = (room.events("run"), room.json("run"));
    let heard: Vec<Event> = room.heard.borrow().iter().map(|stamped| stamped.event.clone()).collect();
    assert_eq!(events, heard, "what is told is what is written");
    assert!(matches!(events[0], Event::RunStarted { .. }));
    assert_eq!(events.last(), Some(&Event::RunFinished { interrupted: false }));
    let workloads: Vec<String> = json.cells.iter().map(|cell| cell.plan.key.workload.clone()).collect();
    assert_eq!(workloads, WORKLOADS, "in the order of the plan");
    assert_eq!(ended(&events).len(), 4);
    assert!(json.cells.iter().all(|cell| (cell.outcome, cell.status) == (Outcome::Survived, Status::Expected)));
    assert!(json.run.duration_us.is_some() && json.run.host.qemu == "99.0.0" && json.run.settings.seed == 7);
    assert!(fs::read_to_string(room.path("run/report.html")).unwrap().contains("4 survived"));
    for cell in &json.cells {
        assert!(room.path("run").join(&cell.folder).join("console.log").exists(), "{}", cell.folder);
    }
}

#[tokio::test(start_paused = true)]
async fn four_pairs_are_run_with_as_many_machines_at_once_as_are_asked_for() {
    for jobs in [1, 3] {
        let room = Room::new();
        let mut request = room.request(&ONE);
        (request.pairs, request.execution.jobs) = (Pairs::Matrix("square".into()), Some(jobs));
        assert_eq!(concluded(&room.run(&request).await), Conclusion::AsExpected);
        assert_eq!(room.machines.most.get() as u64, jobs);
        let mut pairs: Vec<_> =
            room.machines.booted.borrow().iter().map(|it| (it.source.clone(), it.target.clone())).collect();
        pairs.sort();
        assert_eq!(pairs, [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW)].map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}

/// How one cell ends, what is expected of it if anything is, and its status and what the run comes to.
async fn one(ends: Ends, expected: Option<&str>) -> (Outcome, Status, [Conclusion; 3]) {
    let room = Room::whose(move |_, _| ends);
    if let Some(outcome) = expected {
        room.expect_of("kexec.long-command-line", outcome);
    }
    let run = room.run(&room.request(&ONE)).await;
    let cell = &room.json("run").cells[0];
    let demands = [
        Demand::default(),
        Demand { strict: true, ..Demand::default() },
        Demand { survived: true, ..Demand::default() },
    ];
    (cell.outcome, cell.status, demands.map(|demand| Conclusion::of(&run.record, demand)))
}

#[tokio::test(start_paused = true)]
async fn a_survival_is_as_expected_and_better_than_a_known_loss() {
    use Conclusion::{AsExpected, NotAsExpected};
    assert_eq!(one(Ends::Well, None).await, (Outcome::Survived, Status::Expected, [AsExpected; 3]));
    let better = (Outcome::Survived, Status::Improvement, [AsExpected, NotAsExpected, AsExpected]);
    assert_eq!(one(Ends::Well, Some("lost")).await, better);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_knows_is_not_as_expected() {
    let not = [Conclusion::NotAsExpected; 3];
    for (ends, outcome) in
        [(Ends::Lost, Outcome::Lost), (Ends::Refused, Outcome::Refused), (Ends::Crashed, Outcome::Crashed)]
    {
        assert_eq!(one(ends, None).await, (outcome, Status::Unexpected, not));
    }
    assert_eq!(one(Ends::Crashed, Some("lost")).await, (Outcome::Crashed, Status::Regression, not));
}

#[tokio::test(start_paused = true)]
async fn a_known_failure_is_as_expected_unless_all_has_to_survive() {
    use Conclusion::{AsExpected, NotAsExpected};
    for (ends, word, outcome) in [
        (Ends::Lost, "lost", Outcome::Lost),
        (Ends::Refused, "refused", Outcome::Refused),
        (Ends::Crashed, "crashed", Outcome::Crashed),
    ] {
        let told = one(ends, Some(word)).await;
        assert_eq!(told, (outcome, Status::Expected, [AsExpected, AsExpected, NotAsExpected]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_qemu_is_never_as_expected() {
    for expected in [None, Some("crashed"), Some("lost")] {
        for ends in [Ends::WithQemu, Ends::Unstarted] {
            let (outcome, _, concluded) = one(ends, expected).await;
            assert_eq!((outcome, concluded), (Outcome::HarnessFailed, [Conclusion::HarnessFailed; 3]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_harness_comes_before_a_regression() {
    let room = Room::whose(|_, workload| match workload {
        "kexec.crash-kernel" => Ends::Crashed,
        "kexec.long-command-line" => Ends::WithQemu,
        _ => Ends::Well,
    });
    assert_eq!(concluded(&room.run(&room.request(&[])).await), Conclusion::HarnessFailed);
    let outcomes: Vec<Outcome> = room.json("run").cells.iter().map(|cell| cell.outcome).collect();
    assert_eq!(outcomes, [Outcome::Crashed, Outcome::HarnessFailed, Outcome::Survived, Outcome::Survived]);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_skipped_cells_alone_is_no_success() {
    let room = Room::new();
    // The machine has no such device.
    let mut request = room.request(&["vfio.nvme.idle"]);
    request.selection.profiles = vec!["q35-intel".to_owned()];
    let run = room.run(&request).await;
    assert_eq!((room.json("run").cells[0].outcome, room.boots()), (Outcome::Skipped, 0));
    assert_eq!(concluded(&run), Conclusion::NotAsExpected);
    request.selection.workloads.push("memfd.basic".to_owned());
    request.report_dir = Some(room.path("beside"));
    let run = room.run(&request).await;
    assert_eq!(concluded(&run), Conclusion::NotAsExpected, "one that is skipped beside one that survived");
    let skips = Demand { allow_skips: true, ..Demand::default() };
    assert_eq!(Conclusion::of(&run.record, skips), Conclusion::AsExpected);
    let all = Demand { survived: true, ..Demand::default() };
    assert_eq!(Conclusion::of(&run.record, all), Conclusion::NotAsExpected);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_good_makes_a_cell_flaky_and_not_good() {
    let room = Room::whose(|boot, _| if boot.number == 0 { Ends::Lost } else { Ends::Well });
    let mut request = room.request(&ONE);
    request.execution.retries = 3;
    assert_eq!(concluded(&room.run(&request).await), Conclusion::NotAsExpected);
    let cell = &room.json("run").cells[0];
    assert_eq!((cell.outcome, cell.status), (Outcome::Lost, Status::Flaky));
    let attempts: Vec<(Outcome, bool)> = cell.attempts.iter().map(|it| (it.outcome, it.retry)).collect();
    assert_eq!(attempts, [(Outcome::Lost, false), (Outcome::Survived, true)], "it is not tried again after a good one");
    assert_ne!(cell.attempts[0].seed, cell.attempts[1].seed);
    assert_ne!(cell.attempts[0].folder, cell.attempts[1].folder);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_is_lost_in_one_of_its_repetitions_is_flaky() {
    let room = Room::whose(|boot, _| if boot.number == 3 { Ends::Lost } else { Ends::Well });
    let mut request = room.request(&ONE);
    request.execution.repeat = 5;
    assert_eq!(concluded(&room.run(&request).await), Conclusion::NotAsExpected);
    let cell = &room.json("run").cells[0];
    let rate = cell.rate().unwrap();
    assert_eq!((cell.outcome, cell.status, rate.failed, rate.of), (Outcome::Lost, Status::Flaky, 1, 5));
    assert_eq!(room.boots(), 5);
}

#[tokio::test(start_paused = true)]
async fn of_a_shared_boot_that_crashes_each_cell_is_run_again_alone() {
    let room = Room::whose(|_, workload| if workload == "memfd.empty-grows" { Ends::Crashed } else { Ends::Well });
    room.run(&room.request(&SHARED)).await;
    let told: Vec<(Outcome, Status)> = room.json("run").cells.iter().map(|it| (it.outcome, it.status)).collect();
    assert_eq!(told, [(Outcome::Survived, Status::Expected), (Outcome::Crashed, Status::Unexpected)]);
    assert_eq!(room.boots(), 3);
    let why =
        room.events("run").into_iter().find_map(|it| if let Event::BootEnded { why, .. } = it { why } else { None });
    assert!(why.is_some_and(|why| why.contains("crashed")));
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_found_before_anything_is_started() {
    let room = Room::new();
    let refused = async |change: &dyn Fn(&mut crate::request::RunRequest), told: &str| {
        let mut request = room.request(&ONE);
        change(&mut request);
        Room::refused(room.try_run(&request, IfExists::Fail).await, told);
        assert!(!room.path("run").exists() && room.boots() == 0 && room.heard.borrow().is_empty(), "{told}");
    };
    let nowhere = || MachineChoice { qemu: Some("/nowhere/qemu".into()), ..MachineChoice::default() };
    refused(&|it| it.machine = nowhere(), "/nowhere/qemu was not found").await;
    refused(&|it| it.execution.inject = Some("device:tea".into()), "dma-write").await;
    refused(&|it| it.pairs = Pairs::Matrix("quik".into()), "there is no matrix `quik`").await;
    refused(&|it| it.selection.workloads = vec!["vfoi.*".into()], "no workload matches").await;
    refused(&|it| it.selection.profiles = vec!["pc".into()], "there is no profile `pc`").await;
    refused(&|it| it.selection.filter = Some("source(9.2)".into()), "the selection has no cells").await;
    refused(&|it| it.selection.filter = Some("source(9.2".into()), "expected `)`").await;
    refused(&|it| it.pairs = Pairs::One("9.9.9".into(), "9.9.9".into()), "there is no kernel `9.9.9`").await;
    refused(&|it| it.report_dir = Some(room.path("100%")), "a % in its name").await;
    let deterministic_kvm = |it: &mut crate::request::RunRequest| {
        (it.execution.deterministic, it.machine.accel) = (true, AccelWanted::Kvm);
    };
    refused(&deterministic_kvm, "a deterministic run cannot use KVM").await;
    fs::write(room.path("script"), "#!/bin/sh\n").unwrap();
    let script = room.path("script").display().to_string();
    refused(&|it| it.pairs = Pairs::One(script.clone(), script.clone()), "not a bzImage").await;
    fs::remove_file(room.path("m.toml")).unwrap();
    refused(&|_| {}, "No such file").await;
}

#[tokio::test]
async fn a_host_without_qemu_is_no_mistake_of_the_user() {
    let room = Room::new();
    let context = crate::context::Context { machines: &crate::fakes::NoMachines, ..room.context() };
    let done = crate::run::run(&context, &room.request(&ONE), IfExists::Fail, Interactive::default()).await;
    assert_eq!(done.err().unwrap().kind(), ErrorKind::Harness);
    // A mistake of the user comes first.
    let mut wrong = room.request(&ONE);
    wrong.execution.inject = Some("device:tea".into());
    let done = crate::run::run(&context, &wrong, IfExists::Fail, Interactive::default()).await;
    assert_eq!(done.err().unwrap().kind(), ErrorKind::Usage);
    assert!(!room.path("run").exists());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_has_a_run_is_left_as_it_is() {
    let room = Room::new();
    room.run(&room.request(&ONE)).await;
    let before = fs::read(room.path("run").join(JOURNAL)).unwrap();
    Room::refused(room.try_run(&room.request(&TWO), IfExists::Fail).await, "already has a run");
    assert_eq!(fs::read(room.path("run").join(JOURNAL)).unwrap(), before);
    for name in ["run.json", "console.log"] {
        let folder = room.path("another");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), "{}").unwrap();
        let mut request = room.request(&ONE);
        request.report_dir = Some(folder.clone());
        for existing in [IfExists::Fail, IfExists::Resume] {
            Room::refused(room.try_run(&request, existing).await, "already has a run");
        }
        assert_eq!(fs::read(folder.join(name)).unwrap(), b"{}");
        fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(room.boots(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_draws_the_same_and_another_draws_otherwise() {
    let room = Room::new();
    let mut seeds = Vec::new();
    for (name, seed) in [("a", 7), ("b", 7), ("c", 8)] {
        let mut request = room.request(&[]);
        (request.report_dir, request.execution.seed) = (Some(room.path(name)), Some(seed));
        room.run(&request).await;
        seeds.push(room.json(name).cells.iter().map(|cell| cell.seed).collect::<Vec<u64>>());
        assert_eq!(Essence::all(&room.json(name)), Essence::all(&room.json("a")));
    }
    assert!(seeds[0] == seeds[1] && seeds[0].iter().zip(&seeds[2]).all(|(a, c)| a != c), "{seeds:?}");
}
