use super::*;
use std::fs;
use std::path::{Path, PathBuf};

fn scan(lines: &str) -> Vec<(FindingKind, Side, String)> {
    let mut scanner = Scanner::default();
    for (number, line) in lines.lines().enumerate() {
        scanner.take(line, number as u64 + 1, 0);
    }
    scanner.findings().iter().map(|finding| (finding.kind, finding.side, finding.text.clone())).collect()
}

fn kinds(lines: &str) -> Vec<FindingKind> {
    scan(lines).into_iter().map(|(kind, _, _)| kind).collect()
}

fn corpus(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths.map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect();
    assert!(!files.is_empty());
    files
}

/// A file's first lines say what is to be found: `# KIND: LINE`, each line of the text as a whole, in order.
fn expected_and_text(file: &str) -> (Vec<(String, String)>, String) {
    let expected = file.lines().map_while(|line| line.strip_prefix("# "));
    let expected = expected.map(|line| line.split_once(": ").unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned()));
    let text = file.lines().filter(|line| !line.starts_with("# ")).map(|line| format!("{line}\n")).collect();
    (expected.collect(), text)
}

/// The functions of the findings.
fn functions(lines: &str) -> Vec<Option<String>> {
    let mut scanner = Scanner::default();
    for (number, line) in lines.lines().enumerate() {
        scanner.take(line, number as u64 + 1, 0);
    }
    scanner.findings().iter().map(|finding| finding.function.clone()).collect()
}

#[test]
fn a_crash_and_a_warning_know_their_function() {
    let of = |lines: &[&str]| {
        let text: String = lines.iter().map(|line| format!("[    1.000000] {line}\n")).collect();
        functions(&text).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let oops = "Oops: int3: 0000 [#1] SMP NOPTI";
    assert_eq!(of(&[oops, "CPU: 1 PID: 1", "RIP: 0010:sched_clock_cpu+0x9/0x1c0", "Call Trace:"]), ["sched_clock_cpu"]);
    // The next crash has its own.
    assert_eq!(of(&[oops, "RIP: 0010:a+0x1/0x2", oops, "RIP: 0010:b.isra.0+0x1/0x2"]), ["a", "b"]);
    let kasan = "BUG: KASAN: slab-out-of-bounds in x+0x1/0x2";
    let frames = ["Call Trace:", " <TASK>", " dump_stack_lvl+0x60/0x90", " ? nothing+0x1/0x2", " kasan_report+0x1/0x2"];
    let of_trace = [&[kasan][..], &frames, &[" kho_restore_page+0xb1/0x140", " ksys_ioctl+0x1/0x2"]].concat();
    assert_eq!(of(&of_trace), ["kho_restore_page"]);
    // Registers of a program are no place in the kernel.
    assert_eq!(of(&[oops, "RIP: 0033:0x7f0000000000"]), [""]);
    // No line that only reads so, before or after.
    assert_eq!(of(&["RIP: 0010:a+0x1/0x2", oops, "a+0x1/0x2", "luo: x", "RIP: 0010:b+0x1/0x2"]), ["", ""]);
    let far = [&[oops][..], &["Modules linked in: x"; 80], &["RIP: 0010:a+0x1/0x2"]].concat();
    assert_eq!(of(&far), [""]);
}

#[test]
fn every_crash_of_the_corpus_is_found_once() {
    for (path, file) in corpus("bad") {
        let (expected, text) = expected_and_text(&file);
        let found: Vec<_> = scan(&text).into_iter().map(|(kind, _, text)| (kind.word().to_owned(), text)).collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn every_crash_of_the_corpus_is_found_when_cut_anywhere() {
    for (path, file) in corpus("bad") {
        let (expected, text) = expected_and_text(&file);
        for line in text.lines() {
            let whole: Vec<_> = scan(line).into_iter().map(|(kind, _, _)| kind).collect();
            // Cut where the kind can no longer be seen from the first half, and where it can.
            for cut in (2..line.len().min(120)).filter(|cut| line.is_char_boundary(*cut)) {
                let (head, tail) = line.split_at(cut);
                let halves = format!("[    0.900000] something before\n{head}\n{tail}");
                assert_eq!(kinds(&halves), whole, "{}: {head}|{tail}", path.display());
            }
        }
        assert!(!expected.is_empty(), "{}", path.display());
    }
}

#[test]
fn the_corpus_is_found_without_stamps_too() {
    for (path, file) in corpus("bad") {
        let (expected, text) = expected_and_text(&file);
        let bare: String = text.lines().map(|line| format!("{}\n", stamps(line)[0].of(line))).collect();
        let found = kinds(&format!("Linux version 6.12.0\nCommand line: console=ttyS0\n{bare}"));
        let found: Vec<_> = found.into_iter().map(|kind| kind.word().to_owned()).collect();
        let expected: Vec<_> = expected.into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn harmless_texts_match_nothing() {
    for (path, text) in corpus("good") {
        assert_eq!(scan(&text), [], "{}", path.display());
    }
}

#[test]
fn a_caller_is_no_part_of_the_message() {
    for stamp in ["[    1.234567] ", "[12345.678901][   T71] ", "[    0.000000][  C1] ", "[    0.000000]"] {
        assert_eq!(kinds(&format!("{stamp}Kernel panic - not syncing: x")), [FindingKind::Panic], "{stamp}");
    }
}

#[test]
fn a_message_that_was_split_is_found_once() {
    assert_eq!(
        scan("[    1.000000] Kernel pan\nic - not syncing: stop"),
        [(FindingKind::Panic, Side::Source, "Kernel panic - not syncing: stop".to_owned())]
    );
    assert_eq!(kinds("[    1.000000] Kernel panic - not syncing: st\nop\nand more"), [FindingKind::Panic]);
}

#[test]
fn two_messages_in_one_line_are_two() {
    assert_eq!(
        kinds("[    1.000000] luo: one[    1.000001] Kernel panic - not syncing: x"),
        [FindingKind::Luo, FindingKind::Panic]
    );
    assert_eq!(kinds("half a prompt $ [    1.000001] Kernel panic - not syncing: x"), [FindingKind::Panic]);
}

#[test]
fn lines_of_programs_match_nothing_even_behind_the_kernels() {
    assert_eq!(kinds("[    1.000000] Run /init as init process\nWARNING: a.c:1 at b\nBUG: c\nKHO: d\n"), []);
    assert_eq!(kinds("[    1.000000] a\nLinux version 7.2.12 (me@here)\nBUG: from a program\n"), []);
}

#[test]
fn the_second_banner_is_the_targets() {
    let warning = "WARNING: kernel/a.c:1 at b+0x1/0x2, CPU#0: c/1";
    let sides = |lines: &str| scan(lines).into_iter().map(|(_, side, _)| side).collect::<Vec<_>>();
    let stamped = format!(
        "[    0.000000] Linux version 7.2.12\n[    1.000000] {warning}\n[    0.000000] Linux version 7.3.4\n\
         [    0.000000] KHO: found kexec handover data.\n"
    );
    assert_eq!(sides(&stamped), [Side::Source, Side::Target]);
    let bare = format!(
        "Linux version 7.2.12\nCommand line: a\n{warning}\nLinux version 7.3.4\nCommand line: a\nKHO: found kexec handover data.\n"
    );
    assert_eq!(sides(&bare), [Side::Source, Side::Target]);
}

#[test]
fn a_long_stream_without_ends_of_messages_is_not_kept() {
    let mut scanner = Scanner::default();
    scanner.take("[    1.000000] begin", 1, 0);
    for number in 0..10_000 {
        scanner.take("a program prints and prints", number, 0);
    }
    assert!(scanner.open.len() <= LOOK_BACK);
}

#[test]
fn kernels_are_counted_by_their_banners() {
    let mut scanner = Scanner::default();
    let mut after = |line: &str| {
        scanner.take(line, 1, 0);
        scanner.kernels()
    };
    assert_eq!(after("[    0.000000] Linux version 7.2.12 (luqual@luqual)"), 1);
    assert_eq!(after("[    1.000000] a program: Linux version 7.2.12"), 1);
    assert_eq!(after("[    9.000000] kexec_core: Starting new kernel"), 1);
    assert_eq!(after("[    0.000000] Linux version 7.3.4 (luqual@luqual)"), 2);
}

#[test]
fn timers_that_disagree_are_noted_and_spoil_nothing() {
    let found = scan("[    0.000000] Linux version 7.3.4\n[    0.032000] tsc: PIT calibration deviates from HPET: 1 2");
    let (kind, _, text) = &found[0];
    assert_eq!((*kind, text.as_str()), (FindingKind::Clock, "tsc: PIT calibration deviates from HPET: 1 2"));
    assert!(!kind.taints() && !kind.taints_survival() && !kind.is_crash());
}
