//! JUnit: a suite for each workload and machine, a case for each pair.

use crate::standing::{Standing, standing};
use crate::terminal::word;
use luqual_model::{CellRecord, RunRecord};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The record as JUnit XML. Failures of the harness are errors; a cell that does what it is known to do passes, and its
/// output says what that is.
pub fn junit(record: &RunRecord) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new(format!("luqual {}", record.id));
    for grid in crate::grid::grids(record) {
        let mut suite = TestSuite::new(format!("{} on {}", grid.workload, grid.profile));
        let cells = record.cells.iter().filter(|cell| {
            (cell.plan.key.workload.as_str(), cell.plan.key.profile.as_str()) == (grid.workload, grid.profile)
        });
        suite.add_test_cases(cells.map(case));
        suite.add_test_cases(
            record
                .left()
                .into_iter()
                .filter(|left| (left.key.workload.as_str(), left.key.profile.as_str()) == (grid.workload, grid.profile))
                .map(|left| {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                    status.set_message("not run: the run ended before");
                    let mut case = TestCase::new(format!("{} -> {}", left.key.source, left.key.target), status);
                    case.set_classname(left.key.workload.clone());
                    case
                }),
        );
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn case(cell: &CellRecord) -> TestCase {
    let key = &cell.plan.key;
    let reason = format!("{}: {}", word(cell), cell.title);
    let status = match standing(cell) {
        Standing::Passed => TestCaseStatus::success(),
        Standing::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(cell.title.clone());
            status
        }
        Standing::Failed | Standing::Broken => {
            let broken = standing(cell) == Standing::Broken;
            let kind = if broken { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_type(cell.outcome.word()).set_message(reason.clone()).set_description(details(cell));
            status
        }
    };
    let mut case = TestCase::new(format!("{} -> {}", key.source, key.target), status);
    case.set_classname(key.workload.clone()).set_time(Duration::from_micros(cell.duration_us));
    if let (Standing::Passed, Some(expected)) = (standing(cell), &cell.plan.expectation) {
        case.set_system_out(format!("{reason}\nexpected: {}: {}", expected.outcome, expected.reason));
    }
    case
}

fn details(cell: &CellRecord) -> String {
    let mut lines = vec![format!("decided in {}, {}", cell.phase, cell.status)];
    let broken = cell.probes.iter().filter(|probe| !probe.held);
    lines.extend(broken.map(|it| format!("{}: expected {}, observed {}", it.name, it.expected, it.observed)));
    lines.extend(cell.findings.iter().map(|it| format!("{} {}: {}", it.side, it.kind, it.text)));
    lines.push(format!("evidence: {}", cell.folder));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
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
        assert!(xml.contains("type=\"lost\"") && xml.contains("message=\"crashed: Kernel panic"), "{xml}");
        assert!(xml.contains("KHO: &lt;script&gt;alert(1)"), "{xml}");
    }
}
