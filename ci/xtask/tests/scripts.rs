//! What ci/quickstart says on machines that it cannot set up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs ci/quickstart with `os_release` and with programs that only say what they would do.
fn quickstart(os_release: &str, programs: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let release = folder.path().join("os-release");
    fs::write(&release, os_release).unwrap();
    for (name, script) in programs {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(root.join("ci/quickstart"))
        .env("LUQUAL_OS_RELEASE", release)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .output()
        .unwrap()
}

#[test]
fn another_distribution_is_told_what_it_needs() {
    let output = quickstart("ID=plan9\nVERSION_ID=4\n", &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        told.contains("neither Debian nor Ubuntu") && told.contains("qemu-system-x86") && told.contains("--no-install"),
        "{told}"
    );
}

#[test]
fn an_old_debian_is_told_so() {
    let output = quickstart("ID=debian\nVERSION_ID=\"11\"\n", &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Debian 11 is too old"));
}

#[test]
fn a_failing_installation_ends_it() {
    let programs = [("dpkg-query", "echo not-installed"), ("apt-get", "exit 100"), ("id", "echo 0")];
    let output = quickstart("ID=debian\nVERSION_ID=\"12\"\n", &programs);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("installing: qemu-system-x86"), "{said}");
    assert!(!said.contains("Compiling"), "{said}");
}
