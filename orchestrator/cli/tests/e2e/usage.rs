//! Mistakes: what is said, what is exited with, and that nothing is left behind. No guest is booted.
//!
//! The words are in `snapshots/`; `cargo insta review` shows a change of them. The other tests look for no words.

use crate::common::{assert_nothing_left, luqual, text};
use crate::parts::ONE;
use luqual_model::{Event, HostInfo, RunInfo, Stamped};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder in which commands are given, and what they said.
struct Asked {
    folder: TempDir,
    said: String,
}

impl Asked {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), said: String::new() }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `luqual` in the folder.
    fn luqual(&self) -> Command {
        luqual(self.folder())
    }

    /// Runs the command, and adds it and what it says to what was said.
    fn ask(&mut self, mut command: Command) -> Output {
        let output = command.output().unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let told = [&output.stdout, &output.stderr].map(|told| String::from_utf8_lossy(told).into_owned()).concat();
        let code = output.status.code().unwrap();
        let line = shlex::try_join(words.iter().map(String::as_str)).unwrap();
        self.said += &format!("$ luqual {line}\n{}\n[exit code {code}]\n\n", told.trim_end());
        output
    }

    /// Runs `luqual` with these words. It exits with that code, and makes nothing.
    fn refused(&mut self, words: &[&str], exit: i32) {
        let mut command = self.luqual();
        command.args(words);
        self.refused_by(command, exit);
    }

    fn refused_by(&mut self, command: Command, exit: i32) {
        let output = self.ask(command);
        assert_eq!(output.status.code(), Some(exit), "{}", self.said);
        let folder = self.folder();
        assert!(!folder.join("luqual-runs").exists() && !folder.join("run").exists(), "a folder was left");
        assert_nothing_left(folder);
    }

    /// All that was said, without what is another text each time.
    fn said(&self) -> String {
        let folders = [self.folder().canonicalize().unwrap(), self.folder().to_owned()];
        folders.iter().fold(self.said.clone(), |said, folder| said.replace(&folder.display().to_string(), "FOLDER"))
    }
}

#[test]
fn an_unknown_kernel_is_told_with_the_known_ones() {
    let mut asked = Asked::new();
    asked.refused(&["run", "--source", "7.9.9", "--target", "7.3.4"], 2);
    asked.refused(&["kernels", "build", "7.9.9"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_file_that_is_no_kernel_is_told_why() {
    let mut asked = Asked::new();
    fs::write(asked.folder().join("script"), "#!/bin/sh\n").unwrap();
    asked.refused(&["run", "--source", "./script", "--target", "./script"], 2);
    fs::create_dir(asked.folder().join("tree")).unwrap();
    asked.refused(&["kernels", "show", "./tree"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_branch_is_planned_as_the_commit_that_it_is() {
    let mut asked = Asked::new();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let output = Command::new("git").current_dir(asked.folder()).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output).trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "first"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let output = asked.luqual().args(["plan", "--source", "7.2.12", "--target", ".@HEAD"]).output().unwrap();
    let name = format!("{}@{}", asked.folder().canonicalize().unwrap().display(), &commit[..12]);
    assert!(text(&output).contains(&format!("7.2.12 → {name} memfd.basic")), "{}", text(&output));
    asked.refused(&["plan", "--source", "7.2.12", "--target", ".@nowhere"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_missing_qemu_is_told_with_its_package() {
    let mut asked = Asked::new();
    asked.refused(&["run", "--source", "7.2.12", "--target", "7.3.4", "--qemu", "/nowhere/qemu"], 2);
    insta::assert_snapshot!(asked.said());
    let output = asked.luqual().args(["doctor", "--qemu", "/nowhere/qemu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("FAIL"), "{}", text(&output));
}

#[test]
fn words_that_mean_nothing_are_told_with_those_that_do() {
    let mut asked = Asked::new();
    let pair = ["run", "--source", "7.2.12", "--target", "7.3.4"];
    for more in [
        ["--workload", "vfoi.*"],
        ["--profile", "pc"],
        ["--inject", "device:tea"],
        ["--inject", "flip:64m"],
        ["--inject", "kill-qemu:lunch"],
        ["--accel", "xen"],
        ["--filter", "source(7.2"],
        ["--filter", "source(7.3)"],
        ["--jobs", "0"],
    ] {
        asked.refused(&[&pair[..], &more[..]].concat(), 2);
    }
    asked.refused(&["run", "--source", "7.2.12"], 2);
    asked.refused(&["run", "--resume", "."], 2);
    asked.refused(&["report", "kcidb", "x", "--origin", "My Lab"], 2);
    asked.refused(&["run", "--matrix", "quik"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn what_cannot_be_an_array_is_told_before_anything_is_made() {
    let mut asked = Asked::new();
    for more in [
        &["--executor", "slurm", "--parts", "2"][..],
        &["--executor", "slurm"],
        &["--parts", "2"],
        &["--sbatch-option=--mem=8G"],
        &["--executor", "slurm", "--parts", "2", "--partition", "1/2"],
        &["--executor", "slurm", "--parts", "0"],
        &["--executor", "slurm", "--parts", "2", "--sbatch-option", "mem=8G"],
    ] {
        let mut command = asked.luqual();
        command.args(ONE).args(more).env("PATH", "/nowhere");
        asked.refused_by(command, 2);
    }
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_run_that_is_not_there_is_told() {
    let mut asked = Asked::new();
    asked.refused(&["report", "show", "nowhere"], 2);
    fs::write(asked.folder().join("m.toml"), "").unwrap();
    let words = ["expect", "update", "nowhere", "--matrix-file", "m.toml", "--reason"];
    asked.refused(&[&words[..], &["x"]].concat(), 2);
    asked.refused(&[&words[..], &[" "]].concat(), 2);
    let other = "{\"at_us\":0,\"event\":\"run-started\",\"run\":{\"schema_version\":99}}\n";
    fs::write(asked.folder().join("events.jsonl"), other).unwrap();
    asked.refused(&["report", "junit", "."], 2);
    insta::assert_snapshot!(asked.said());
}

/// The journal of a run of that luqual which has no cells.
fn journal(tool: &str) -> String {
    let mut run = RunInfo::new("x".into(), tool.into(), Vec::new(), String::new(), HostInfo::default());
    run.settings.repeat = 1;
    let started = Stamped { at_us: 0, event: Event::RunStarted { run: Box::new(run) } };
    serde_json::to_string(&started).unwrap() + "\n"
}

#[test]
fn a_run_without_devices_has_no_levels() {
    let mut asked = Asked::new();
    fs::write(asked.folder().join("events.jsonl"), journal("luqual")).unwrap();
    asked.refused(&["report", "levels", ".", "."], 2);
    asked.refused(&["report", "levels"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn all_mistakes_of_a_matrix_come_at_once() {
    let mut asked = Asked::new();
    fs::write(asked.folder().join("m.toml"), "[matrix.a]\nkernals = []\npairs = \"each\"\n").unwrap();
    asked.refused(&["run", "--matrix", "a", "--matrix-file", "m.toml"], 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_folder_with_a_run_is_not_written_to() {
    let mut asked = Asked::new();
    let old = asked.folder().join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("run.json"), "{}").unwrap();
    let words = ["run", "--source", "7.2.12", "--target", "7.3.4", "--report-dir", "old"];
    asked.refused(&words, 2);
    assert_eq!(fs::read(old.join("run.json")).unwrap(), b"{}");
    asked.refused(&["run", "--resume-if-exists"], 2);
    asked.refused(&[&words[..5], &["--report-dir", "100%"]].concat(), 2);
    assert!(!asked.folder().join("100%").exists());
    fs::write(old.join("events.jsonl"), journal("another")).unwrap();
    asked.refused(&[&words[..], &["--resume-if-exists"]].concat(), 2);
    insta::assert_snapshot!(asked.said());
}

#[test]
fn a_wrong_digest_is_told_and_the_file_removed() {
    let mut asked = Asked::new();
    let [mirror, cache] = ["mirror", "cache"].map(|name| asked.folder().join(name));
    fs::create_dir_all(mirror.join("pool/main/l/linux")).unwrap();
    fs::write(mirror.join("pool/main/l/linux/linux-source-7.3_7.3.4-1~bpo13+1_all.deb"), "x").unwrap();
    let mut command = asked.luqual();
    command.env("XDG_CACHE_HOME", &cache).args(["kernels", "build", "7.3.4", "--debian-mirror"]).arg(mirror);
    asked.refused_by(command, 2);
    assert_eq!(fs::read_dir(cache.join("luqual/downloads")).unwrap().count(), 0);
    insta::assert_snapshot!(asked.said());
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
    assert!(said.next().unwrap().unwrap().contains(" 7.3.4"));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    lock.unlock().unwrap();
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("/nowhere")), "it did not go on: {rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn help_teaches() {
    let mut asked = Asked::new();
    for words in [&["--help"][..], &["run", "-h"], &["kernels", "--help"]] {
        let mut command = asked.luqual();
        command.args(words);
        assert!(asked.ask(command).status.success(), "{}", asked.said);
    }
    insta::assert_snapshot!(asked.said());
}

#[test]
fn what_there_is_is_listed() {
    let asked = Asked::new();
    for (words, told) in [
        (&["--version"][..], concat!("luqual ", env!("CARGO_PKG_VERSION"), " (")),
        (&["workloads", "list"], "memfd.basic"),
        (&["plan", "--filter", "source(7.2) & target(7.3)"], "7.2.12 → 7.3.4 memfd.basic"),
        (&["kernels", "list"], "linux-source-7.3 7.3.4-1~bpo13+1"),
    ] {
        let output = asked.luqual().args(words).output().unwrap();
        assert!(output.status.success() && text(&output).contains(told), "{}", text(&output));
    }
}

#[test]
fn workloads_are_known_where_nothing_can_be_built() {
    let mut asked = Asked::new();
    // Git, which reads patches, is not there either.
    for words in [&["kernels", "list"][..], &["workloads", "show", "external.kexec-simple"]] {
        let mut command = asked.luqual();
        command.args(words).env("PATH", "").env("XDG_CACHE_HOME", asked.folder().join("cache"));
        asked.ask(command);
    }
    insta::assert_snapshot!(asked.said());
}
