//! JUnit: a suite for each workload and machine, a case for each pair.

use crate::brief::{Brief, TestResult};
use crate::grid::{Square, grids};
use crate::record::Record;
use crate::words::{end, notes, repro, standing};
use luqual_model::{CellKey, CellRecord, PlannedCell, plain};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::io;
use std::time::Duration;

/// The record as JUnit XML. Failures of the harness are errors; a cell that does what it is known to do passes, and
/// its output says what that is.
pub fn junit(record: &Record) -> io::Result<String> {
    let mut report = Report::new(text(&format!("luqual {}", record.run.id)));
    for grid in grids(record) {
        let mut suite = TestSuite::new(text(&format!("{} on {}", grid.workload, grid.profile)));
        for (name, value) in crate::kernels::facts(record.run.kernels.values()) {
            suite.add_property((text(&name), text(&value)));
        }
        if let Some(fault) = &record.run.settings.inject {
            suite.add_property(("injected fault", text(fault).as_str()));
        }
        for square in grid.rows.iter().flat_map(|row| &row.squares) {
            match square {
                Square::Ended(number, _) => drop(suite.add_test_case(case(record, &record.cell(*number)?))),
                Square::NotRun(number) => drop(suite.add_test_case(not_run(&record.run.planned[*number]))),
                Square::Empty => {}
            }
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(io::Error::other).map(|xml| without_skipped(&xml))
}

/// Jenkins' schema (jenkinsci/xunit-plugin, junit-10.xsd), by which its plugin refuses files, knows the count of
/// skipped cases of a suite and not of the root; quick-junit writes both.
pub(crate) fn without_skipped(xml: &str) -> String {
    let (head, rest) = xml.split_at(xml.find("<testsuites").unwrap_or_default());
    let (root, rest) = rest.split_at(rest.find('>').unwrap_or_default());
    // The root's only value that is anybody's text is the name, in which a quotation mark is escaped.
    let end = |at: usize| root[at + SKIPPED.len()..].find('"').map(|length| at + SKIPPED.len() + length + 1);
    match root.find(SKIPPED).and_then(|at| Some((at, end(at)?))) {
        Some((start, end)) => format!("{head}{}{}{rest}", &root[..start], &root[end..]),
        None => xml.to_owned(),
    }
}

const SKIPPED: &str = " skipped=\"";

fn not_run(planned: &PlannedCell) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message("not run");
    named(&planned.key, status)
}

/// A pair may be run on several machines.
fn named(key: &CellKey, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(text(&format!("{} -> {}", key.source, key.target)), status);
    case.set_classname(text(&format!("{}.{}", key.workload, key.profile)));
    case
}

/// Text of anybody, in which XML's own characters are escaped later.
pub(crate) fn text(text: &str) -> String {
    plain::lines(text)
}

fn case(record: &Record, cell: &CellRecord) -> TestCase {
    let brief = Brief::of(cell);
    let failed = |kind| {
        let mut status = TestCaseStatus::non_success(kind);
        status
            .set_type(cell.outcome.word())
            .set_message(text(&end(cell)))
            .set_description(text(&details(record, cell)));
        status
    };
    let status = match brief.standing() {
        TestResult::Passed => TestCaseStatus::success(),
        TestResult::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(text(&cell.title));
            status
        }
        TestResult::Failed => failed(NonSuccessKind::Failure),
        TestResult::Error => failed(NonSuccessKind::Error),
    };
    let mut case = named(&cell.plan.key, status);
    case.set_time(Duration::from_micros(cell.duration_us));
    let (notes, standing) = (notes(cell), standing(cell));
    let says_more = !(cell.title.is_empty() && notes.is_empty() && standing.is_empty());
    if brief.standing() == TestResult::Passed && says_more {
        let lines: Vec<String> = std::iter::once(end(cell) + &standing).chain(notes).collect();
        case.set_system_out(text(&lines.join("\n")));
    }
    case
}

fn details(record: &Record, cell: &CellRecord) -> String {
    let mut lines = vec![format!("decided in {}, {}{}", cell.phase, cell.status, standing(cell))];
    lines.extend(notes(cell));
    let failed = cell.probes.iter().filter(|probe| !probe.passed);
    lines.extend(failed.map(|it| format!("{}: expected {}, observed {}", it.name, it.expected, it.observed)));
    lines.extend(cell.findings.iter().map(|it| format!("{} {}: {}", it.kernel(), it.kind, it.text)));
    lines.push(format!("evidence: {}", cell.folder));
    lines.extend(repro(record, cell).map(|command| format!("again: {command}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    /// To read it with another's schema: `LUQUAL_JUNIT=FILE cargo test -p luqual-reports junit`, then
    /// `xmllint --noout --schema junit-10.xsd FILE`.
    #[test]
    fn a_sample_can_be_kept() {
        let xml = super::junit(&crate::samples::record()).unwrap();
        if let Some(file) = std::env::var_os("LUQUAL_JUNIT") {
            std::fs::write(file, &xml).unwrap();
        }
        assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites "), "{xml}");
    }

    #[test]
    fn characters_that_xml_does_not_have_are_left_out() {
        let title = "KHO: \u{fffe}\u{ffff}\u{1b}[31m\u{0}x";
        let cell = crate::samples::cell("a\u{fffe}", "b", luqual_model::Outcome::Lost, title);
        let xml = super::junit(&crate::samples::record_of(vec![cell])).unwrap();
        let is_xml =
            |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        assert!(xml.chars().all(is_xml), "{xml:?}");
    }

    #[test]
    fn a_planted_fault_and_how_often_something_failed_are_told() {
        let mut record = crate::samples::record_of(vec![crate::samples::repeated(3)]);
        record.run.settings.inject = Some("flip:64m:3:17".into());
        let xml = super::junit(&record).unwrap();
        assert!(xml.contains(r#"<property name="injected fault" value="flip:64m:3:17"/>"#), "{xml}");
        let out = "<system-out>survived, 0 of 3 failed, at most 63.2 % (95 %)\nattempts: survived; survived; survived<";
        assert!(xml.contains(out), "{xml}");
    }

    #[test]
    fn what_was_not_run_is_told_of_a_run_that_goes_on_as_of_one_that_ended() {
        let mut record = crate::samples::record();
        let not_run = |xml: &str| xml.lines().filter(|line| line.contains("message=\"not run\"")).count();
        assert_eq!(not_run(&super::junit(&record).unwrap()), 1);
        record.run.duration_us = None;
        assert_eq!(not_run(&super::junit(&record).unwrap()), 1);
    }

    #[test]
    fn losses_are_failures_and_the_harness_is_an_error() {
        let xml = super::junit(&crate::samples::record()).unwrap();
        let count = |text: &str| xml.matches(text).count();
        // Nine were planned: a clean survival, a skip, a failure of the harness, one not run; the rest are failures.
        assert_eq!(
            (count("<testcase "), count("<failure "), count("<error "), count("<skipped ")),
            (9, 5, 2, 1),
            "{xml}"
        );
        let root = xml.lines().find(|line| line.contains("<testsuites")).unwrap();
        assert!(root.ends_with(r#" tests="9" failures="5" errors="2">"#), "{root}");
        assert!(xml.contains(" skipped=\"1\""), "{xml}");
        assert!(xml.contains("type=\"lost\"") && xml.contains("message=\"crashed: Kernel panic"), "{xml}");
        assert!(xml.contains("KHO: &lt;script&gt;alert(1)"), "{xml}");
    }
}
