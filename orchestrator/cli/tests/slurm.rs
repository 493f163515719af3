//! A run in parts is the run: by ci/shard and ci/merge, and as a job array of a Slurm that the test starts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::cluster::{Cluster, wait};
use common::{alone, assert_nothing_left, luqual, text};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Two boots that several cells share, and two of cells that have their own and are lost, as expected.
const SELECTION: [&str; 13] = [
    "--matrix",
    "quick",
    "--filter",
    "source(7.3)",
    "--workload",
    "memfd.basic",
    "--workload",
    "luo.session-closed",
    "--workload",
    "luo.session-dup",
    "--workload",
    "kexec.kho-off",
    "--seed=7",
];

/// One cell.
const ONE: [&str; 7] = ["run", "--source", "7.3.4", "--target", "7.3.4", "--workload", "memfd.basic"];

fn run_json(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap()
}

/// What of a run does not depend on where and when it was run.
fn essence(folder: &Path) -> Value {
    let run = run_json(folder);
    let told = ["id", "outcome", "status", "title", "phase", "seed", "folder", "shared_with", "probes", "prediction"];
    let cell = |cell: &Value| -> Value { told.map(|name| cell[name].clone()).into_iter().collect() };
    let cells: Value = run["cells"].as_array().unwrap().iter().map(cell).collect();
    let settings = ["seed", "retries", "repeat", "plant"].map(|name| run["settings"][name].clone());
    serde_json::json!({
        "planned": run["planned"], "settings": settings, "interrupted": run["interrupted"], "cells": cells,
    })
}

fn events(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn count(journal: &Path, event: &str) -> usize {
    events(journal).iter().filter(|it| it["event"] == event).count()
}

fn ci(folder: &Path, script: &str, words: &[&str]) -> Output {
    let script = format!("{}/../../ci/{script}", env!("CARGO_MANIFEST_DIR"));
    let program = luqual(folder).get_program().to_owned();
    let work = folder.join("w");
    Command::new(script)
        .args(words)
        .current_dir(folder)
        .env("LUQUAL", program)
        .env("LUQUAL_WORK_DIR", work)
        .output()
        .unwrap()
}

#[test]
fn parts_of_a_run_are_the_run_also_when_a_task_is_killed() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = luqual(folder).arg("run").args(SELECTION).args(["--jobs", "1", "--report-dir", "whole"]).output();
    let whole = whole.unwrap();
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    let wanted = essence(&folder.join("whole"));
    assert_eq!(wanted["cells"].as_array().unwrap().len(), 8);

    let parts: Vec<String> = (1..=8).map(|number| format!("part-{number}")).collect();
    for (number, part) in (1..).zip(&parts) {
        let shard = ci(folder, "shard", &[&[&format!("{number}"), "8", part][..], &SELECTION].concat());
        assert_eq!(shard.status.code(), Some(0), "{}", text(&shard));
        assert!(fs::read_to_string(folder.join(part).join("junit.xml")).unwrap().contains("<testsuites"));
    }
    let words: Vec<&str> = ["merged"].into_iter().chain(parts.iter().rev().map(String::as_str)).collect();
    let merged = ci(folder, "merge", &words);
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged));
    assert_eq!(essence(&folder.join("merged")), wanted, "eight shards are another run");

    let cluster = Cluster::start(&folder.join("slurm"));
    // A folder whose name has to be quoted, for the shell and for sbatch.
    let array =
        [&["run", "--executor", "slurm", "--parts=4", "--report-dir", "it's an array"], &SELECTION[..]].concat();
    let run = cluster.luqual(folder, &array).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let part = |number: usize| folder.join(format!("it's an array/parts/{number}/events.jsonl"));
    wait("a boot of part 2", || count(&part(2), "phase-started") > 0);
    let (killed, _) = tasks(folder, "parts/2").pop().unwrap();
    assert!(Command::new("kill").args(["-KILL", &killed]).status().unwrap().success());
    let run = run.wait_with_output().unwrap();
    let said = text(&run);
    assert_eq!(run.status.code(), Some(0), "{said}");
    assert_eq!(essence(&folder.join("it's an array")), wanted, "a job array is another run");
    // Part 2, alone and once.
    assert!(said.contains("part 2 did not end (see ") && said.contains("task-2.log): it is run again alone"), "{said}");
    assert_eq!(said.matches("run again").count(), 1, "{said}");
    let resumed: Vec<usize> = (1..=4).map(|number| count(&part(number), "run-resumed")).collect();
    assert_eq!(resumed, [0, 1, 0, 0]);
    for number in 1..=4 {
        let log = fs::read_to_string(folder.join(format!("it's an array/slurm/task-{number}.log"))).unwrap();
        assert!(!log.contains("nothing is left to run"), "part {number} was submitted again:\n{log}");
    }
    assert_eq!(fs::read_to_string(folder.join("it's an array/slurm/jobs")).unwrap().lines().count(), 2);
    assert!(said.contains("8 cells: 6 survived, 2 lost"), "{said}");
    // It has a whole run now, and nothing is run in it.
    let (again, said) = cluster.run(folder, &array);
    assert!(again.status.code() == Some(2) && said.contains("has a run in it"), "{said}");
    drop(cluster);
    assert_no_process_of(folder);
}

#[test]
fn an_array_is_cancelled_and_goes_on_and_is_not_mixed_with_another() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::start(&folder.join("slurm"));
    let slurm = ["--executor", "slurm", "--report-dir", "run", "--parts"];
    let words = [&ONE[..], &slurm, &["2"]].concat();
    let refused = |more: &[&str], told: &str| {
        let (output, said) = cluster.run(folder, &[&ONE[..], &slurm, more].concat());
        assert!(output.status.code() == Some(2) && said.contains(told), "`{told}` is not in:\n{said}");
    };
    refused(&["2", "--sbatch-option=--tea"], "sbatch did not take the job");
    refused(&["2", "--sbatch-option", "--partition=nowhere"], "invalid partition specified: nowhere");

    let run = cluster.luqual(folder, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("a boot", || count(&folder.join("run/parts/1/events.jsonl"), "phase-started") > 0);
    refused(&["2"], "job 1 of this run is still there");
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let run = run.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(130), "{}", text(&run));
    assert!(text(&run).contains("job 1 is cancelled; the same command with --report-dir "), "{}", text(&run));
    wait("the end of the job", || cluster.is_idle());
    assert!(tasks(folder, "parts/").is_empty(), "tasks are left");

    refused(&["3"], "run/parts/1 has a run in it with another part");
    refused(&["2", "--workload", "luo.session-dup"], "run/parts/1 has a run in it with another selection");
    refused(&["2", "--seed", "1"], "run/parts/1 has a run in it with other settings");
    let (output, said) = cluster.run(folder, &words);
    assert!(output.status.code() == Some(0) && said.contains("1 cell: 1 survived"), "{said}");
    assert_eq!(count(&folder.join("run/parts/1/events.jsonl"), "run-resumed"), 1);
    assert_nothing_left(folder);

    // A folder that cannot be made.
    fs::write(folder.join("file"), "").unwrap();
    let nowhere = ["--executor=slurm", "--parts=1", "--report-dir=file/run"];
    let (output, said) = cluster.run(folder, &[&ONE[..], &nowhere].concat());
    assert!(output.status.code() == Some(2) && said.contains("file/run: Not a directory"), "{said}");

    // A part that cannot begin on its node is tried three times.
    let never = ["--executor=slurm", "--parts=1", "--report-dir=never", "--qemu", "/nowhere/qemu"];
    let (output, said) = cluster.run(folder, &[&ONE[..], &never].concat());
    let told = "did not end, however often it was run: part 1";
    assert!(output.status.code() == Some(3) && said.contains(told), "{said}");
    assert!(said.contains("never/slurm/task-1.log; the same command with --report-dir"), "{said}");
    let log = fs::read_to_string(folder.join("never/slurm/task-1.log")).unwrap();
    assert_eq!(log.matches("/nowhere/qemu was not found").count(), 3, "{log}");
    assert!(!folder.join("never/events.jsonl").exists());
    drop(cluster);
    assert_no_process_of(folder);
}

#[test]
fn what_cannot_be_an_array_is_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("file"), "").unwrap();
    let slurm = ["--executor", "slurm", "--parts", "2"];
    for (words, path, told) in [
        (&slurm[..], "/nowhere", "there is no sbatch in PATH"),
        (&slurm, "/usr/bin:/bin", "sbatch knows of no Slurm"),
        (&["--executor", "slurm"], "", "--parts <N>"),
        (&["--parts", "2"], "", "add --executor slurm"),
        (&["--sbatch-option=--mem=8G"], "", "add --executor slurm"),
        (&["--executor", "slurm", "--parts", "2", "--partition", "1/2"], "", "cannot be used with"),
        (&["--executor", "slurm", "--parts", "0"], "", "0 is not in 1.."),
        (&["--executor", "slurm", "--parts", "2", "--sbatch-option", "mem=8G"], "", "begins with `-`"),
    ] {
        let output =
            luqual(folder).args(ONE).args(words).env("PATH", path).env("SLURM_CONF", folder.join("file")).output();
        let output = output.unwrap();
        assert!(output.status.code() == Some(2) && text(&output).contains(told), "{}", text(&output));
        assert!(!folder.join("luqual-runs").exists(), "a folder was left");
    }
}

#[test]
fn a_shard_fails_with_its_host_and_a_merge_with_its_cells() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Nothing runs on a source without LUO: that is no success.
    let skipped = ["--source", "6.18.15", "--target", "6.18.15", "--workload", "memfd.basic"];
    let shard = ci(folder, "shard", &[&["1", "1", "part"][..], &skipped].concat());
    assert_eq!(shard.status.code(), Some(0), "{}", text(&shard));
    // A job that is started again goes on.
    let again = ci(folder, "shard", &[&["1", "1", "part"][..], &skipped].concat());
    assert!(again.status.success() && text(&again).contains("nothing is left to run"), "{}", text(&again));
    let merged = ci(folder, "merge", &["whole", "part"]);
    assert_eq!(merged.status.code(), Some(1), "{}", text(&merged));
    let summary = fs::read_to_string(folder.join("whole/summary.md")).unwrap();
    assert!(summary.contains("| 6.18.15 | skipped |"), "{summary}");
    assert!(folder.join("whole/junit.xml").exists());
    let broken = [&["1", "1", "broken"][..], &ONE[1..], &["--qemu", "/nowhere/qemu"]].concat();
    let shard = ci(folder, "shard", &broken);
    assert_eq!(shard.status.code(), Some(3), "{}", text(&shard));
    let missing = ci(folder, "merge", &["whole2", "nowhere"]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing));
    for script in ["kernels", "shard", "merge"] {
        let output = ci(folder, script, &[]);
        assert!(output.status.code() == Some(2) && text(&output).contains("usage: "), "{}", text(&output));
    }
}

/// The tasks of a part, by what its folder ends in: process and command line.
fn tasks(folder: &Path, part: &str) -> Vec<(String, String)> {
    processes(folder).into_iter().filter(|(_, line)| line.contains(part) && line.contains("--partition")).collect()
}

/// The processes that have the folder on their command line or in their environment.
fn processes(folder: &Path) -> Vec<(String, String)> {
    let name = folder.display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| {
            let bytes = fs::read(process.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = read("cmdline");
        if line.contains(&name) || read("environ").contains(&name) {
            found.push((process.file_name().display().to_string(), line));
        }
    }
    found
}

fn assert_no_process_of(folder: &Path) {
    wait("the end of all processes", || processes(folder).is_empty());
}
