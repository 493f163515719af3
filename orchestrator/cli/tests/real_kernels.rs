//! Real kernels, real QEMU, real kexecs. `cargo xtask ci kernels` builds the kernels; a test that finds one missing
//! builds it too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{alone, assert_nothing_left, image_of, luqual, machines, record, run_pair, text};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OLD: &str = "7.2.12";
const NEW: &str = "7.3.4";
const WITHOUT_LUO: &str = "6.18.15";

#[test]
fn a_memfd_survives_in_all_four_pairs() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let output = luqual(folder.path()).args(["run", "--matrix", "quick", "--report-dir", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let record = record(folder.path());
    let cells = record["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    for cell in cells {
        assert_eq!((&cell["outcome"], &cell["status"]), (&"survived".into(), &"expected".into()), "{cell}");
        // Five memfds: retrieved, offset, size, content; two sessions: retrieved, finished, gone.
        assert_eq!(cell["probes"].as_array().unwrap().len(), 5 * 4 + 2 * 3);
        assert!(cell["blackout"]["duration_us"].as_u64().unwrap() > 1000);
        let evidence = folder.path().join("run").join(cell["folder"].as_str().unwrap());
        for name in ["console.log", "kmsg.log", "agent.jsonl", "qmp.jsonl", "command.txt"] {
            assert!(fs::metadata(evidence.join(name)).unwrap().len() > 0, "{name}");
        }
        assert!(fs::exists(evidence.join("qemu.stderr")).unwrap());
    }
    assert!(text(&output).contains("4 cells: 4 survived"));
    assert!(fs::read_to_string(folder.path().join("run/report.html")).unwrap().contains("4 survived"));
    for (format, told) in [
        ("show", "4 cells: 4 survived"),
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
    assert!(text(&output).starts_with("4 cells as before\n"), "{}", text(&output));
    let output = luqual(folder.path()).args(["report", "junit", "run", "-o", "run/events.jsonl"]).output().unwrap();
    assert!(text(&output).contains("is the name of a run's journal"), "{}", text(&output));
    // The page is larger than a pipe, and nobody reads it.
    let mut unread = luqual(folder.path()).args(["report", "html", "run"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(0));
    // Nothing is left of it: that is told, and nothing is added to the journal.
    let journal = || fs::read(folder.path().join("run/events.jsonl")).unwrap();
    let before = journal();
    let output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
    assert!(output.status.success() && text(&output).contains("nothing is left to run"), "{}", text(&output));
    assert_eq!(before, journal());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../matrix.toml");
    let words = ["expect", "update", "run", "--reason", "none is needed", "--matrix-file", file];
    let output = luqual(folder.path()).args(words).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
    assert_nothing_left(folder.path());
}

#[test]
fn one_flipped_byte_is_found_where_it_is() {
    let _alone = alone();
    for (memfd, page, offset) in [("1", 0, 0), ("1m+1", 256, 0), ("64m", 16383, 4095)] {
        let folder = tempfile::tempdir().unwrap();
        let fault = format!("flip:{memfd}:{page}:{offset}");
        let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--plant", &fault]);
        assert_eq!((&cell["outcome"], output.status.code()), (&"lost".into(), Some(1)), "{cell}");
        let broken: Vec<&Value> =
            cell["probes"].as_array().unwrap().iter().filter(|probe| probe["held"] == false).collect();
        assert_eq!(broken.len(), 1, "{cell}");
        assert_eq!(broken[0]["name"], format!("memfd {memfd} content"));
        let observed = broken[0]["observed"].as_str().unwrap();
        assert!(observed.starts_with(&format!("page {page} offset {offset} is ")), "{observed}");
        assert!(observed.ends_with("(differing pages: 1)"), "{observed}");
        assert_eq!((&cell["planted"], &cell["phase"]), (&fault.into(), &"verify".into()));
    }
}

#[test]
fn a_red_cell_is_made_again_as_it_was() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (then, output) = run_pair(folder.path(), OLD, NEW, &["--plant", "flip:64m:3:17", "--repeat", "2"]);
    let id = then["id"].as_str().unwrap();
    assert!(text(&output).contains(&format!("    again: luqual repro run {id}\n")), "{}", text(&output));
    let repro = |words: &[&str]| {
        let mut command = luqual(folder.path());
        command.args(["repro", "run"]).args(words).output().unwrap()
    };
    let output = repro(&["memfd.basic", "--report-dir", "again"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("\nas then: lost: memfd 64m content: "), "{}", text(&output));
    let again: Value = serde_json::from_slice(&fs::read(folder.path().join("again/run.json")).unwrap()).unwrap();
    let now = &again["cells"][0];
    // What is in the memfd, and so what stands where a byte was flipped, is drawn from the seed.
    for same in ["id", "seed", "outcome", "status", "title", "planted", "probes", "phase"] {
        assert_eq!(now[same], then[same], "{same}");
    }
    let repeated =
        serde_json::json!({ "run": record(folder.path())["id"], "cell": id, "seed": then["seed"], "waits": true });
    assert_eq!(again["settings"]["repeats"], repeated);
    // From a bundle, by somebody who has neither the run nor a kernel.
    let output = luqual(folder.path()).args(["bundle", "run", "memfd", "-o", "red.tar.gz"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("red.tar.gz"), elsewhere.path().join("red.tar.gz")).unwrap();
    let mut luqual_there = luqual(elsewhere.path());
    luqual_there.env("HOME", elsewhere.path()).env_remove("XDG_CACHE_HOME");
    let output = luqual_there.args(["repro", "red.tar.gz", "--report-dir", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(&format!("    again: luqual repro red.tar.gz {id}\n")), "{}", text(&output));
    let there = record(elsewhere.path());
    assert_eq!((&there["cells"][0]["probes"], &there["kernels"]), (&then["probes"], &again["kernels"]));
    assert!(!fs::exists(elsewhere.path().join(".cache/luqual/kernels")).unwrap());
    assert_nothing_left(elsewhere.path());
    // One that ends otherwise is told, and so is what is no longer what it was.
    let journal = folder.path().join("run/events.jsonl");
    let changed = |from: &str, to: &str| {
        let text = fs::read_to_string(&journal).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&journal, text.replace(from, to)).unwrap();
    };
    changed("memfd 64m content", "memfd 64k content");
    changed("kho=on liveupdate=on", "kho=on liveupdate=on printk.time=1");
    let output = repro(&[id, "--report-dir", "other"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("\nnot as then, when it was lost: memfd 64k content: "), "{}", text(&output));
    // A kernel is told what it was told then, though the catalog says otherwise today.
    let words = again["kernels"][OLD]["command_line"].as_str().unwrap();
    let evidence = folder.path().join("other").join(then["folder"].as_str().unwrap());
    assert!(fs::read_to_string(evidence.join("command.txt")).unwrap().contains(&format!("{words} printk.time=1 ")));
    let digest = again["kernels"][NEW]["image_sha256"].as_str().unwrap();
    changed(digest, &"0".repeat(64));
    let output = repro(&[id, "--report-dir", "none"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("7.3.4 is not the kernel that the run was started with"), "{}", text(&output));
    assert!(!fs::exists(folder.path().join("none")).unwrap());
    assert_nothing_left(folder.path());
}

#[test]
fn a_flipped_byte_that_nobody_preserves_changes_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--plant", "flip-unpreserved"]);
    assert_eq!((&cell["outcome"], output.status.code()), (&"survived".into(), Some(0)), "{cell}");
}

#[test]
fn a_target_without_luo_is_neither_a_survival_nor_a_harness_failure() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), NEW, WITHOUT_LUO, &[]);
    assert_eq!((&cell["outcome"], output.status.code()), (&"incompatible".into(), Some(1)), "{cell}");
    assert!(cell["title"].as_str().unwrap().contains("is incompatible with 'kho-v1'"), "{cell}");
}

#[test]
fn a_source_without_luo_is_skipped_and_a_run_of_nothing_is_no_success() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), WITHOUT_LUO, NEW, &[]);
    assert_eq!((&cell["outcome"], output.status.code()), (&"skipped".into(), Some(1)), "{cell}");
    assert_eq!(cell["title"], "the source 6.18.15 is built without LUO");
}

#[test]
fn a_dead_qemu_is_the_harness_failing_wherever_it_dies() {
    let _alone = alone();
    for phase in ["boot", "preserve", "reconnect", "verify"] {
        let folder = tempfile::tempdir().unwrap();
        let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--plant", &format!("kill-qemu:{phase}")]);
        assert_eq!((&cell["outcome"], output.status.code()), (&"harness-failed".into(), Some(3)), "{cell}");
        assert_eq!(cell["phase"], phase);
        assert!(cell["title"].as_str().unwrap().contains("SIGKILL"), "{cell}");
    }
}

#[test]
fn a_dead_agent_is_the_harness_failing() {
    let _alone = alone();
    for fault in ["kill-agent:preserve", "kill-agent:verify", "kill-holder:kexec", "kill-holder:verify"] {
        let folder = tempfile::tempdir().unwrap();
        let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--plant", fault]);
        assert_eq!((&cell["outcome"], output.status.code()), (&"harness-failed".into(), Some(3)), "{fault}: {cell}");
    }
}

#[test]
fn a_kernel_that_panics_or_hangs_at_once_has_crashed() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let image = |name: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(image_of(folder.path(), OLD)).unwrap();
        spoil(&mut bytes);
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    // A payload that cannot be unpacked: the decompressor says so and halts.
    image("hangs", &|bytes| bytes[2_000_000..4_000_000].fill(0x55));
    image("whole", &|_| ());
    fs::write(
        folder.path().join("m.toml"),
        "[matrix.hang]\nkernels = [\"./hangs\"]\npairs = \"all\"\nworkloads = [\"memfd.basic\"]\n\
         [matrix.hang.deadlines]\nboot = 2\n",
    )
    .unwrap();
    let words = ["run", "--matrix", "hang", "--matrix-file", "m.toml", "--report-dir", "run", "--vmcore"];
    let output = luqual(folder.path()).args(words).output().unwrap();
    let cell = record(folder.path())["cells"][0].clone();
    assert_eq!((&cell["outcome"], output.status.code()), (&"crashed".into(), Some(1)), "{cell}");
    assert!(cell["title"].as_str().unwrap().starts_with("hang: the agent was never heard"), "{cell}");
    let told = folder.path().join("run").join(cell["folder"].as_str().unwrap()).join("vmcore.txt");
    let told = fs::read_to_string(told).unwrap();
    assert!(told.starts_with("vmcore has 1024 MiB of memory, ") && told.contains("no kernel's note"), "{told}");
    assert_nothing_left(folder.path());

    // A catalog of our own: the same kernel, told to start an init that is not there.
    let catalog = include_str!("../../../kernels/catalog.toml")
        .replace("console=ttyS0 kho=on", "console=ttyS0 rdinit=/nowhere kho=on");
    fs::write(folder.path().join("catalog.toml"), catalog).unwrap();
    for beside in ["config", "patches"] {
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels")).join(beside);
        copy_folder(&from, &folder.path().join(beside));
    }
    fs::remove_dir_all(folder.path().join("run")).unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, OLD, &["--catalog", "catalog.toml"]);
    assert_eq!((&cell["outcome"], output.status.code()), (&"crashed".into(), Some(1)), "{cell}");
    assert!(cell["title"].as_str().unwrap().starts_with("Kernel panic - not syncing: "), "{cell}");
    assert_eq!(cell["phase"], "boot");
}

#[test]
fn what_is_deterministic_is_so_to_the_last_byte() {
    let _alone = alone();
    for (fault, outcome) in [(None, "survived"), (Some("flip:64m:3:17"), "lost")] {
        let folder = tempfile::tempdir().unwrap();
        let words = ["--deterministic", "--seed", "7"].into_iter();
        let words: Vec<&str> = words.chain(fault.into_iter().flat_map(|fault| ["--plant", fault])).collect();
        let (then, output) = run_pair(folder.path(), OLD, NEW, &words);
        assert_eq!(then["outcome"], outcome, "{}", text(&output));
        let id = then["id"].as_str().unwrap();
        let output = luqual(folder.path()).args(["repro", "run", id, "--report-dir", "again"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let digest = then["digest"].as_str().unwrap();
        assert!(text(&output).contains(&format!("; digest {digest}\n")), "{}", text(&output));
        let read = |run: &str, name: &str| {
            fs::read(folder.path().join(run).join(then["folder"].as_str().unwrap()).join(name)).unwrap()
        };
        for name in ["console.raw", "answers.jsonl"] {
            assert!(!read("run", name).is_empty() && read("run", name) == read("again", name), "{name}");
        }
        // Both kernels spoke, and what they said was heard.
        let console = String::from_utf8_lossy(&read("run", "console.log")).into_owned();
        assert!(console.contains("Linux version 7.2.12") && console.contains("Linux version 7.3.4"));
        assert_nothing_left(folder.path());
    }
    // What the host takes part in is left out, and said.
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--deterministic", "--plant", "kill-qemu:verify"]);
    assert_eq!((&cell["outcome"], output.status.code()), (&"skipped".into(), Some(1)), "{}", text(&output));
    assert_eq!(cell["title"], "kill-qemu:verify is planted by the host, which is not deterministic");
}

#[test]
fn a_crash_leaves_what_a_kernel_engineer_looks_into() {
    let _alone = alone();
    // The release is that of the kernel that ran: before the update the source, after it the target.
    for (fault, title, release) in [
        ("panic:preserve", "Kernel panic - not syncing: sysrq triggered crash", OLD),
        ("hang:verify", "hang: no ticks any more; verify was given ", NEW),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("m.toml"),
            "[matrix.short]\nkernels = [\"7.2.12\", \"7.3.4\"]\npairs = \"all\"\nworkloads = [\"memfd.basic\"]\n\
             [matrix.short.deadlines]\nverify = 2\n",
        )
        .unwrap();
        let words = ["run", "--matrix", "short", "--matrix-file", "m.toml", "--report-dir", "run", "--vmcore"];
        let pair = ["--filter", "source(7.2.12) & target(7.3.4)", "--plant", fault];
        let output = luqual(folder.path()).args(words).args(pair).output().unwrap();
        let cell = record(folder.path())["cells"][0].clone();
        assert_eq!((&cell["outcome"], output.status.code()), (&"crashed".into(), Some(1)), "{}", text(&output));
        assert!(cell["title"].as_str().unwrap().starts_with(title), "{cell}");
        let evidence = folder.path().join("run").join(cell["folder"].as_str().unwrap());
        let read = |name: &str| String::from_utf8_lossy(&fs::read(evidence.join(name)).unwrap()).into_owned();
        for processor in ["CPU#0", "CPU#1"] {
            assert!(read("registers.txt").contains(processor), "{}", read("registers.txt"));
        }
        assert!(read("console.log").contains("NMI backtrace for cpu 1"), "{}", read("console.log"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vmcore.py");
        // Debian's python, which has Debian's drgn.
        let opened = Command::new("/usr/bin/python3").arg(script).arg(evidence.join("vmcore")).output().unwrap();
        let told = format!("note {release}\nmemory {release}\n");
        assert_eq!(String::from_utf8_lossy(&opened.stdout), told, "{} (apt-get install python3-drgn)", text(&opened));
        assert!(read("vmcore.txt").starts_with("vmcore has 1024 MiB of memory, "));
        assert_nothing_left(folder.path());
    }
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

#[test]
fn a_killed_luqual_leaves_no_process_and_the_next_start_sweeps() {
    let _alone = alone();
    for phase in ["boot", "preserve", "reconnect", "verify"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path());
        wait_for_phase(folder.path(), phase);
        assert_eq!(machines(folder.path()).len(), 1, "there is a QEMU to be left over");
        child.kill().unwrap();
        child.wait().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !machines(folder.path()).is_empty() {
            assert!(Instant::now() < until, "{:?}", machines(folder.path()));
            std::thread::yield_now();
        }
        assert_eq!(fs::read_dir(folder.path().join("w")).unwrap().count(), 1);
        // The journal is whole lines up to where it was.
        let journal = fs::read_to_string(folder.path().join("run/events.jsonl")).unwrap();
        assert!(journal.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        let (_, output) = run_pair(folder.path(), WITHOUT_LUO, NEW, &[]);
        assert!(text(&output).contains("removed 1 working folder"), "{}", text(&output));
    }
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let words = ["run", "--matrix", "quick", "--jobs", "1", "--report-dir", "run"];
    let mut child = luqual(folder.path()).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Half-way: one cell has ended, another has begun.
    wait_for(folder.path(), |event| event["event"] == "cell-started", 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = |folder: &Path| -> Vec<String> {
        let journal = fs::read_to_string(folder.join("run/events.jsonl")).unwrap();
        let events = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = events.filter(|event| event["event"] == "cell-finished");
        ended.map(|event| event["record"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let before = ended(folder.path());
    assert_eq!(before.len(), 1, "{before:?}");

    let output = luqual(folder.path()).args(["run", "--resume", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let after = ended(folder.path());
    let unique: std::collections::BTreeSet<&String> = after.iter().collect();
    assert!(after[0] == before[0] && after.len() == 4 && unique.len() == 4, "{after:?}");
    let record = record(folder.path());
    let cells = record["cells"].as_array().unwrap();
    assert!(cells.len() == 4 && cells.iter().all(|cell| cell["outcome"] == "survived"), "{record}");
    assert_nothing_left(folder.path());
}

/// What takes long, or asks for ten kexecs.
const LONG: [&str; 4] = ["scale.", "luo.fuzz", "lifecycle.hundred", "lifecycle.ten-times"];

#[test]
fn every_workload_does_what_is_expected_of_it_and_most_share_a_boot() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let list = luqual(folder.path()).args(["workloads", "list"]).output().unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    let names = names.lines().filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| !LONG.iter().any(|long| name.starts_with(long))).collect();
    assert!(names.len() >= 80, "{}", names.len());
    let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run"];
    let output =
        luqual(folder.path()).args(words).args(names.iter().flat_map(|name| ["--workload", *name])).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let record = record(folder.path());
    let cells = record["cells"].as_array().unwrap();
    assert_eq!(cells.len(), names.len());
    let folders: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell["folder"].as_str().unwrap()).collect();
    assert!(folders.len() * 3 < cells.len(), "{} boots", folders.len());
    for cell in cells {
        assert_eq!(cell["status"], "expected", "{cell}");
        // A machine that this QEMU cannot give is named with the QEMU that can.
        let by_qemu = cell["title"].as_str().is_some_and(|title| title.contains("which came with"));
        let is_skipped = cell["outcome"] == "skipped" && !by_qemu;
        assert!(!is_skipped, "luqual selftests build 7.3.4 builds what is missing: {cell}");
        assert!(!cell["probes"].as_array().unwrap().is_empty() || cell["outcome"] != "survived", "{cell}");
        let shares = cell["shared_with"].as_array().is_some_and(|others| !others.is_empty());
        let twin = |other: &&Value| other["folder"] == cell["folder"] && other["workload"] != cell["workload"];
        assert_eq!(shares, cells.iter().any(|other| twin(&other)), "{cell}");
    }
    assert_nothing_left(folder.path());
}

/// A fault, the workload and the machine that it is planted in, and the probes that have to find it.
const DEVICE_FAULTS: [(&str, &str, &str, &[&str]); 5] = [
    ("bar-moved", "vfio.edu.idle", "vfio-intel", &["D0 BARs", "D0 host: place"]),
    ("interrupt-lost", "vfio.edu.idle", "vfio-intel", &["D1 interrupt"]),
    // What tells the device to write stays in its registers.
    (
        "dma-write",
        "vfio.edu.idle",
        "vfio-intel",
        &[
            "D2 preserved pages",
            "D2 host: preserved pages",
            "D3 registers before the open",
            "D3 registers after the open",
        ],
    ),
    (
        "reset",
        "vfio.nvme.idle",
        "vfio-intel",
        &[
            "D3 registers before the open",
            "D3 registers after the open",
            "D3 host: resets before the open",
            "D3 host: resets by the open",
        ],
    ),
    (
        "unplugged",
        "vfio.edu.idle",
        "vfio-root-port",
        &["D0 presence", "D0 host: place", "D3 host: resets before the open"],
    ),
];

#[test]
fn a_fault_of_a_device_is_found_at_its_level_and_nowhere_else() {
    let _alone = alone();
    for (fault, workload, profile, probes) in DEVICE_FAULTS {
        let folder = tempfile::tempdir().unwrap();
        let words = ["run", "--source", NEW, "--target", NEW, "--report-dir", "run", "--workload", workload];
        let plant = ["--profile", profile, "--plant", &format!("device:{fault}")];
        let output = luqual(folder.path()).args(words).args(plant).output().unwrap();
        let record = record(folder.path());
        let cell = &record["cells"][0];
        assert_eq!((&cell["outcome"], &cell["status"]), (&"lost".into(), &"regression".into()), "{}", text(&output));
        let mut broken = broken(cell);
        // No released kernel preserves a VFIO descriptor.
        broken.retain(|name| !name.starts_with("D4 "));
        assert_eq!(broken, probes.iter().copied().collect(), "{fault}: {cell}");
        assert_nothing_left(folder.path());
    }
}

/// What is falsified in a virtual machine, and the probes that do not hold then.
const MACHINE_FAULTS: [(&str, &[&str]); 7] = [
    ("register", &["machine general registers"]),
    ("fpu", &["machine FPU, SSE and AVX state"]),
    ("msr", &["machine MSRs"]),
    ("page", &["machine memory pages", "machine memory chain"]),
    ("interrupt", &["machine interrupts to itself"]),
    ("timer", &["machine work", "machine timers"]),
    ("clock", &["machine clock over the update", "machine host: clock over the update"]),
];

#[test]
fn a_virtual_machine_survives_and_what_was_falsified_in_it_is_found() {
    let _alone = alone();
    let faults = MACHINE_FAULTS.iter().map(|(fault, probes)| (Some(*fault), *probes));
    for (fault, probes) in std::iter::once((None, &[][..])).chain(faults) {
        let folder = tempfile::tempdir().unwrap();
        let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run", "--workload", "vmm.basic-program"];
        let plant = fault.map(|fault| format!("machine:{fault}"));
        let plant: Vec<&str> = plant.iter().flat_map(|plant| ["--plant", plant]).collect();
        let output = luqual(folder.path()).args(words).args(plant).output().unwrap();
        let record = record(folder.path());
        let cell = &record["cells"][0];
        let end = if fault.is_some() { "lost" } else { "survived" };
        assert_eq!(cell["outcome"], end, "{}", text(&output));
        assert_eq!(broken(cell), probes.iter().copied().collect(), "{fault:?}: {cell}");
        assert_nothing_left(folder.path());
    }
}

/// The probes of a cell that do not hold.
fn broken(cell: &serde_json::Value) -> std::collections::BTreeSet<&str> {
    let probes = cell["probes"].as_array().unwrap().iter();
    probes.filter(|probe| probe["held"] == false).map(|probe| probe["name"].as_str().unwrap()).collect()
}

#[test]
fn a_fault_that_a_device_cannot_have_is_skipped_and_says_why() {
    let _alone = alone();
    for (fault, workload, why) in [
        ("reset", "vfio.edu.idle", "edu has no function level reset"),
        ("unplugged", "vfio.edu.idle", "edu is in no slot whose power could be turned off"),
        ("dma-write", "memfd.basic", "the workload owns no device"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let words = ["run", "--source", NEW, "--target", NEW, "--report-dir", "run", "--workload", workload];
        let output = luqual(folder.path()).args(words).args(["--plant", &format!("device:{fault}")]).output().unwrap();
        let record = record(folder.path());
        assert_eq!(record["cells"][0]["outcome"], "skipped", "{}", text(&output));
        assert!(text(&output).contains(why), "{}", text(&output));
    }
}

/// One that passes, and one that says that it did not; both in C, by the compiler that builds kernels.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("good", "puts(\"# looks\"); puts(\"PASSED\");", "survived"),
    ("bad", "puts(\"not ok 1 - what was kept\");", "lost"),
];

#[test]
fn somebodys_program_is_a_workload_that_says_itself_whether_it_passed() {
    let _alone = alone();
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
    let record = record(folder.path());
    for (name, _, outcome) in PROGRAMS {
        let name = format!("external.{name}");
        let cell = record["cells"].as_array().unwrap().iter().find(|cell| cell["workload"] == *name).unwrap();
        assert_eq!(cell["outcome"], outcome, "{cell}");
        assert_eq!(record["programs"][&name]["sha256"].as_str().unwrap().len(), 64);
    }
    assert!(text(&output).contains("test “what was kept”: expected ok, observed not ok"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(1));
    assert_nothing_left(folder.path());
}

#[test]
fn a_fault_has_a_boot_of_its_own_in_each_workload() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run", "--plant", "flip:4k:0:0"];
    let workloads = ["--workload", "luo.session-closed", "--workload", "memfd.basic"];
    let output = luqual(folder.path()).args(words).args(workloads).output().unwrap();
    let record = record(folder.path());
    let ended = |number: usize| (&record["cells"][number]["workload"], &record["cells"][number]["outcome"]);
    assert_eq!(ended(0), (&"luo.session-closed".into(), &"skipped".into()), "{}", text(&output));
    assert_eq!(ended(1), (&"memfd.basic".into(), &"lost".into()), "{}", text(&output));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn an_update_is_qualified_or_not() {
    let _alone = alone();
    for (target, more, exit, told) in [
        (NEW, &["--repeat", "2", "--seed", "7"][..], 0, "GO: live update 7.2.12 → 7.3.4"),
        (WITHOUT_LUO, &["--repeat", "1"], 1, "memfd.basic on q35-intel: incompatible: KHO: setup: handover FDT"),
        (NEW, &["--repeat", "1", "--plant", "flip:4k:0:0"], 1, "memfd.basic on q35-intel: lost: memfd 4k content"),
        (
            NEW,
            &["--repeat", "1", "--plant", "kill-qemu:boot"],
            1,
            "not tested:\n  memfd.basic on q35-intel: harness-failed",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let words = ["qualify", OLD, target, "--workload", "memfd.basic", "--report-dir", "run"];
        let output = luqual(folder.path()).args(words).args(more).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(said.contains(told) && said.starts_with(if exit == 0 { "GO" } else { "NO-GO" }), "{said}");
        let page = fs::read_to_string(folder.path().join("run/qualification.html")).unwrap();
        assert!(page.contains(if exit == 0 { ">GO<" } else { ">NO-GO<" }), "{page}");
        let attempts = record(folder.path())["cells"][0]["attempts"].as_array().map_or(1, Vec::len);
        assert_eq!(attempts, if more[1] == "2" { 2 } else { 1 });
        if more.contains(&"--seed") {
            let record = record(folder.path());
            let seed = |number: usize| &record["cells"][0]["attempts"][number]["seed"];
            // Drawn from the number that was given (orchestrator/runner/src/seed.rs): the same on every machine.
            assert_eq!(record["settings"]["seed"], 7);
            assert_eq!((seed(0), seed(1)), (&17630732956192026303_u64.into(), &16218972967798419798_u64.into()));
        }
        assert_nothing_left(folder.path());
    }
}

#[test]
fn ctrl_c_ends_the_run_in_order() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let child = start(folder.path());
    wait_for_phase(folder.path(), "preserve");
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("1 not run (interrupted)") && text(&output).contains("report: run/report.html"));
    let record = record(folder.path());
    assert_eq!((&record["interrupted"], record["cells"].as_array().unwrap().len()), (&true.into(), 0));
    assert_nothing_left(folder.path());
}

fn start(folder: &Path) -> Child {
    luqual(folder)
        .args(["run", "--source", OLD, "--target", NEW, "--workload", "memfd.basic", "--report-dir", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until that phase has begun, and in the boot until QEMU is there.
fn wait_for_phase(folder: &Path, phase: &str) {
    wait_for(folder, |event| event["event"] == "phase-started" && event["phase"] == phase, 1);
    let until = Instant::now() + Duration::from_secs(120);
    while machines(folder).is_empty() {
        assert!(Instant::now() < until, "there is no QEMU in {phase}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads the journal until so many of its events are wanted.
fn wait_for(folder: &Path, wanted: impl Fn(&Value) -> bool, times: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let seen = fs::File::open(folder.join("run/events.jsonl")).map_or(0, |journal| {
            let lines = BufReader::new(journal).lines().map_while(Result::ok);
            lines.filter(|line| wanted(&serde_json::from_str(line).unwrap_or_default())).count()
        });
        if seen >= times {
            return;
        }
        assert!(Instant::now() < until, "it did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
