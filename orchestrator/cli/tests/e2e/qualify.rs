//! GO, and NO-GO with its reasons.

use crate::common::{NEW, OLD, WITHOUT_LUO, assert_nothing_left, luqual, run_in, text};
use std::fs;
use std::path::Path;

/// Qualifies an update from `OLD`, and expects `told` in an answer that is GO or not.
fn qualify(folder: &Path, target: &str, more: &[&str], is_go: bool, told: &str) {
    let words = ["qualify", OLD, target, "--one-way", "--workload", "memfd.basic", "--report-dir", "run"];
    let output = luqual(folder).args(words).args(more).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(if is_go { 0 } else { 1 }), "{said}");
    assert!(said.contains(told) && said.starts_with(if is_go { "GO" } else { "NO-GO" }), "{said}");
    let page = fs::read_to_string(folder.join("run/qualification.html")).unwrap();
    assert!(page.contains(if is_go { ">GO<" } else { ">NO-GO<" }), "{page}");
    assert_nothing_left(folder);
}

#[test]
fn an_update_that_survives_each_time_is_go() {
    let folder = tempfile::tempdir().unwrap();
    let told = "7.2.12 → 7.3.4";
    qualify(folder.path(), NEW, &["--repeat", "2", "--seed", "7"], true, told);
    let run = run_in(folder.path());
    // Drawn from the number that was given (orchestrator/runner/src/seed.rs): the same on every machine.
    let seeds: Vec<u64> = run.cells[0].attempts.iter().map(|attempt| attempt.seed).collect();
    assert_eq!((run.run.settings.seed, seeds), (7, vec![17630732956192026303, 16218972967798419798]));
}

#[test]
fn the_way_back_has_an_answer_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["qualify", WITHOUT_LUO, NEW, "--workload", "memfd.basic", "--repeat", "1", "--report-dir", "run"];
    let output = luqual(folder.path()).args(words).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let told = format!(
        "NO-GO: live update {WITHOUT_LUO} → {NEW}\nNO-GO: the way back, {NEW} → {WITHOUT_LUO}\n\
         NO-GO: {WITHOUT_LUO} into itself\nGO: {NEW} into itself\n"
    );
    assert!(said.starts_with(&told), "{said}");
    assert_nothing_left(folder.path());
}

#[test]
fn a_target_without_luo_is_no_go() {
    let folder = tempfile::tempdir().unwrap();
    let told = "memfd.basic on q35-intel: incompatible: KHO: setup: handover FDT";
    qualify(folder.path(), WITHOUT_LUO, &["--repeat", "1"], false, told);
    assert_eq!(run_in(folder.path()).cells[0].attempts, []);
}

#[test]
fn an_update_that_loses_a_byte_is_no_go() {
    let folder = tempfile::tempdir().unwrap();
    let told = "memfd.basic on q35-intel: lost: memfd host: pages of 4k after the kexec";
    qualify(folder.path(), NEW, &["--repeat", "1", "--inject", "flip:4k:0:0"], false, told);
}

#[test]
fn what_could_not_be_tested_is_no_go() {
    let folder = tempfile::tempdir().unwrap();
    let told = "memfd.basic on q35-intel: harness-failed";
    qualify(folder.path(), NEW, &["--repeat", "1", "--inject", "kill-qemu:boot"], false, told);
}
