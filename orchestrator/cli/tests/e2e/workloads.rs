//! The workloads as a whole, and programs of other people that are workloads.

use crate::common::{NEW, OLD, assert_nothing_left, luqual, run_in, text};
use luqual_model::{Outcome, ProgramFile, Status};
use std::fs;
use std::process::Command;

mod alone {
    use crate::common::{NEW, OLD, assert_nothing_left, luqual, run_in, text};
    use luqual_model::{CellRecord, Outcome, Status};
    use std::collections::BTreeSet;

    /// What the matrices of the full tier have: what takes half a minute or more, and, of each process that is killed around a
    /// nested VM, all stages but one in the source and one in the target; and what needs a larger kernel.
    const LEFT_OUT: [&str; 17] = [
        "memfd.cgroup-",
        "scale.",
        "luo.fuzz",
        "lifecycle.hundred",
        "lifecycle.ten-times",
        "vmm.sixteen",
        "vmm.three-updates",
        "vmm.linux-three-updates",
        "vmm.four",
        "vmm.broker-killed-claimed",
        "vmm.broker-killed-ready",
        "vmm.broker-killed-running",
        "vmm.monitor-killed-preserved",
        "vmm.monitor-killed-restored",
        "vmm.orchestrator-killed-claimed",
        "vmm.orchestrator-killed-preserved",
        "vmm.orchestrator-killed-retrieved",
    ];

    #[test]
    fn every_workload_does_what_is_expected_of_it_and_most_share_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let list = luqual(folder.path()).args(["workloads", "list"]).output().unwrap();
        let names = String::from_utf8(list.stdout).unwrap();
        let names = names.lines().filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.filter(|name| !LEFT_OUT.iter().any(|start| name.starts_with(start))).collect();
        assert!(names.len() >= 80, "{}", names.len());
        let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run", "--allow-skips"];
        let workloads = names.iter().flat_map(|name| ["--workload", *name]);
        let mut output = luqual(folder.path()).args(words).args(workloads).output().unwrap();
        // A busy host keeps a control or two from being seen. It is then as luqual says: these cells are run again.
        if output.status.code() == Some(3) {
            let of_harness = |cell: &&CellRecord| cell.outcome == Outcome::HarnessFailed;
            let again = run_in(folder.path()).cells.iter().filter(of_harness).count();
            assert!(again <= 2, "{}", text(&output));
            output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
        }
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

/// Programs in C, and the probes that fail in their cells; compiled by the compiler that builds kernels. `-s 1` is told by
/// `stage` 1.
const PROGRAMS: [(&str, &str, &[&str]); 8] = [
    ("good", "puts(\"# looks\"); puts(\"PASSED\");", &[]),
    (
        BAD,
        "puts(\"not ok 1 - what was kept\");",
        &["-s 1 test “what was kept”", "-s 2 test “what was kept”", "-s 2 says"],
    ),
    ("skips-one", "puts(\"1..2\\nok 1 a # SKIP no device\\nok 2 b\");", &[]),
    ("todo", "puts(\"1..2\\nnot ok 1 a # TODO not yet\\nok 2 b\");", &[]),
    (
        "chatty",
        "for (int i = 0; i < 9000; i++) puts(\"# a line of forty characters, more or less.\"); puts(\"ok 1\");",
        &[],
    ),
    ("short-plan", "if (stage == 1) puts(\"1..1\\nok 1\"); else puts(\"1..5\\nok 1\");", &["-s 2 number of tests"]),
    (
        "counts",
        "puts(stage == 1 ? \"ok\" : \"FAIL: gone\\nSummary: 0 PASSED, 3 FAILED\");",
        &["-s 2 summary", "-s 2 says"],
    ),
    (
        "skips-all-late",
        "if (stage == 2) return puts(\"1..0 # SKIP no device\"), 4; puts(\"ok 1\");",
        &["-s 2 end", "-s 2 says"],
    ),
];

/// The one whose loss nobody expects. It has a boot of its own, because all cells of its boot would run again.
const BAD: &str = "bad";

/// A program that tries to replace the agent, and to reach its processes: one test for each way.
const TAKES_OVER: &str = include_str!("programs/takes-over.c");

#[test]
fn somebodys_program_is_a_workload_that_says_itself_whether_it_passed() {
    let folder = tempfile::tempdir().unwrap();
    // Each rule has to match a kernel of a matrix.
    let mut matrix = format!("[matrix.mine]\nkernels = [\"{OLD}\", \"{NEW}\"]\npairs = \"all\"\nworkloads = [\"*\"]\n");
    let of_table = PROGRAMS.iter().map(|(name, body, _)| {
        let start = "#include <stdio.h>\nint main(int argc, char **argv) { if (argc != 3) return 9;";
        (*name, format!("{start} int stage = argv[2][0] - '0'; (void)stage; {body} return 0; }}"))
    });
    for (name, text) in of_table.chain([("takes-over", TAKES_OVER.to_owned())]) {
        let source = folder.path().join(format!("{name}.c"));
        fs::write(&source, text).unwrap();
        let program = folder.path().join(name);
        let compiled = Command::new("gcc").arg("-static").arg(&source).arg("-o").arg(&program).status().unwrap();
        assert!(compiled.success());
        matrix += &format!("[program.{name}]\npath = \"{name}\"\nshares_boot = {}\n", name != BAD);
    }
    for (name, _, failed) in PROGRAMS.iter().filter(|(name, _, failed)| *name != BAD && !failed.is_empty()) {
        matrix += &format!("[[expect]]\nsource = \"*\"\ntarget = \"*\"\nworkload = \"external.{name}\"\n");
        matrix += &format!("outcome = \"lost\"\nfailed = {failed:?}\nreason = \"it is written to fail\"\n");
    }
    fs::write(folder.path().join("my.toml"), matrix).unwrap();
    let words = ["run", "--source", OLD, "--target", NEW, "--matrix-file", "my.toml", "--workload", "external.*"];
    let output = luqual(folder.path()).args(words).args(["--report-dir", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let run = run_in(folder.path());
    let ends = PROGRAMS.iter().map(|(name, _, failed)| (*name, *failed));
    for (name, failed) in ends.chain([("takes-over", &[][..])]) {
        let workload = format!("external.{name}");
        let cell = run.cells.iter().find(|cell| cell.plan.key.workload == workload).unwrap();
        let outcome = if failed.is_empty() { Outcome::Survived } else { Outcome::Lost };
        let status = if name == BAD { Status::Unexpected } else { Status::Expected };
        assert_eq!((cell.outcome, cell.status), (outcome, status), "{cell:?}");
        let broken: Vec<&str> = cell.probes.iter().filter(|it| !it.passed).map(|it| it.name.as_str()).collect();
        assert_eq!(broken, failed, "{cell:?}");
        let file = &run.run.programs[&workload].file;
        assert!(matches!(file, ProgramFile::Here { sha256, .. } if sha256.len() == 64), "{file:?}");
    }
    assert!(text(&output).contains("what was kept"), "{}", text(&output));
    assert_nothing_left(folder.path());
}
