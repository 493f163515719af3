//! A run in parts is the run: by ci/shard and ci/merge.

use crate::common::{ci, finished, text};
use luqual_model::{CellRecord, PlannedCell, RunRecord};
use std::fs;
use std::path::Path;

/// Two boots that several cells share, and two of cells that have their own and are lost, as expected.
pub(crate) const SELECTION: [&str; 13] = [
    "--matrix",
    "quick",
    "--filter",
    "source(7.3)",
    "--workload",
    "memfd.basic",
    "--workload",
    "luo.session-closed",
    "--workload",
    "luo.session-dup",
    "--workload",
    "kexec.kho-off",
    "--seed=7",
];

/// One cell.
pub(crate) const ONE: [&str; 7] = ["run", "--source", "7.3.4", "--target", "7.3.4", "--workload", "memfd.basic"];

/// What of a run does not depend on where and when it was run.
#[derive(Debug, PartialEq)]
pub(crate) struct Essence {
    planned: Vec<PlannedCell>,
    /// Seed, retries, repeat.
    settings: (u64, u32, u32),
    inject: Option<String>,
    interrupted: bool,
    pub(crate) cells: Vec<CellRecord>,
}

/// The essence of the run in a folder.
pub(crate) fn essence(folder: &Path) -> Essence {
    let RunRecord { run, cells } = finished(folder);
    let timeless = |cell: CellRecord| CellRecord {
        phases: Vec::new(),
        findings: Vec::new(),
        measures: Vec::new(),
        blackout: None,
        duration_us: 0,
        tainted: Vec::new(),
        ..cell
    };
    Essence {
        settings: (run.settings.seed, run.settings.retries, run.settings.repeat),
        inject: run.settings.inject,
        planned: run.planned,
        interrupted: run.interrupted,
        cells: cells.into_iter().map(timeless).collect(),
    }
}

mod alone {
    use super::{SELECTION, essence};
    use crate::common::{assert_nothing_left, ci, luqual, text};
    use std::fs;

    /// One boot that several cells share, and one of a cell that has its own. Other counts, parts that are cut off, and parts of other
    /// runs are a matter of the engine's tests on fakes.
    #[test]
    fn parts_of_a_run_are_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let selection = SELECTION.map(|word| if word == "source(7.3)" { "source(7.3) & target(7.3)" } else { word });
        let whole = luqual(folder).arg("run").args(selection).args(["--report-dir", "whole"]).output().unwrap();
        assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
        let wanted = essence(&folder.join("whole"));
        assert_eq!(wanted.cells.len(), 4);

        // For the last one nothing is left.
        let parts: Vec<String> = (1..=3).map(|number| format!("part-{number}")).collect();
        for (number, part) in (1..).zip(&parts) {
            let shard = ci(folder, "shard", &[&[&format!("{number}"), "3", part][..], &selection].concat());
            assert_eq!(shard.status.code(), Some(0), "{}", text(&shard));
            assert!(fs::read_to_string(folder.join(part).join("junit.xml")).unwrap().contains("<testsuites"));
        }
        let words: Vec<&str> = ["merged"].into_iter().chain(parts.iter().rev().map(String::as_str)).collect();
        let merged = ci(folder, "merge", &words);
        assert_eq!(merged.status.code(), Some(0), "{}", text(&merged));
        assert_eq!(essence(&folder.join("merged")), wanted, "three shards are another run");
        assert_nothing_left(folder);
    }
}

#[test]
fn a_shard_fails_with_its_host_and_a_merge_with_its_cells() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Nothing runs on a source without LUO: that is no success.
    let skipped = ["--source", "6.18.15", "--target", "6.18.15", "--workload", "memfd.basic"];
    let shard = ci(folder, "shard", &[&["1", "1", "part"][..], &skipped].concat());
    assert_eq!(shard.status.code(), Some(0), "{}", text(&shard));
    // A job that is started again goes on.
    let journal = || fs::read(folder.join("part/events.jsonl")).unwrap();
    let before = journal();
    let again = ci(folder, "shard", &[&["1", "1", "part"][..], &skipped].concat());
    assert!(again.status.success() && journal() == before, "{}", text(&again));
    let merged = ci(folder, "merge", &["whole", "part"]);
    assert_eq!(merged.status.code(), Some(1), "{}", text(&merged));
    let summary = fs::read_to_string(folder.join("whole/summary.md")).unwrap();
    assert!(summary.contains("| 6.18.15 | **skipped** |"), "{summary}");
    assert!(folder.join("whole/junit.xml").exists());
    let failed = [&["1", "1", "broken"][..], &ONE[1..], &["--qemu", "/nowhere/qemu"]].concat();
    let shard = ci(folder, "shard", &failed);
    assert_eq!(shard.status.code(), Some(2), "{}", text(&shard));
    let missing = ci(folder, "merge", &["whole2", "nowhere"]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing));
    for script in ["kernels", "shard", "merge"] {
        let output = ci(folder, script, &[]);
        assert!(output.status.code() == Some(2) && text(&output).contains("usage: "), "{}", text(&output));
    }
}
