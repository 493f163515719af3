//! What survives, what does not because a kernel has no LUO, and what every report says of it.

use crate::common::{NEW, OLD, WITHOUT_LUO, run_pair};
use luqual_model::Outcome;
use std::fs;
use std::path::Path;
use std::process::Command;

mod alone {
    use crate::common::{assert_nothing_left, luqual, run_in, text};
    use luqual_model::{Outcome, Status};
    use std::fs;
    use std::process::Stdio;

    #[test]
    fn a_memfd_survives_in_all_four_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let output = luqual(folder.path()).args(["run", "--matrix", "quick", "--report-dir", "run"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let run = run_in(folder.path());
        assert_eq!(run.cells.len(), 4);
        for cell in &run.cells {
            assert_eq!((cell.outcome, cell.status), (Outcome::Survived, Status::Expected), "{cell:?}");
            // Five memfds: retrieved, offset, size, content, and the host's pages before and after, and places; two
            // sessions: retrieved, finished, gone.
            assert_eq!(cell.probes.len(), 5 * 7 + 2 * 3);
            assert!(cell.blackout.unwrap().duration_us > 1000);
            let evidence = folder.path().join("run").join(&cell.folder);
            for name in ["console.log", "kmsg.log", "agent.jsonl", "qmp.jsonl", "command.txt"] {
                assert!(fs::metadata(evidence.join(name)).unwrap().len() > 0, "{name}");
            }
            assert!(fs::exists(evidence.join("qemu.stderr")).unwrap());
        }
        assert!(text(&output).contains("4 survived"));
        assert!(fs::read_to_string(folder.path().join("run/report.html")).unwrap().contains("4 survived"));
        for (format, told) in [
            ("show", "4 survived"),
            ("html", "4 survived"),
            (
                "junit",
                "<testsuite name=\"memfd.basic on q35-intel\" tests=\"4\" skipped=\"0\" errors=\"0\" failures=\"0\">",
            ),
            ("ktap", "\nok 1 memfd.basic on q35-intel\n"),
            ("markdown", "| 7.2.12 | survived | survived |"),
            ("kcidb", "\"path\": \"luqual.memfd.basic\""),
        ] {
            let output = luqual(folder.path()).args(["report", format, "run"]).output().unwrap();
            assert!(output.status.success() && text(&output).contains(told), "{}", text(&output));
        }
        let output = luqual(folder.path()).args(["report", "diff", "run", "run"]).output().unwrap();
        assert!(output.status.success() && text(&output).starts_with("4 "), "{}", text(&output));
        let words = ["report", "junit", "run", "-o", "run/events.jsonl"];
        let output = luqual(folder.path()).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        // The page is larger than a pipe, and nobody reads it.
        let mut unread = luqual(folder.path()).args(["report", "html", "run"]).stdout(Stdio::piped()).spawn().unwrap();
        drop(unread.stdout.take());
        assert_eq!(unread.wait().unwrap().code(), Some(0));
        // Nothing is left of it: nothing is added to the journal.
        let journal = || fs::read(folder.path().join("run/events.jsonl")).unwrap();
        let before = journal();
        let output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(before, journal());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../matrix.toml");
        let words = ["expect", "update", "run", "--reason", "none is needed", "--matrix-file", file];
        let output = luqual(folder.path()).args(words).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
        assert_nothing_left(folder.path());
    }
}

#[test]
fn a_target_without_luo_is_neither_a_survival_nor_a_harness_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), NEW, WITHOUT_LUO, &[]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Incompatible, Some(1)), "{cell:?}");
    assert!(cell.title.contains("is incompatible with 'kho-v1'"), "{cell:?}");
}

#[test]
fn a_source_without_luo_is_skipped_and_a_run_of_nothing_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), WITHOUT_LUO, NEW, &[]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Skipped, Some(1)), "{cell:?}");
    assert!(cell.title.contains(WITHOUT_LUO), "{cell:?}");
}

#[test]
fn a_flipped_byte_that_nobody_preserves_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", "flip-unpreserved"]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Survived, Some(0)), "{cell:?}");
}

/// Without the line a guest is only found by a connection now and then, and a cell takes twice as long.
#[test]
fn a_quiet_kernel_shows_that_the_agent_listens() {
    let folder = tempfile::tempdir().unwrap();
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels");
    assert!(Command::new("cp").arg("-r").arg(kernels).arg(folder.path()).status().unwrap().success());
    let catalog = folder.path().join("kernels/catalog.toml");
    let text = fs::read_to_string(&catalog).unwrap();
    fs::write(&catalog, text.replace("command_line = \"", "command_line = \"quiet ")).unwrap();
    let (cell, _) = run_pair(folder.path(), NEW, NEW, &["--catalog", catalog.to_str().unwrap()]);
    assert_eq!(cell.outcome, Outcome::Survived, "{cell:?}");
    let console = fs::read_to_string(folder.path().join("run").join(&cell.folder).join("console.log")).unwrap();
    assert!(!console.contains("Linux version"), "it is not quiet:\n{console}");
    assert_eq!(console.matches("] luqual-agent: listening").count(), 2, "{console}");
}
