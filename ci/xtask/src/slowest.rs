//! The tests that took longest, by the JUnit file that nextest writes.

use quick_junit::Report;
use std::path::Path;
use std::time::Duration;

const SHOWN: usize = 10;

/// In words, for the end of the output. Without such a file there is nothing to tell: nextest said why.
pub(crate) fn told(junit: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(junit) else { return Vec::new() };
    match slowest(&text) {
        Ok(tests) => {
            let lines = tests.iter().map(|(took, name)| format!("  {:>7.1} s  {name}", took.as_secs_f64()));
            std::iter::once("== the slowest tests:".to_owned()).chain(lines).collect()
        }
        Err(why) => vec![format!("== {} cannot be read: {why}", junit.display())],
    }
}

fn slowest(junit: &str) -> Result<Vec<(Duration, String)>, String> {
    let report = Report::deserialize_from_str(junit).map_err(|error| error.to_string())?;
    let mut tests: Vec<(Duration, String)> = Vec::new();
    for suite in &report.test_suites {
        for case in &suite.test_cases {
            tests.push((case.time.unwrap_or_default(), format!("{} {}", suite.name.as_str(), case.name.as_str())));
        }
    }
    tests.sort_by(|one, other| other.cmp(one));
    tests.truncate(SHOWN);
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_slowest_come_first() {
        let case = |number: usize| format!("<testcase name=\"t{number}\" classname=\"b\" time=\"{number}.500\"/>");
        let cases: String = (0..12).map(case).collect();
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><testsuites name=\"n\" tests=\"12\" failures=\"0\" errors=\"0\">\
             <testsuite name=\"b\" tests=\"12\" disabled=\"0\" errors=\"0\" failures=\"0\">{cases}</testsuite></testsuites>"
        );
        let tests = slowest(&text).unwrap();
        assert_eq!(tests.len(), SHOWN);
        assert_eq!(tests[0], (Duration::from_millis(11_500), "b t11".to_owned()));
        assert_eq!(tests[9].1, "b t2");
        assert!(slowest("no XML").is_err());
    }
}
