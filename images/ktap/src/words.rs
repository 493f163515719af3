//! What a program says of its tests in words, beside TAP: summaries with numbers, `PASSED`, `FAIL`. Pure.

/// What a line says of the program's tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `PASSED`, with no number of zero.
    pub(super) passed: bool,
    /// A summary that counts failures, or a line that begins with `FAIL`. It counts whatever else the program prints.
    pub(super) failed: bool,
    /// `FAIL` or `NOT PASSED` anywhere. It counts for a program that prints no TAP.
    pub(super) has_fail: bool,
}

/// What kselftest.h and ktap_helpers.sh print at the end: `Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) pass: u64,
    pub(super) fail: u64,
    pub(super) xfail: u64,
    pub(super) xpass: u64,
    pub(super) skip: u64,
    pub(super) error: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pass, fail, xfail, xpass, skip, error } = self;
        write!(f, "pass:{pass} fail:{fail} xfail:{xfail} xpass:{xpass} skip:{skip} error:{error}")
    }
}

/// The numbers of a comment that is such a summary.
pub(super) fn totals(comment: &str) -> Option<Totals> {
    let mut totals = Totals::default();
    for pair in comment.strip_prefix("Totals:")?.split_whitespace() {
        let (name, count) = pair.split_once(':')?;
        let count = count.parse().ok()?;
        match name {
            "pass" => totals.pass = count,
            "fail" => totals.fail = count,
            "xfail" => totals.xfail = count,
            "xpass" => totals.xpass = count,
            "skip" => totals.skip = count,
            "error" => totals.error = count,
            _ => {}
        }
    }
    Some(totals)
}

const PASS: [&str; 5] = ["pass", "passed", "passes", "succeeded", "ok"];
const FAIL: [&str; 4] = ["fail", "failed", "failure", "failures"];
const TESTS: [&str; 8] = ["test", "tests", "case", "cases", "check", "checks", "subtest", "subtests"];

/// Reads a line that is no TAP; `is_comment` if it came behind a `#`.
pub(super) fn said(text: &str, is_comment: bool) -> Said {
    let words = words(text);
    let is = |place: usize, list: &[&str]| {
        words.get(place).is_some_and(|word| list.contains(&word.text.to_ascii_lowercase().as_str()))
    };
    let number = |place: usize| words.get(place).and_then(|word| word.text.parse::<u64>().ok());
    // `3 failed`, `3 tests failed`, `3 test(s) failed`; a letter of its own is the plural's.
    let before = |place: usize| {
        let mut at = place.checked_sub(1)?;
        while at > 0 && (is(at, &TESTS) || is(at, &["s"])) {
            at -= 1;
        }
        Some((number(at)?, at + 1 < place))
    };
    // `failed: 3`, `FAILED=3`.
    let after = |place: usize| {
        let is_pair = words.get(place).is_some_and(|word| word.is_pair);
        number(place + 1).filter(|_| is_pair)
    };
    let has_pass =
        (0..words.len()).any(|place| is(place, &PASS) && (before(place).is_some() || after(place).is_some()));
    let mut said = Said::default();
    for place in (0..words.len()).filter(|place| is(*place, &FAIL)) {
        let word = words[place].text;
        let is_loud = word.bytes().all(|byte| byte.is_ascii_uppercase());
        let counted = before(place).or_else(|| Some((after(place)?, place == 0)));
        let is_zero = counted.is_some_and(|(count, _)| count == 0);
        let is_summary = is_loud || has_pass || word.to_ascii_lowercase().starts_with("failure");
        if let Some((1.., of_tests)) = counted {
            said.failed |= is_summary || of_tests;
        }
        said.has_fail |= is_loud && !is_zero;
        said.failed |= is_loud && !is_zero && place == 0 && !is_comment;
    }
    // `FAILED: 2 / 3 tests passed.` of kselftest_harness.h: the number is of those that passed.
    said.failed |= is(0, &["failed"]) && words.iter().any(|word| word.text == "/") && has_word(&words, "passed");
    let zero_of = |place: usize| before(place).is_some_and(|(count, _)| count == 0) || after(place) == Some(0);
    for place in (0..words.len()).filter(|place| words[*place].text == "PASSED") {
        let is_denied = place.checked_sub(1).is_some_and(|at| words[at].text.eq_ignore_ascii_case("not"));
        said.has_fail |= is_denied;
        said.passed |= !is_denied && !zero_of(place);
    }
    said.passed &= !said.failed && !said.has_fail;
    said
}

fn has_word(words: &[Word<'_>], text: &str) -> bool {
    words.iter().any(|word| word.text.eq_ignore_ascii_case(text))
}

struct Word<'a> {
    text: &'a str,
    /// Whether a `:` or `=` follows, so that the next word is its value.
    is_pair: bool,
}

/// The words of a line: letters and digits, and each `/`.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut rest = text;
    while let Some(start) =
        rest.find(|letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '/' | ':' | '='))
    {
        rest = &rest[start..];
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end.max(1));
        match word {
            ":" | "=" => {
                if let Some(last) = words.last_mut() {
                    last.is_pair = true;
                }
            }
            _ => words.push(Word { text: word, is_pair: false }),
        }
        rest = behind;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_that_counts_failures_is_a_failure() {
        let failed = [
            "Summary: 0 PASSED, 3 FAILED",
            "1 passed, 2 failed",
            "Tests passed: 3, failed: 1",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
            "FAIL: session is gone",
            "[FAIL]\tregister 3",
            "[  FAILED  ] Luo.Session",
            "FAILED",
            "2 tests failed",
            "1 test(s) failed",
            "3 failures",
            "Failures: 2",
            "3 FAILED",
        ];
        for text in failed {
            assert_eq!(said(text, false), Said { failed: true, passed: false, ..said(text, false) }, "{text}");
        }
        for text in ["FAILED: 2 / 3 tests passed.", "FAILED: 0 / 3 tests passed.", "1 PASSED, 1 FAILED"] {
            assert!(said(text, true).failed, "{text}");
        }
    }

    #[test]
    fn words_about_failing_are_no_failure() {
        let good = [
            "3 passed, 0 failed",
            "0 failures",
            "Failures: 0",
            "ioctl failed: 22, as it has to",
            "write of 4096 failed as expected",
            "the kernel fails this",
            "failover is on",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
        ];
        for text in good {
            let said = said(text, false);
            assert!(!said.failed && !said.has_fail, "{text}: {said:?}");
        }
        for text in ["expect the ioctl to FAIL with EINVAL", "#            FAIL  global.a", "NOT PASSED"] {
            let said = said(text, true);
            assert!(!said.failed && said.has_fail && !said.passed, "{text}: {said:?}");
        }
    }

    #[test]
    fn only_a_number_above_zero_has_passed() {
        for text in ["PASSED", "--- SIMPLE KEXEC TEST PASSED ---", "3 PASSED, 0 FAILED", "PASSED: 3 / 3 tests passed."]
        {
            assert!(said(text, true).passed, "{text}");
        }
        for text in
            ["0 PASSED", "PASSED: 0 / 0 tests passed.", "NOT PASSED", "passed", "PASSEDX", "PASSED, 1 FAILED", ""]
        {
            assert!(!said(text, true).passed, "{text}");
        }
    }

    #[test]
    fn totals_are_read_as_kselftest_prints_them() {
        let right = Totals { pass: 1, fail: 2, xfail: 3, xpass: 4, skip: 5, error: 6 };
        assert_eq!(totals("Totals: pass:1 fail:2 xfail:3 xpass:4 skip:5 error:6"), Some(right));
        assert_eq!(right.to_string(), "pass:1 fail:2 xfail:3 xpass:4 skip:5 error:6");
        assert_eq!(totals("Totals: pass:x"), None);
        assert_eq!(totals("the totals"), None);
    }
}
