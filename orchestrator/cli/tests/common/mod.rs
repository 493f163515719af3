//! What all end-to-end tests share.
#![allow(clippy::allow_attributes, reason = "whether anything is unused depends on the test file that takes it in")]
#![allow(dead_code, reason = "each test file uses its part of it")]

pub(crate) mod cluster;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One machine at a time: an emulated guest uses all the processors there are.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `luqual`, to be run in `folder`, with working folders of its own below it.
pub(crate) fn luqual(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luqual"));
    let work = folder.join("w");
    std::fs::create_dir_all(&work).unwrap();
    command.current_dir(folder).env("LUQUAL_WORK_DIR", work);
    command
}

/// Runs one pair and returns its only cell beside the output.
pub(crate) fn run_pair(folder: &Path, source: &str, target: &str, more: &[&str]) -> (Value, Output) {
    let output = luqual(folder)
        .args(["run", "--source", source, "--target", target, "--workload", "memfd.basic", "--report-dir", "run"])
        .args(more)
        .output()
        .unwrap();
    let record = record(folder);
    let cells = record["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 1, "{}", text(&output));
    assert_nothing_left(folder);
    (cells[0].clone(), output)
}

/// `run/run.json` below `folder`.
pub(crate) fn record(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("run/run.json")).unwrap()).unwrap()
}

/// No process with this folder on its command line, and no file in the working folder.
pub(crate) fn assert_nothing_left(folder: &Path) {
    assert_eq!(machines(folder), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.join("w")).unwrap().count(), 0, "working files are left");
}

/// The processes whose command line names this folder's working files: QEMUs.
pub(crate) fn machines(folder: &Path) -> Vec<String> {
    let work = folder.join("w").display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&work))
        .collect()
}

/// Both streams, for messages.
pub(crate) fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Where the image of a kernel of the catalog is; it is built if need be.
pub(crate) fn image_of(folder: &Path, version: &str) -> String {
    let output = luqual(folder).args(["kernels", "build", version]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned()
}
