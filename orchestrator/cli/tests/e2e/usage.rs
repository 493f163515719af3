//! Mistakes: what is said, what is exited with, and that nothing is left behind. No guest is booted.

use crate::common::{assert_nothing_left, luqual, text};
use luqual_model::{Event, HostInfo, RunInfo, Stamped};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `words`, expects the exit code and each of `told`, and that nothing was made.
fn refused(folder: &Path, words: &[&str], exit: i32, told: &[&str]) {
    let output = luqual(folder).args(words).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    for part in told {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    assert!(!folder.join("luqual-runs").exists() && !folder.join("run").exists(), "a folder was left");
    assert_nothing_left(folder);
}

#[test]
fn an_unknown_kernel_is_told_with_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["run", "--source", "7.9.9", "--target", "7.3.4"];
    refused(
        folder.path(),
        &words,
        2,
        &["there is no kernel `7.9.9`", "7.2.12", "or the path of a bzImage", "TREE@COMMIT"],
    );
    refused(folder.path(), &["kernels", "build", "7.9.9"], 2, &["no kernel `7.9.9`", "7.3.4"]);
}

#[test]
fn a_file_that_is_no_kernel_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("script"), "#!/bin/sh\n").unwrap();
    let words = ["run", "--source", "./script", "--target", "./script"];
    refused(folder.path(), &words, 2, &["./script: not a bzImage", "a bzImage, or the folder of a kernel"]);
    fs::create_dir(folder.path().join("tree")).unwrap();
    refused(folder.path(), &["kernels", "show", "./tree"], 2, &["arch/x86/boot/bzImage"]);
}

#[test]
fn a_branch_is_planned_as_the_commit_that_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let output = Command::new("git").current_dir(folder.path()).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output).trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "first"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let output = luqual(folder.path()).args(["plan", "--source", "7.2.12", "--target", ".@HEAD"]).output().unwrap();
    let said = text(&output);
    let name = format!("{}@{}", folder.path().canonicalize().unwrap().display(), &commit[..12]);
    assert!(said.contains(&format!("7.2.12 → {name} memfd.basic")), "{said}");
    refused(
        folder.path(),
        &["plan", "--source", "7.2.12", "--target", ".@nowhere"],
        2,
        &["the tree has no commit `nowhere`"],
    );
}

#[test]
fn a_missing_qemu_is_told_with_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["run", "--source", "7.2.12", "--target", "7.3.4", "--qemu", "/nowhere/qemu"];
    refused(folder.path(), &words, 2, &["/nowhere/qemu was not found", "apt-get install qemu-system-x86"]);
    let output = luqual(folder.path()).args(["doctor", "--qemu", "/nowhere/qemu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("FAIL QEMU"), "{}", text(&output));
}

#[test]
fn words_that_mean_nothing_are_told_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let pair = ["run", "--source", "7.2.12", "--target", "7.3.4"];
    for (more, told) in [
        (["--workload", "vfoi.*"], "no workload matches `vfoi.*`"),
        (["--profile", "pc"], "there is no profile `pc`"),
        (["--inject", "device:tea"], "bar-moved, dma-write, interrupt-lost, reset and unplugged"),
        (["--inject", "flip:64m"], "is not a fault; write flip:MEMFD:PAGE:OFFSET"),
        (["--inject", "kill-qemu:lunch"], "the phases are boot, handshake"),
        (["--accel", "xen"], "possible values: auto, kvm, tcg"),
        (["--filter", "source(7.2"], "expected `)` after this"),
        (["--filter", "source(7.3)"], "the selection has no cells"),
        (["--jobs", "0"], "0 is not in 1.."),
    ] {
        refused(folder.path(), &[&pair[..], &more[..]].concat(), 2, &[told]);
    }
    refused(folder.path(), &["run", "--source", "7.2.12"], 2, &["--target"]);
    refused(folder.path(), &["run", "--resume", "."], 2, &["there is no run `.`"]);
    refused(folder.path(), &["report", "kcidb", "x", "--origin", "My Lab"], 2, &["an origin can only have"]);
    refused(folder.path(), &["run", "--matrix", "quik"], 2, &["there is no matrix `quik`", "quick"]);
}

#[test]
fn a_run_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["report", "show", "nowhere"], 2, &["there is no run `nowhere`", "luqual-runs/"]);
    fs::write(folder.path().join("m.toml"), "").unwrap();
    let words = ["expect", "update", "nowhere", "--matrix-file", "m.toml", "--reason"];
    refused(folder.path(), &[&words[..], &["x"]].concat(), 2, &["there is no run `nowhere`"]);
    refused(folder.path(), &[&words[..], &[" "]].concat(), 2, &["--reason is empty"]);
    let other = "{\"at_us\":0,\"event\":\"run-started\",\"run\":{\"schema_version\":99}}\n";
    fs::write(folder.path().join("events.jsonl"), other).unwrap();
    refused(folder.path(), &["report", "junit", "."], 2, &["schema version 99"]);
}

#[test]
fn a_run_without_devices_has_no_levels() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunInfo::new("x".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
    let started = Stamped { at_us: 0, event: Event::RunStarted { run: Box::new(run) } };
    fs::write(folder.path().join("events.jsonl"), serde_json::to_string(&started).unwrap() + "\n").unwrap();
    let told = ["none of the runs has a cell of a device workload (vfio.DEVICE.CASE)", "--workload 'vfio.*'"];
    refused(folder.path(), &["report", "levels", ".", "."], 2, &told);
    refused(folder.path(), &["report", "levels"], 2, &["<RUN>"]);
}

#[test]
fn all_mistakes_of_a_matrix_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.toml"), "[matrix.a]\nkernals = []\npairs = \"each\"\n").unwrap();
    let words = ["run", "--matrix", "a", "--matrix-file", "m.toml"];
    let told = ["m.toml:2:1: unknown key `kernals`", "m.toml:3:9: `each` does not select pairs", "has no kernels"];
    refused(folder.path(), &words, 2, &told);
}

#[test]
fn a_folder_with_a_run_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("old")).unwrap();
    fs::write(folder.path().join("old/run.json"), "{}").unwrap();
    let words = ["run", "--source", "7.2.12", "--target", "7.3.4", "--report-dir", "old"];
    refused(folder.path(), &words, 2, &["old already has a run"]);
    assert_eq!(fs::read(folder.path().join("old/run.json")).unwrap(), b"{}");
    refused(folder.path(), &["run", "--resume-if-exists"], 2, &["--report-dir"]);
    let elsewhere = [&words[..5], &["--report-dir", "100%"]].concat();
    refused(folder.path(), &elsewhere, 2, &["100%: QEMU cannot write its log into a folder with a % in its name"]);
    assert!(!folder.path().join("100%").exists());
    let mut run = RunInfo::new("x".into(), "another".into(), Vec::new(), String::new(), HostInfo::default());
    run.settings.repeat = 1;
    let started = Stamped { at_us: 0, event: Event::RunStarted { run: Box::new(run) } };
    fs::write(folder.path().join("old/events.jsonl"), serde_json::to_string(&started).unwrap() + "\n").unwrap();
    refused(
        folder.path(),
        &[&words[..], &["--resume-if-exists"]].concat(),
        2,
        &["old already has a run with another luqual"],
    );
}

#[test]
fn a_wrong_digest_is_told_and_the_file_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("mirror/pool/main/l/linux")).unwrap();
    fs::write(folder.path().join("mirror/pool/main/l/linux/linux-source-7.3_7.3.4-1~bpo13+1_all.deb"), "x").unwrap();
    let mirror = folder.path().join("mirror").display().to_string();
    let output = luqual(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .args(["kernels", "build", "7.3.4", "--debian-mirror", &mirror])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("expected the sha256 703e369d"), "{}", text(&output));
    assert_eq!(fs::read_dir(folder.path().join("cache/luqual/downloads")).unwrap().count(), 0);
}

/// The lock is the only thing that another luqual is known by; the test holds it as that one would.
#[test]
fn a_kernel_that_another_luqual_builds_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let build = || {
        let mut command = luqual(folder.path());
        command.env("XDG_CACHE_HOME", &cache).args(["kernels", "build", "7.3.4", "--debian-mirror", "/nowhere"]);
        command
    };
    // The first start makes the lock file, and fails for want of a mirror.
    assert_eq!(build().output().unwrap().status.code(), Some(2));
    let locks: Vec<_> = fs::read_dir(cache.join("luqual/kernels")).unwrap().flatten().collect();
    assert_eq!(locks.len(), 1, "{locks:?}");
    let lock = fs::File::open(locks[0].path()).unwrap();
    lock.lock().unwrap();

    let mut child = build().stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "another luqual builds 7.3.4; this one waits for it");
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    lock.unlock().unwrap();
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("/nowhere")), "it did not go on: {rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn help_and_version_teach() {
    let folder = tempfile::tempdir().unwrap();
    for (words, told) in [
        (&["--help"][..], "Exit codes: 0"),
        (&["run", "--help"], "luqual run --source 7.2.12 --target 7.3.4"),
        (&["--version"], "luqual 0.1.0 ("),
        (&["workloads", "list"], "memfd.basic"),
        (&["plan", "--filter", "source(7.2) & target(7.3)"], "1 cell, 1 boot, "),
        (&["kernels", "list"], "linux-source-7.3 7.3.4-1~bpo13+1"),
    ] {
        let output = luqual(folder.path()).args(words).output().unwrap();
        assert!(output.status.success() && text(&output).contains(told), "{}", text(&output));
    }
}

#[test]
fn workloads_are_known_where_nothing_can_be_built() {
    let folder = tempfile::tempdir().unwrap();
    let without = |words: &[&str]| {
        luqual(folder.path())
            .args(words)
            .env("PATH", "")
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .output()
            .unwrap()
    };
    // Git, which reads patches, is not there either.
    let listed = without(&["kernels", "list"]);
    assert!(text(&listed).contains("7.0.13          not built"), "{}", text(&listed));
    assert!(text(&listed).contains("git is not installed") && !text(&listed).contains("gcc"), "{}", text(&listed));
    let output = without(&["workloads", "show", "external.kexec-simple"]);
    let told = "skipped   luo_kexec_simple of 7.3.4 is not built; run `luqual selftests build 7.3.4`";
    assert!(output.status.success() && text(&output).contains(told), "{}", text(&output));
}
