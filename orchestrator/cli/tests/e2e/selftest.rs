//! `luqual selftest`, with faults of which each is found in another way; `ci/test --full` runs all.

use crate::common::{assert_nothing_left, luqual, text};
use std::fs;

/// Runs the faults that match these globs, one machine at a time.
fn selftest(globs: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let words = ["selftest", "--jobs", "1", "--report-dir", "boots", "--junit", "selftest.xml"];
    let globs = globs.iter().flat_map(|glob| ["--filter", glob]);
    let output = luqual(folder.path()).args(words).args(globs).output().unwrap();
    assert_nothing_left(folder.path());
    let junit = fs::read_to_string(folder.path().join("selftest.xml")).unwrap_or_default();
    (output.status.code(), text(&output), junit)
}

#[test]
fn faults_of_the_host_the_agent_and_a_kernel_are_found_as_the_table_says() {
    let (code, told, junit) = selftest(&["memory.last-byte", "size.shorter", "taint.target", "run.no-room"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("4 of 4 faults found as the table says"), "{told}");
    assert!(told.contains("memory.last-byte: lost, by `memfd 64m content`"), "{told}");
    assert!(junit.contains(r#"tests="4" failures="0" errors="0""#), "{junit}");
}

#[test]
fn the_list_says_what_has_to_find_each_fault() {
    let folder = tempfile::tempdir().unwrap();
    let output = luqual(folder.path()).args(["selftest", "--list", "--filter", "machine.*"]).output().unwrap();
    assert!(output.status.success());
    let told = text(&output);
    assert!(told.contains("machine.page: a byte of the memory of a paused virtual machine is changed"), "{told}");
    assert!(told.contains("expected: lost, by `machine memory pages`, `machine memory chain`"), "{told}");
}
