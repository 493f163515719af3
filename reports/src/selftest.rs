//! JUnit of a selftest: a suite for each kind of fault, a case for each fault.

use crate::junit::{text, without_skipped};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::io;
use std::time::Duration;

/// A fault that was injected on purpose, and what came of it.
pub struct TestedFault<'a> {
    /// `kind.case`.
    pub name: &'a str,
    /// What was observed, in one line.
    pub observed: String,
    /// Why it was not found as it has to be; `None` if it was.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// The results as JUnit XML. A fault that was not found exactly as it has to be is a failure.
pub fn selftest_junit(faults: &[TestedFault<'_>]) -> io::Result<String> {
    let mut report = Report::new("luqual selftest");
    let kind = |fault: &TestedFault<'_>| fault.name.split('.').next().unwrap_or_default().to_owned();
    let mut kinds: Vec<String> = faults.iter().map(kind).collect();
    kinds.sort();
    kinds.dedup();
    for name in kinds {
        let mut suite = TestSuite::new(name.clone());
        for fault in faults.iter().filter(|fault| kind(fault) == name) {
            let status = match &fault.failure {
                None => TestCaseStatus::success(),
                Some(why) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(text(why));
                    status
                }
            };
            let mut case = TestCase::new(fault.name, status);
            case.set_classname(format!("selftest.{name}")).set_time(fault.took).set_system_out(text(&fault.observed));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(io::Error::other).map(|xml| without_skipped(&xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_not_found_is_a_failure() {
        let fault = |name, failure: Option<&str>| TestedFault {
            name,
            observed: "lost, by `x`".to_owned(),
            failure: failure.map(str::to_owned),
            took: Duration::from_millis(1500),
        };
        let faults = [fault("memory.a", None), fault("size.b", Some("expected lost")), fault("memory.c", None)];
        insta::assert_snapshot!(selftest_junit(&faults).unwrap());
    }
}
