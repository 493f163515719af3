//! What is done with one input: each function reads it as luqual reads foreign input, and checks what holds for any. Used
//! by the targets of the fuzzer, and by the bounded number of generated cases in the gate
//! (orchestrator/engine/tests/generated.rs).

use luqual_config::matrix::{self, KnownNames};
use luqual_config::{Filter, Named, Subject};
use luqual_ktap::{End, Judge};
use luqual_model::bounds::{BUNDLE_FILES, FINDING, FINDINGS_OF_SIDE};
use luqual_model::plain::is_unsafe;
use luqual_model::{FindingKind, Journal, matches};
use luqual_reports::Record;
use std::io::{Seek, Write};
use std::path::Path;

/// The scanner of the console.
pub(crate) fn console(data: &[u8]) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (console, mut feed) = luqual_vm::Console::fed(log.path(), std::time::Instant::now()).unwrap();
    feed.take(data);
    drop(feed);
    let findings = console.findings();
    // Of each kind, on both sides, and the last ones.
    assert!(findings.len() <= KINDS.len() * 2 * (FINDINGS_OF_SIDE + 1));
    for finding in findings {
        assert!(KINDS.contains(&finding.kind));
        assert!(finding.text.chars().count() <= FINDING + 64, "{}", finding.text.len());
        assert!(!finding.text.contains(is_unsafe), "{finding:?}");
    }
}

const KINDS: [FindingKind; 10] = [
    FindingKind::Panic,
    FindingKind::Oops,
    FindingKind::Bug,
    FindingKind::Warning,
    FindingKind::HungTask,
    FindingKind::Stall,
    FindingKind::Error,
    FindingKind::HandoverRefused,
    FindingKind::Kho,
    FindingKind::Luo,
];

/// The output of a program, in pieces, and each way in which it can end.
pub(crate) fn ktap(data: &[u8]) {
    for end in [End::Exit(0), End::Exit(1), End::Exit(4), End::Signal(11), End::TimedOut(9)] {
        let mut judge = Judge::default();
        data.chunks(1 + data.len() / 3).for_each(|piece| judge.read(piece));
        let verdict = judge.end(end);
        let (probes, skipped) = (verdict.probes("target", true), verdict.skipped());
        assert!(matches!(end, End::Exit(0 | 4)) || verdict.stopped() == Some(end) && skipped.is_none());
        assert!(probes.iter().any(|probe| probe.name == "target end") && !verdict.reason().is_empty());
        // Only a program that ended well and of which something passed can pass.
        let passed = probes.iter().all(|probe| probe.passed);
        assert!(!passed || end == End::Exit(0) && skipped.is_none() && !data.is_empty(), "{probes:?}");
    }
}

/// The journal of a run, and the reports of it.
pub(crate) fn journal(data: &[u8]) {
    if let Ok((_, mut journal)) = Journal::begin(data) {
        while let Some(Ok((place, _))) = journal.next() {
            assert!(place.offset + place.length <= data.len() as u64);
        }
        assert!(journal.whole() <= data.len() as u64);
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    let Ok(record) = Record::read(file) else { return };
    let texts = [luqual_reports::summary(&record), luqual_reports::markdown(&record), luqual_reports::junit(&record)];
    for text in texts.into_iter().flatten() {
        assert!(!text.contains(|c| is_unsafe(c) && !matches!(c, '\n' | '\t')), "{text:?}");
    }
}

/// QEMU's trace.
pub(crate) fn trace(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let events = luqual_vm::parse_trace(&text);
    assert!(events.len() <= text.lines().count());
}

/// A bzImage.
pub(crate) fn image(data: &[u8]) {
    if let Ok(facts) = luqual_kernels::image::read(data) {
        assert!(!facts.release.is_empty() && !facts.release.contains(is_unsafe));
        assert!(facts.unread.is_none() || facts.build_id.is_none());
    }
}

/// A bundle: nothing is written but below its folder, and no more than it may have.
pub(crate) fn bundle(data: &[u8]) {
    let outer = tempfile::tempdir().unwrap();
    let (file, into) = (outer.path().join("file"), outer.path().join("into"));
    std::fs::write(&file, data).unwrap();
    std::fs::create_dir(&into).unwrap();
    let _ = luqual_engine::unpack_bundle(&file, &into);
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2);
    assert!(files(&into) <= BUNDLE_FILES);
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let kind = entry.file_type().unwrap();
            assert!(kind.is_file() || kind.is_dir());
            if kind.is_dir() { files(&entry.path()) } else { 1 }
        })
        .sum()
}

/// A matrix file.
pub(crate) fn matrix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let known =
        KnownNames { kernels: &["7.2.12", "7.3.4"], workloads: &["memfd.basic", "luo.name"], profiles: &["q35-intel"] };
    match matrix::read("m.toml", text, &known) {
        Ok(file) => file.matrices.iter().for_each(|matrix| {
            assert!(matrix.pairs(str::to_owned).len() <= matrix.kernels.len() * matrix.kernels.len());
        }),
        Err(mistakes) => assert!(mistakes.to_string().contains("m.toml")),
    }
}

/// A filter, and a glob.
pub(crate) fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = |name| Named { name, release: name };
    let subject =
        Subject { source: name("7.2.12"), target: name("7.3.4"), profile: "q35-intel", workload: "memfd.basic" };
    match text.parse::<Filter>() {
        Ok(filter) => drop(filter.takes(&subject)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    matches(text, "memfd.basic");
}
