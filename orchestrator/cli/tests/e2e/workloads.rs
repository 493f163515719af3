//! The workloads as a whole, and programs of other people that are workloads.

use crate::common::{NEW, OLD, assert_nothing_left, luqual, run_in, text};
use luqual_model::{Outcome, ProgramFile};
use std::fs;
use std::process::Command;

mod alone {
    use crate::common::{NEW, OLD, assert_nothing_left, luqual, run_in, text};
    use luqual_model::{CellRecord, Outcome, Status};
    use std::collections::BTreeSet;

    /// What takes half a minute or more. The matrices of the full tier have it.
    const LONG: [&str; 7] = [
        "scale.",
        "luo.fuzz",
        "lifecycle.hundred",
        "lifecycle.ten-times",
        "vmm.sixteen",
        "vmm.three-updates",
        "vmm.linux-three-updates",
    ];

    #[test]
    fn every_workload_does_what_is_expected_of_it_and_most_share_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let list = luqual(folder.path()).args(["workloads", "list"]).output().unwrap();
        let names = String::from_utf8(list.stdout).unwrap();
        let names = names.lines().filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.filter(|name| !LONG.iter().any(|long| name.starts_with(long))).collect();
        assert!(names.len() >= 80, "{}", names.len());
        let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run", "--allow-skips"];
        let workloads = names.iter().flat_map(|name| ["--workload", *name]);
        let output = luqual(folder.path()).args(words).args(workloads).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let cells = run_in(folder.path()).cells;
        assert_eq!(cells.len(), names.len());
        let folders: BTreeSet<&str> = cells.iter().map(|cell| cell.folder.as_str()).collect();
        assert!(folders.len() * 3 < cells.len(), "{} boots", folders.len());
        for cell in &cells {
            if cell.outcome == Outcome::Skipped {
                // Only what this QEMU does not have; luqual selftests build 7.3.4 builds what else could be missing.
                assert!(cell.title.contains("QEMU") && cell.status == Status::Unexpected, "{cell:?}");
                continue;
            }
            assert_eq!(cell.status, Status::Expected, "{cell:?}");
            assert!(!cell.probes.is_empty() || cell.outcome != Outcome::Survived, "{cell:?}");
            let twin = |other: &CellRecord| other.folder == cell.folder && other.id != cell.id;
            assert_eq!(!cell.shared_with.is_empty(), cells.iter().any(twin), "{cell:?}");
        }
        assert_nothing_left(folder.path());
    }
}

/// One that passes, and one that says that it did not; both in C, by the compiler that builds kernels.
const PROGRAMS: [(&str, &str, Outcome); 2] = [
    ("good", "puts(\"# looks\"); puts(\"PASSED\");", Outcome::Survived),
    ("bad", "puts(\"not ok 1 - what was kept\");", Outcome::Lost),
];

#[test]
fn somebodys_program_is_a_workload_that_says_itself_whether_it_passed() {
    let folder = tempfile::tempdir().unwrap();
    let mut matrix = String::new();
    for (name, body, _) in PROGRAMS {
        let source = folder.path().join(format!("{name}.c"));
        let text = format!(
            "#include <stdio.h>\nint main(int argc, char **argv) {{ if (argc != 3) return 9; {body} return 0; }}"
        );
        fs::write(&source, text).unwrap();
        let program = folder.path().join(name);
        let compiled = Command::new("gcc").arg("-static").arg(&source).arg("-o").arg(&program).status().unwrap();
        assert!(compiled.success());
        matrix += &format!("[program.{name}]\npath = \"{name}\"\nshares_boot = true\n");
    }
    fs::write(folder.path().join("my.toml"), matrix).unwrap();
    let words = ["run", "--source", OLD, "--target", NEW, "--matrix-file", "my.toml", "--workload", "external.*"];
    let output = luqual(folder.path()).args(words).args(["--report-dir", "run"]).output().unwrap();
    let run = run_in(folder.path());
    for (name, _, outcome) in PROGRAMS {
        let name = format!("external.{name}");
        let cell = run.cells.iter().find(|cell| cell.plan.key.workload == name).unwrap();
        assert_eq!(cell.outcome, outcome, "{cell:?}");
        let file = &run.run.programs[&name].file;
        assert!(matches!(file, ProgramFile::Here { sha256, .. } if sha256.len() == 64), "{file:?}");
    }
    assert!(text(&output).contains("what was kept"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(1));
    assert_nothing_left(folder.path());
}
