//! Kernels as a distribution ships them.

use crate::common::{NEW, image_of, luqual, run_in, text};
use luqual_model::Outcome;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packs an image and its symbols as a package has them, and returns the name of the file.
fn package(folder: &Path) -> &'static str {
    let image = image_of(folder, NEW);
    let boot = folder.join("boot");
    fs::create_dir(&boot).unwrap();
    fs::copy(&image, boot.join(format!("vmlinuz-{NEW}"))).unwrap();
    fs::copy(Path::new(&image).with_file_name("System.map"), boot.join(format!("System.map-{NEW}"))).unwrap();
    let packed = Command::new("tar").args(["-cf", "kernel.tar", "boot"]).current_dir(folder).status().unwrap();
    assert!(packed.success());
    "kernel.tar"
}

#[test]
fn a_package_is_updated_into_a_kernel_of_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let package = package(folder.path());
    let words = ["--source", package, "--target", NEW, "--workload", "memfd.basic", "--report-dir", "run"];
    let output = luqual(folder.path()).arg("run").args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let run = run_in(folder.path());
    assert_eq!((run.cells[0].outcome, run.cells.len()), (Outcome::Survived, 1));
    assert_eq!(run.run.kernels[package].release, NEW);
}
