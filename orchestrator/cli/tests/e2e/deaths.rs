//! Who dies when: QEMU, the agent, luqual itself; and the user's Ctrl-C.

use crate::common::{
    NEW, OLD, WITHOUT_LUO, assert_nothing_left, count, events, luqual, machines, run_in, run_pair, text,
};
use luqual_model::{Event, Outcome, Phase};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// QEMU is killed when a phase starts.
fn dead_qemu(phase: Phase) {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", &format!("kill-qemu:{phase}")]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::HarnessFailed, Some(3)), "{cell:?}");
    assert_eq!(cell.phase, phase);
    assert!(cell.title.contains("SIGKILL"), "{cell:?}");
}

#[test]
fn a_qemu_that_dies_in_the_boot_is_the_harness_failing() {
    dead_qemu(Phase::Boot);
}

#[test]
fn a_qemu_that_dies_in_preserve_is_the_harness_failing() {
    dead_qemu(Phase::Preserve);
}

#[test]
fn a_qemu_that_dies_in_the_blackout_is_the_harness_failing() {
    dead_qemu(Phase::Reconnect);
}

#[test]
fn a_qemu_that_dies_in_verify_is_the_harness_failing() {
    dead_qemu(Phase::Verify);
}

/// A process of the agent is killed when a phase starts.
fn dead_agent(fault: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", fault]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::HarnessFailed, Some(3)), "{fault}: {cell:?}");
}

#[test]
fn an_agent_that_dies_in_preserve_is_the_harness_failing() {
    dead_agent("kill-agent:preserve");
}

#[test]
fn an_agent_that_dies_in_verify_is_the_harness_failing() {
    dead_agent("kill-agent:verify");
}

#[test]
fn a_holder_that_dies_before_the_kexec_is_the_harness_failing() {
    dead_agent("kill-holder:kexec");
}

#[test]
fn a_holder_that_dies_in_verify_is_the_harness_failing() {
    dead_agent("kill-holder:verify");
}

/// luqual is killed in a phase: nothing of it runs on, and the next start sweeps its files.
fn killed_luqual(phase: Phase) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path());
    wait_for_phase(folder.path(), phase);
    assert_eq!(machines(folder.path()).len(), 1, "there is a QEMU to be left over");
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !machines(folder.path()).is_empty() {
        assert!(Instant::now() < until, "{:?}", machines(folder.path()));
        std::thread::yield_now();
    }
    assert_eq!(fs::read_dir(folder.path().join("w")).unwrap().count(), 1);
    // The journal is whole lines up to where it was.
    assert!(!events(&folder.path().join("run")).is_empty());
    fs::remove_dir_all(folder.path().join("run")).unwrap();
    let (_, output) = run_pair(folder.path(), WITHOUT_LUO, NEW, &[]);
    assert!(text(&output).contains("removed 1 working folder"), "{}", text(&output));
}

#[test]
fn a_luqual_that_is_killed_in_the_boot_leaves_no_process() {
    killed_luqual(Phase::Boot);
}

#[test]
fn a_luqual_that_is_killed_in_preserve_leaves_no_process() {
    killed_luqual(Phase::Preserve);
}

#[test]
fn a_luqual_that_is_killed_in_the_blackout_leaves_no_process() {
    killed_luqual(Phase::Reconnect);
}

#[test]
fn a_luqual_that_is_killed_in_verify_leaves_no_process() {
    killed_luqual(Phase::Verify);
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Three cells: when it is killed one has ended, one has begun, and one has not.
    let three = ["--filter", "!(source(7.2) & target(7.2))"];
    let words = ["run", "--matrix", "quick", "--jobs", "1", "--report-dir", "run"];
    let mut command = luqual(folder.path());
    let mut child = command.args(words).args(three).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&run, |event| matches!(event, Event::CellStarted { .. }), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = || -> Vec<String> {
        let id = |event| if let Event::CellFinished { record } = event { Some(record.id.0) } else { None };
        events(&run).into_iter().filter_map(id).collect()
    };
    let before = ended();
    assert_eq!(before.len(), 1, "{before:?}");

    let output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let after = ended();
    let unique: std::collections::BTreeSet<&String> = after.iter().collect();
    assert!(after[0] == before[0] && after.len() == 3 && unique.len() == 3, "{after:?}");
    let cells = run_in(folder.path()).cells;
    assert!(cells.len() == 3 && cells.iter().all(|cell| cell.outcome == Outcome::Survived), "{cells:?}");
    assert_nothing_left(folder.path());
}

#[test]
fn ctrl_c_ends_the_run_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let child = start(folder.path());
    wait_for_phase(folder.path(), Phase::Preserve);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("1 not run (interrupted)") && text(&output).contains("report: run/report.html"));
    let record = run_in(folder.path());
    assert!(record.run.interrupted && record.cells.is_empty(), "{record:?}");
    assert_nothing_left(folder.path());
}

fn start(folder: &Path) -> Child {
    luqual(folder)
        .args(["run", "--source", OLD, "--target", NEW, "--workload", "memfd.basic", "--report-dir", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until that phase has begun, and in the boot until QEMU is there.
fn wait_for_phase(folder: &Path, wanted: Phase) {
    let begins = |event: &Event| matches!(event, Event::PhaseStarted { phase, .. } if *phase == wanted);
    wait_for(&folder.join("run"), begins, 1);
    let until = Instant::now() + Duration::from_secs(120);
    while machines(folder).is_empty() {
        assert!(Instant::now() < until, "there is no QEMU in {wanted}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads the journal until so many of its events are wanted.
fn wait_for(run: &Path, wanted: impl Fn(&Event) -> bool, times: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    while count(run, &wanted) < times {
        assert!(Instant::now() < until, "it did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
