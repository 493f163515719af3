//! Who dies: QEMU, the agent, luqual itself; and the user's Ctrl-C. Each once or twice on real kernels; in which phase, and at which line
//! of the journal, is a matter of the tests on fakes, in the runner and the engine.

use crate::common::{
    NEW, OLD, assert_nothing_left, count, events, luqual, machines, run_in, run_pair, text, wait_for_no_machine,
};
use luqual_model::{Event, Outcome, Phase};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_qemu_that_dies_in_the_blackout_is_the_harness_failing() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", "kill-qemu:reconnect"]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::HarnessFailed, Some(3)), "{cell:?}");
    assert_eq!(cell.phase, Phase::Reconnect, "{cell:?}");
    assert!(cell.title.contains("SIGKILL"), "{cell:?}");
}

/// A process of the agent is killed when a phase starts.
fn dead_agent(fault: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", fault]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::HarnessFailed, Some(3)), "{fault}: {cell:?}");
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

#[test]
fn a_killed_luqual_leaves_no_process_and_its_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Two cells: when it is killed one has ended, and a machine runs for the other.
    let words = ["run", "--matrix", "quick", "--filter", "source(7.3)", "--jobs", "1", "--report-dir", "run"];
    let mut command = luqual(folder.path());
    let mut child = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&run, begins_to_preserve, 2);
    assert_eq!(machines(folder.path()).len(), 1, "there is a QEMU to be left over");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_no_machine(folder.path());
    assert_eq!(fs::read_dir(folder.path().join("w")).unwrap().count(), 1);
    let ended = || -> Vec<String> {
        let id = |event| if let Event::CellFinished { record } = event { Some(record.id.0) } else { None };
        events(&run).into_iter().filter_map(id).collect()
    };
    let before = ended();
    assert_eq!(before.len(), 1, "{before:?}");

    // The next start sweeps its files.
    let output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let after = ended();
    assert!(after.len() == 2 && after[0] == before[0] && after[1] != before[0], "{after:?}");
    let cells = run_in(folder.path()).cells;
    assert!(cells.len() == 2 && cells.iter().all(|cell| cell.outcome == Outcome::Survived), "{cells:?}");
    assert_nothing_left(folder.path());
}

#[test]
fn ctrl_c_ends_the_run_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let child = start(folder.path());
    wait_for(&folder.path().join("run"), begins_to_preserve, 1);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("run/report.html") && folder.path().join("run/report.html").exists());
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

fn begins_to_preserve(event: &Event) -> bool {
    matches!(event, Event::PhaseStarted { phase: Phase::Preserve, .. })
}

/// Reads the journal until so many of its events are wanted.
fn wait_for(run: &Path, wanted: impl Fn(&Event) -> bool, times: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    while count(run, &wanted) < times {
        assert!(Instant::now() < until, "it did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
