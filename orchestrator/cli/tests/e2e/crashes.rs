//! Kernels that panic or hang, and what is kept of them.

use crate::common::{NEW, OLD, assert_nothing_left, image_of, luqual, run_in, run_pair, text};
use luqual_model::{Outcome, Phase};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A matrix file with one matrix, `short`, of these kernels, where a phase is given two seconds (eight when emulated).
fn short(folder: &Path, kernels: &[&str], phase: Phase) {
    let text = format!(
        "[matrix.short]\nkernels = {kernels:?}\npairs = \"all\"\nworkloads = [\"memfd.basic\"]\n\
         [matrix.short.deadlines]\n{phase} = 2\n"
    );
    fs::write(folder.join("m.toml"), text).unwrap();
}

const SHORT: [&str; 8] = ["run", "--matrix", "short", "--matrix-file", "m.toml", "--report-dir", "run", "--vmcore"];

#[test]
fn a_kernel_that_hangs_at_once_has_crashed() {
    let folder = tempfile::tempdir().unwrap();
    // A payload that cannot be unpacked: the decompressor says so and halts.
    let mut image = fs::read(image_of(folder.path(), OLD)).unwrap();
    image[2_000_000..4_000_000].fill(0x55);
    fs::write(folder.path().join("hangs"), image).unwrap();
    short(folder.path(), &["./hangs"], Phase::Boot);
    let output = luqual(folder.path()).args(SHORT).output().unwrap();
    let run = run_in(folder.path());
    let cell = &run.cells[0];
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Crashed, Some(1)), "{cell:?}");
    assert!(cell.title.starts_with("hang: "), "{cell:?}");
    let told = fs::read_to_string(folder.path().join("run").join(&cell.folder).join("vmcore.txt")).unwrap();
    assert!(told.contains("1024 MiB"), "{told}");
    assert_nothing_left(folder.path());
}

#[test]
fn a_kernel_that_panics_at_once_has_crashed() {
    let folder = tempfile::tempdir().unwrap();
    // A catalog of our own: the same kernel, told to start an init that is not there.
    let catalog = include_str!("../../../../kernels/catalog.toml")
        .replace("console=ttyS0 kho=on", "console=ttyS0 rdinit=/nowhere kho=on");
    fs::write(folder.path().join("catalog.toml"), catalog).unwrap();
    for beside in ["config", "patches"] {
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels")).join(beside);
        copy_folder(&from, &folder.path().join(beside));
    }
    let (cell, output) = run_pair(folder.path(), OLD, OLD, &["--catalog", "catalog.toml"]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Crashed, Some(1)), "{cell:?}");
    assert!(cell.title.starts_with("Kernel panic - not syncing: "), "{cell:?}");
    assert_eq!(cell.phase, Phase::Boot);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy_folder(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

/// Plants a crash. The release is that of the kernel that ran: before the update the source, after it the target.
fn crash(fault: &str, title: &str, release: &str) {
    let folder = tempfile::tempdir().unwrap();
    short(folder.path(), &[OLD, NEW], Phase::Verify);
    let pair = ["--filter", "source(7.2.12) & target(7.3.4)", "--inject", fault];
    let output = luqual(folder.path()).args(SHORT).args(pair).output().unwrap();
    let run = run_in(folder.path());
    let cell = &run.cells[0];
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Crashed, Some(1)), "{}", text(&output));
    assert!(cell.title.starts_with(title), "{cell:?}");
    let evidence = folder.path().join("run").join(&cell.folder);
    let read = |name: &str| String::from_utf8_lossy(&fs::read(evidence.join(name)).unwrap()).into_owned();
    for processor in ["CPU#0", "CPU#1"] {
        assert!(read("registers.txt").contains(processor), "{}", read("registers.txt"));
    }
    assert!(read("console.log").contains("NMI backtrace for cpu 1"), "{}", read("console.log"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/vmcore.py");
    // Debian's python, which has Debian's drgn.
    let opened = Command::new("/usr/bin/python3").arg(script).arg(evidence.join("vmcore")).output().unwrap();
    let told = format!("note {release}\nmemory {release}\n");
    assert_eq!(String::from_utf8_lossy(&opened.stdout), told, "{} (apt-get install python3-drgn)", text(&opened));
    assert!(read("vmcore.txt").contains("1024 MiB"), "{}", read("vmcore.txt"));
    assert_nothing_left(folder.path());
}

#[test]
fn a_panic_of_the_source_leaves_what_a_kernel_engineer_looks_into() {
    crash("panic:preserve", "Kernel panic - not syncing: sysrq triggered crash", OLD);
}

#[test]
fn a_hang_of_the_target_leaves_what_a_kernel_engineer_looks_into() {
    crash("hang:verify", "hang: ", NEW);
}
