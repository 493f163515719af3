//! What all tests share.

pub(crate) mod cluster;
mod record;

pub(crate) use record::{count, events, finished, run_in};

use luqual_model::CellRecord;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The kernels that most tests boot: one that is updated, what it is updated to, and one from before LUO.
pub(crate) const OLD: &str = "7.2.12";
pub(crate) const NEW: &str = "7.3.4";
pub(crate) const WITHOUT_LUO: &str = "6.18.15";

/// `luqual`, to be run in `folder`, with working folders of its own below it.
pub(crate) fn luqual(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luqual"));
    let work = folder.join("w");
    std::fs::create_dir_all(&work).unwrap();
    command.current_dir(folder).env("LUQUAL_WORK_DIR", work);
    command
}

/// Runs one pair into the folder `run` and returns its only cell beside the output.
pub(crate) fn run_pair(folder: &Path, source: &str, target: &str, more: &[&str]) -> (CellRecord, Output) {
    let pair = ["run", "--source", source, "--target", target, "--workload", "memfd.basic", "--report-dir", "run"];
    let output = luqual(folder).args(pair).args(more).output().unwrap();
    let mut cells = run_in(folder).cells;
    assert_eq!(cells.len(), 1, "{}", text(&output));
    assert_nothing_left(folder);
    (cells.remove(0), output)
}

/// No process with this folder on its command line, and no file in the working folder.
pub(crate) fn assert_nothing_left(folder: &Path) {
    assert_eq!(machines(folder), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.join("w")).unwrap().count(), 0, "working files are left");
}

/// The command lines that name this folder's working files: those of QEMUs.
pub(crate) fn machines(folder: &Path) -> Vec<String> {
    machine_processes(folder).map(|(_, line)| line).collect()
}

/// The numbers of these processes.
pub(crate) fn machine_ids(folder: &Path) -> Vec<i32> {
    machine_processes(folder).map(|(id, _)| id).collect()
}

fn machine_processes(folder: &Path) -> impl Iterator<Item = (i32, String)> {
    let work = folder.join("w").display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((id, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    all.filter(move |(_, line)| line.contains(&work))
}

/// Waits until no QEMU is left of a luqual that was killed.
pub(crate) fn wait_for_no_machine(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    while !machines(folder).is_empty() {
        assert!(Instant::now() < until, "{:?}", machines(folder));
        std::thread::yield_now();
    }
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

/// A script of `ci/`, run in `folder` with this luqual.
pub(crate) fn ci(folder: &Path, script: &str, words: &[&str]) -> Output {
    let script = format!("{}/../../ci/{script}", env!("CARGO_MANIFEST_DIR"));
    let program = luqual(folder).get_program().to_owned();
    let work = folder.join("w");
    let mut command = Command::new(script);
    command.args(words).current_dir(folder).env("LUQUAL", program).env("LUQUAL_WORK_DIR", work).output().unwrap()
}
