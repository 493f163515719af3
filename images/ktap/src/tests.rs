use super::*;

fn judged(text: &str, end: End) -> Verdict {
    let mut judge = Judge::default();
    judge.read(text.as_bytes());
    judge.end(end)
}

/// The probes that fail in the last stage, as `NAME: OBSERVED`.
fn broken_at(text: &str, end: End) -> Vec<String> {
    let probes = judged(text, end).probes("-s 2", true).into_iter().filter(|probe| !probe.passed);
    probes.map(|probe| format!("{}: {}", probe.name.trim_start_matches("-s 2 "), probe.observed)).collect()
}

fn broken(text: &str) -> Vec<String> {
    broken_at(text, End::Exit(0))
}

const LUO: &str = "TAP version 13\n# [STAGE 2] Starting…\n# \n# --- SIMPLE KEXEC TEST PASSED ---\n\
    # Planned tests != run tests (0 != 0)\n# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0\n";

#[test]
fn what_passed_has_no_broken_probe() {
    let good = [
        LUO,
        "PASSED",
        "ok",
        "ok 1 all\n",
        "TAP version 13\n1..2\nok 1 no device # SKIP no device here\nok 2 other\n",
        "TAP version 13\n1..2\nnot ok 1 known # TODO not yet\nok 2 other\n",
        "TAP version 14\n1..2\nok 1 known # TODO works by now\nok 2 other\n",
        "TAP version 13\nok 1 a\nok 2 b\n1..2\n",
        "1..3\nok 1 # XFAIL known\nok 2 # XPASS works\nok 3 c\n# Totals: pass:1 fail:0 xfail:1 xpass:1 skip:0 error:0\n",
        "ok 1 a\nok 2 - b\nok c\nok\n1..4",
        "ok 1 a # rcode=0\r\n1..1\r\n",
        // TAP 14: four spaces and a comment with the name.
        "TAP version 14\n1..1\n# Subtest: a\n    1..2\n    ok 1 - x\n    ok 2 - y\nok 1 - a\n",
        // A test that is known to fail is so with all that is nested in it.
        "TAP version 14\n1..1\n    1..2\n    ok 1 - x\n    not ok 2 - y\nnot ok 1 - a # TODO all of it\n",
        // kselftest_harness.h.
        "TAP version 13\n1..1\n# Starting 1 tests from 1 test cases.\n#  RUN           global.a ...\n\
         #            OK  global.a\nok 1 global.a\n# PASSED: 1 / 1 tests passed.\n\
         # Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0\n",
        // Two programs one after the other.
        "TAP version 13\n1..1\nok 1 a\nTAP version 13\n1..1\nok 1 a\n",
    ];
    for text in good {
        assert_eq!(broken(text), Vec::<String>::new(), "{text}");
    }
}

/// Each of these is broken in this way alone.
#[test]
fn what_contradicts_itself_fails() {
    let table: [(&str, &[&str]); 23] = [
        ("", &["says: nothing of it"]),
        ("NOT PASSED", &["summary: NOT PASSED", "says: nothing of it"]),
        ("1..5\nok 1 first\n", &["number of tests: 1"]),
        ("1..1\nok 1 a\nok 2 b\n", &["number of tests: 2"]),
        ("1..2\nok 1 a\nok 1 b\n", &["number of a test: 1"]),
        ("1..2\nok 1 a\nok 3 b\n", &["number of a test: 3"]),
        ("ok 2 b\n", &["number of a test: 2"]),
        ("1..1\n1..2\nok 1 a\nok 2 b\n", &["plan: 1..1 and 1..2"]),
        ("1..99999999999999999999\nok 1 a\n", &["number of tests: 1"]),
        ("1..2\nok 1 a\nnot ok 2 b\n", &["test “b”: not ok"]),
        ("ok 1 a\nnot ok 2 # error no memory\n", &["test “2”: an error: no memory"]),
        ("ok 1 a\nok 2 slow # TIMEOUT 45 s\n", &["test “slow”: an error: 45 s"]),
        ("ok 1 a\nBail out! no device\n", &["end: exit status 0: Bail out! no device"]),
        ("ok 1 a\n    Bail out! no device\n", &["end: exit status 0: Bail out! no device"]),
        (
            "FAIL: session is gone\nSummary: 0 PASSED, 3 FAILED\n",
            &["summary: FAIL: session is gone", "says: nothing of it"],
        ),
        ("ok 1 a\nSummary: 1 PASSED, 3 FAILED\n", &["summary: Summary: 1 PASSED, 3 FAILED"]),
        ("PASSED\n# a FAIL of one\n", &["summary: # a FAIL of one"]),
        (
            "ok 1 a\n# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\n",
            &["totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0"],
        ),
        (
            "ok 1 a\n# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:0 error:0\n",
            &["totals: pass:2 fail:0 xfail:0 xpass:0 skip:0 error:0"],
        ),
        ("1..0 # SKIP no device\n", &["says: all was skipped: no device"]),
        ("1..0 # SKIP no device\nPASSED\n", &["says: all was skipped: no device"]),
        ("1..2\nok 1 # SKIP no device\nok 2 b # SKIP\n", &["says: all was skipped: no device"]),
        ("1..1\nnot ok 1 a # TODO not yet\n", &["says: nothing passed: it skipped tests, or they failed as is known"]),
    ];
    for (text, right) in table {
        assert_eq!(broken(text), right, "{text}");
    }
}

#[test]
fn the_end_of_the_process_counts_whatever_it_printed() {
    let table = [
        (End::Exit(1), "end: exit status 1: PASSED"),
        (End::Exit(2), "end: exit status 2: PASSED"),
        (End::Exit(4), "end: exit status 4: PASSED"),
        (End::Signal(11), "end: signal 11: PASSED"),
        (End::TimedOut(25), "end: killed after 25 s: PASSED"),
    ];
    for (end, right) in table {
        assert_eq!(broken_at("PASSED", end)[0], right);
        assert_eq!(broken_at("1..1\nok 1 PASSED", end)[0], right.replace("PASSED", "ok 1 PASSED"));
    }
    let text = "# one\n# two\nBail out! [run:7] no session (errno: 2)\n# Totals: pass:0 fail:0\n";
    let why = "end: exit status 1: Bail out! [run:7] no session (errno: 2)";
    assert_eq!(broken_at(text, End::Exit(1)), [why, "says: nothing of it"]);
    assert_eq!(judged(text, End::Exit(1)).stopped(), Some(End::Exit(1)));
    assert_eq!(judged(text, End::Exit(0)).stopped(), Some(End::Exit(0)), "whoever gives up has not done it");
    assert_eq!(broken_at("# one\nno: x\n", End::Exit(1))[0], "end: exit status 1 after “one”: no: x");
    assert_eq!(judged("", End::Signal(11)).reason(), "it printed nothing");
}

#[test]
fn nested_results_count() {
    // Documentation/dev-tools/ktap.rst, “Example KTAP output”.
    let ktap = "KTAP version 1\n1..1\n  KTAP version 1\n  1..3\n    KTAP version 1\n    1..1\n    # test_1: initializing test_1\n    \
        ok 1 test_1\n  ok 1 example_test_1\n    KTAP version 1\n    1..2\n    ok 1 test_1 # SKIP test_1 skipped\n    ok 2 test_2\n  \
        ok 2 example_test_2\n    KTAP version 1\n    1..3\n    ok 1 test_1\n    # test_2: FAIL\n    not ok 2 test_2\n    \
        ok 3 test_3 # SKIP test_3 skipped\n  not ok 3 example_test_3\nnot ok 1 main_test\n";
    let right = ["test “1.3.2 test_2”: not ok", "test “1.3 example_test_3”: not ok", "test “main_test”: not ok"];
    assert_eq!(broken(ktap), right);
    let passed = |text: &str| text.replace("not ok", "ok").replace("FAIL", "ok");
    assert_eq!(broken(&passed(ktap)), Vec::<String>::new());
    assert_eq!(broken(&passed(ktap).replace("    1..3", "    1..4")), ["number of tests: 3"]);
    // A test passes by the tests in it.
    let lies = "1..1\n  1..2\n  ok 1 a\n  not ok 2 b\nok 1 c\n";
    assert_eq!(broken(lies), ["test “1.2 b”: not ok", "test “c”: an error: ok, and 1 of its tests failed"]);
    assert_eq!(broken("1..1\n  1..1\n  ok 1 a # SKIP no x\nok 1 c\n"), ["says: all was skipped: no x"]);
    assert_eq!(broken("1..1\n  1..0 # SKIP no x\nok 1 c\n"), ["says: all was skipped: no x"]);
    assert_eq!(broken("1..1\n  1..1\n  not ok 1 a\nok 1 c # SKIP\n")[0], "test “1.1 a”: not ok");
    assert_eq!(broken("    not ok 1 a\nPASSED\n")[0], "test “1.1 a”: not ok", "without a parent too");
    assert_eq!(broken("  ok then\n"), ["says: nothing of it"], "words are no result");
    // run_kselftest.sh has the output of each program in comments.
    let quoted = "TAP version 13\n1..1\n# selftests: liveupdate: x\n# TAP version 13\n# 1..2\n# ok 1 a\n# not ok 2 b\n\
        # # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\nok 1 selftests: liveupdate: x\n";
    assert_eq!(broken(quoted).len(), 3, "{:?}", broken(quoted));
    assert_eq!(broken("# ok 2 of 3 devices\n1..1\nok 1 a\n"), Vec::<String>::new(), "a comment is no result");
}

#[test]
fn a_program_skips_all_or_it_does_not() {
    let skipped = |text: &str, status| judged(text, End::Exit(status)).skipped();
    let table = [
        ("1..0 # SKIP no device\n", 4, Some("no device")),
        ("1..0 # SKIP no device\n", 0, Some("no device")),
        ("1..0\n", 0, Some("a plan of no tests")),
        ("no device\n", 4, Some("no device")),
        ("", 4, Some("exit status 4")),
        ("1..2\nok 1 # SKIP no device\nok 2 # SKIP no driver\n", 0, Some("no device")),
        // ksft_exit_skip() after a plan: its number is one too large, and the plan is not kept.
        ("1..3\nok 2 # SKIP no device\n# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:1 error:0\n", 4, Some("no device")),
        ("1..3\nok 1 # SKIP no device\n", 0, None),
        ("ok 1 a\nok 2 # SKIP no device\n", 0, None),
        ("ok 1 a\nok 2 # SKIP no device\n", 4, None),
        ("not ok 1 a\n", 4, None),
        ("Bail out!\n", 4, None),
        ("3 tests failed\n", 4, None),
        ("1..0 # SKIP no device\n", 1, None),
        ("", 0, None),
    ];
    for (text, status, right) in table {
        assert_eq!(skipped(text, status).as_deref(), right, "{status} {text}");
    }
}

#[test]
fn a_flood_is_judged_and_its_probes_are_bounded() {
    let tests: String = (1..=20_000).map(|number| format!("ok {number} of many\n")).collect();
    let probes = judged(&tests, End::Exit(0)).probes("-s 2", true);
    assert!(probes.iter().all(|probe| probe.passed) && probes.len() < 200, "{}", probes.len());
    let late = format!("1..20001\n{tests}not ok 20001 the last\n");
    assert_eq!(broken(&late), ["test “the last”: not ok"]);
    let failures: String = (1..=5_000).map(|number| format!("not ok {number} of many\n")).collect();
    let failed = broken(&failures);
    assert!(failed.len() < 300 && failed.iter().any(|it| it == "further tests: 4808 failed"), "{failed:?}");
    let comments = "# a line of forty characters, more or less.\n".repeat(9000);
    assert_eq!(judged(&format!("{comments}ok 1 all\n"), End::Exit(0)).probes("-s 2", true).len(), 3);
    let long = format!("ok 1 {}\nnot ok 2 {}\n", "x".repeat(100_000), "y".repeat(100_000));
    assert!(broken(&long)[0].len() < 1000);
    let deep: String = (0..200).map(|depth| format!("{}not ok 1 a\n", " ".repeat(depth))).collect();
    assert!(!broken(&deep).is_empty());
}

/// Any cut of the stream into pieces gives the same verdict, and no bytes make it panic.
#[test]
fn the_verdict_does_not_depend_on_how_the_output_came() {
    let text = format!("{LUO}1..2\nok 1 a\n  1..1\n  ok 1 „b‟\nnot ok 2 c # TODO\n# Totals: pass:1 fail:0\n");
    let whole = format!("{:?}", judged(&text, End::Exit(0)));
    for size in [1, 2, 3, 7, 64] {
        let mut judge = Judge::default();
        text.as_bytes().chunks(size).for_each(|piece| judge.read(piece));
        assert_eq!(format!("{:?}", judge.end(End::Exit(0))), whole, "{size}");
    }
    let words: [&[u8]; 14] = [
        b"ok ",
        b"not ok ",
        b"1..",
        b"3",
        b"# ",
        b"SKIP ",
        b"TODO",
        b"\n",
        b"  ",
        b"TAP version 13",
        b"Totals: pass:1",
        b"FAILED ",
        b"\xff\xe2\x80",
        b"PASSED: 0/",
    ];
    let mut state = 1_u64;
    for _ in 0..5_000 {
        let mut judge = Judge::default();
        for _ in 0..24 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            judge.read(words[(state >> 33) as usize % words.len()]);
        }
        let verdict = judge.end(End::Exit(0));
        let probes = verdict.probes("-s 2", true);
        // What skipped all has not survived.
        assert!(verdict.skipped().is_none() || probes.iter().any(|probe| !probe.passed));
    }
}
