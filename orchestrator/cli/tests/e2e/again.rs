//! What was seen once is made again: from the run, from a bundle, and to the last byte.

use crate::common::{NEW, OLD, assert_nothing_left, finished, luqual, run_in, run_pair, text};
use luqual_model::{CellRecord, Outcome, Reproduced};
use std::fs;

/// What of a cell has to be the same when it is made again.
fn essence(cell: &CellRecord) -> impl PartialEq + std::fmt::Debug {
    let CellRecord { id, seed, outcome, status, title, injected, probes, phase, .. } = cell.clone();
    (id, seed, outcome, status, title, injected, probes, phase)
}

/// What ends otherwise, and what is no longer what it was, is a matter of the engine's tests on fakes.
#[test]
fn a_red_cell_is_made_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (then, output) = run_pair(folder.path(), OLD, NEW, &["--inject", "flip:64m:3:17"]);
    let id = then.id.0.as_str();
    assert!(text(&output).contains(&format!(" luqual repro run {id}\n")), "{}", text(&output));
    let repro = |words: &[&str]| {
        let mut command = luqual(folder.path());
        command.args(["repro", "run"]).args(words).output().unwrap()
    };
    let output = repro(&["memfd.basic", "--report-dir", "again"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let again = finished(&folder.path().join("again"));
    // What is in the memfd, and so what stands where a byte was flipped, is drawn from the seed.
    assert_eq!(essence(&again.cells[0]), essence(&then));
    let run = run_in(folder.path()).run.id;
    let repeated = Reproduced { run, cell: then.id.clone(), seed: then.seed, waits: false, bundle: None };
    assert_eq!(again.run.settings.reproduces, Some(repeated));
    // From a bundle, by somebody who has neither the run nor a kernel.
    let output = luqual(folder.path()).args(["bundle", "run", "memfd", "-o", "red.tar.gz"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("red.tar.gz"), elsewhere.path().join("red.tar.gz")).unwrap();
    let mut luqual_there = luqual(elsewhere.path());
    luqual_there.env("HOME", elsewhere.path()).env_remove("XDG_CACHE_HOME");
    let output = luqual_there.args(["repro", "red.tar.gz", "--report-dir", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(&format!(" luqual repro red.tar.gz {id}\n")), "{}", text(&output));
    let there = run_in(elsewhere.path());
    assert_eq!((&there.cells[0].probes, &there.run.kernels), (&then.probes, &again.run.kernels));
    assert!(!fs::exists(elsewhere.path().join(".cache/luqual/kernels")).unwrap());
    assert_nothing_left(elsewhere.path());
    assert_nothing_left(folder.path());
}

/// Runs a deterministic cell and makes it again.
fn deterministic(fault: Option<&str>, outcome: Outcome) {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--deterministic", "--seed", "7"].into_iter();
    let words: Vec<&str> = words.chain(fault.into_iter().flat_map(|fault| ["--inject", fault])).collect();
    let (then, output) = run_pair(folder.path(), OLD, NEW, &words);
    assert_eq!(then.outcome, outcome, "{}", text(&output));
    let output = luqual(folder.path()).args(["repro", "run", &then.id.0, "--report-dir", "again"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let digest = then.digest.as_deref().unwrap();
    assert!(text(&output).contains(digest), "{}", text(&output));
    let read = |run: &str, name: &str| fs::read(folder.path().join(run).join(&then.folder).join(name)).unwrap();
    for name in ["console.raw", "answers.jsonl"] {
        assert!(!read("run", name).is_empty() && read("run", name) == read("again", name), "{name}");
    }
    // Both kernels spoke, and what they said was heard.
    let console = String::from_utf8_lossy(&read("run", "console.log")).into_owned();
    assert!(console.contains("Linux version 7.2.12") && console.contains("Linux version 7.3.4"));
    assert_nothing_left(folder.path());
}

#[test]
fn a_deterministic_loss_is_the_same_to_the_last_byte() {
    deterministic(Some("flip:64m:3:17"), Outcome::Lost);
}

#[test]
fn what_the_host_takes_part_in_is_left_out_of_a_deterministic_run_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--deterministic", "--inject", "kill-qemu:verify"]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Skipped, Some(1)), "{}", text(&output));
    assert!(cell.title.starts_with("kill-qemu:verify "), "{cell:?}");
}

mod full {
    use luqual_model::Outcome;

    #[test]
    fn a_deterministic_survival_is_the_same_to_the_last_byte() {
        super::deterministic(None, Outcome::Survived);
    }
}
