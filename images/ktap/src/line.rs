//! One line of TAP 13, TAP 14 or KTAP. Pure.

/// A line with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `TAP version 14`, `KTAP version 1`: results begin.
    Version,
    /// `1..3`, `1..0 # SKIP why`.
    Plan { count: u64, why: &'a str },
    /// `ok 1 - text`, `not ok 2 text # TODO why`.
    Test(Test<'a>),
    /// `Bail out! why`.
    BailOut,
    /// `# text`.
    Comment(&'a str),
    /// Anything else.
    Text(&'a str),
}

/// A line with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test<'a> {
    pub(super) number: Option<u64>,
    pub(super) text: &'a str,
    pub(super) result: TestResult,
    /// What stands behind the directive.
    pub(super) why: &'a str,
}

/// The result of a test, by its first words and its directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestResult {
    Ok,
    NotOk,
    /// `# SKIP`: by KTAP `ok` and `not ok` mean the same then.
    Skipped,
    /// `not ok # TODO`, or `# XFAIL`: a failure that is known.
    Known,
    /// `ok # TODO`, `ok # XPASS`: a known failure that did not happen.
    KnownPassed,
    /// `# TIMEOUT` or `# ERROR`, whose `ok` would contradict it.
    Broken,
}

/// Reads a line without its indentation.
pub(super) fn line(text: &str) -> Line<'_> {
    let text = text.trim_end();
    if is_version(text) {
        return Line::Version;
    }
    if let Some(plan) = plan(text) {
        return plan;
    }
    if let Some(rest) = words_after(text, "not ok") {
        return Line::Test(test(rest, false));
    }
    if let Some(rest) = words_after(text, "ok") {
        return Line::Test(test(rest, true));
    }
    if text.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("Bail out!")) {
        return Line::BailOut;
    }
    text.strip_prefix('#').map_or(Line::Text(text), |comment| Line::Comment(comment.trim()))
}

/// Whether the line begins the results of a program or, indented or in a comment, of a nested one.
pub(super) fn is_version(text: &str) -> bool {
    let number = text.strip_prefix('K').unwrap_or(text).strip_prefix("TAP version ");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What stands behind these words, if they are whole.
fn words_after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    text.strip_prefix(words).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])).map(str::trim)
}

fn plan(text: &str) -> Option<Line<'_>> {
    let rest = text.strip_prefix("1..")?;
    let (count, behind) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let why = behind.trim().trim_start_matches('#').trim();
    // A number that is too large is a plan that no program keeps.
    is_number.then(|| Line::Plan { count: count.parse().unwrap_or(u64::MAX), why: without_skip(why).unwrap_or(why) })
}

/// `skip`, `SKIPPED:` and the like: TAP 13 asks for the stem alone.
fn without_skip(text: &str) -> Option<&str> {
    let is_skip = text.get(..4).is_some_and(|stem| stem.eq_ignore_ascii_case("skip"));
    is_skip.then(|| text.split_once([' ', '\t', ':']).map_or("", |(_, why)| why.trim()))
}

fn test(rest: &str, is_ok: bool) -> Test<'_> {
    let (first, behind) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    let (number, rest) = if is_number { (Some(first.parse().unwrap_or(u64::MAX)), behind) } else { (None, rest) };
    let (text, directive) = directive(rest);
    let (result, why) = match directive {
        None => (if is_ok { TestResult::Ok } else { TestResult::NotOk }, ""),
        Some((Directive::Skip, why)) => (TestResult::Skipped, why),
        Some((Directive::Xfail, why)) => (TestResult::Known, why),
        Some((Directive::Todo, why)) => (if is_ok { TestResult::KnownPassed } else { TestResult::Known }, why),
        Some((Directive::Xpass, why)) => (TestResult::KnownPassed, why),
        Some((Directive::Broken, why)) => (TestResult::Broken, why),
    };
    let text = text.trim().strip_prefix('-').unwrap_or(text).trim();
    Test { number, text, result, why }
}

enum Directive {
    Skip,
    Todo,
    Xfail,
    Xpass,
    /// TIMEOUT, ERROR.
    Broken,
}

/// Parts a description from its directive and the reason behind that. A `#` without a directive belongs to the description, as
/// do an escaped one (TAP 14) and one inside of a word.
fn directive(rest: &str) -> (&str, Option<(Directive, &str)>) {
    for (place, _) in rest.match_indices('#') {
        let is_apart = place == 0 || rest[..place].ends_with([' ', '\t']);
        let behind = rest[place + 1..].trim_start();
        let (word, why) = behind.split_once([' ', '\t']).unwrap_or((behind, ""));
        let known = match word.to_ascii_uppercase().as_str() {
            "TODO" => Directive::Todo,
            "XFAIL" => Directive::Xfail,
            "XPASS" => Directive::Xpass,
            "TIMEOUT" | "ERROR" => Directive::Broken,
            _ if without_skip(behind).is_some() => Directive::Skip,
            _ => continue,
        };
        if is_apart {
            return (&rest[..place], Some((known, why.trim())));
        }
    }
    (rest, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<u64>, &str, TestResult, &str) {
        let Line::Test(Test { number, text, result, why }) = line(text) else { panic!("{text}") };
        (number, text, result, why)
    }

    /// Lines of the TAP 13 and 14 specifications, Documentation/dev-tools/ktap.rst, kselftest.h and ktap_helpers.sh.
    #[test]
    fn a_result_has_a_number_a_text_and_a_directive() {
        use TestResult::{Broken, Known, KnownPassed, NotOk, Ok, Skipped};
        let table = [
            ("ok", (None, "", Ok, "")),
            ("not ok", (None, "", NotOk, "")),
            ("ok But a line may omit a number", (None, "But a line may omit a number", Ok, "")),
            ("ok 1 test_case_name", (Some(1), "test_case_name", Ok, "")),
            ("not ok 12 - b", (Some(12), "b", NotOk, "")),
            ("ok 5 check return code # rcode=0", (Some(5), "check return code # rcode=0", Ok, "")),
            ("ok 1 test # SKIP necessary dependency", (Some(1), "test", Skipped, "necessary dependency")),
            ("not ok 1 test # SKIP", (Some(1), "test", Skipped, "")),
            ("ok 8 Tests can be # skipped as the stem", (Some(8), "Tests can be", Skipped, "as the stem")),
            ("ok 9 - # skip: is valid", (Some(9), "", Skipped, "is valid")),
            ("ok 2 # SKIP no device", (Some(2), "", Skipped, "no device")),
            ("not ok 4 a. # TODO not yet", (Some(4), "a.", Known, "not yet")),
            ("ok 6 - Another # toDO is not case sensitive", (Some(6), "Another", KnownPassed, "is not case sensitive")),
            ("not ok 5 # TODO: needs a space", (Some(5), "# TODO: needs a space", NotOk, "")),
            ("ok 3 # XFAIL as known", (Some(3), "", Known, "as known")),
            ("not ok 3 a # XFAIL", (Some(3), "a", Known, "")),
            ("ok 3 # XPASS it works", (Some(3), "", KnownPassed, "it works")),
            ("not ok 1 test # TIMEOUT 30 seconds", (Some(1), "test", Broken, "30 seconds")),
            ("ok 1 test # TIMEOUT 30 seconds", (Some(1), "test", Broken, "30 seconds")),
            ("not ok 3 # error no memory", (Some(3), "", Broken, "no memory")),
            (r"ok 7 - a \# SKIP b", (Some(7), r"a \# SKIP b", Ok, "")),
            ("ok 7 room#SKIP # skip full", (Some(7), "room#SKIP", Skipped, "full")),
            ("ok 99999999999999999999 a", (Some(u64::MAX), "a", Ok, "")),
        ];
        for (text, right) in table {
            assert_eq!(read(text), right, "{text}");
        }
    }

    #[test]
    fn other_lines_are_known_by_their_first_words() {
        let plan = |count, why| Line::Plan { count, why };
        let table = [
            ("TAP version 13", Line::Version),
            ("KTAP version 1", Line::Version),
            ("TAP version 13 and more", Line::Text("TAP version 13 and more")),
            ("1..4", plan(4, "")),
            ("1..0 # SKIP no device", plan(0, "no device")),
            ("1..0 # Skipped: WWW::Mechanize not installed", plan(0, "WWW::Mechanize not installed")),
            ("1..0 # not here", plan(0, "not here")),
            ("1..x", Line::Text("1..x")),
            ("1..", Line::Text("1..")),
            ("1..3abc", Line::Text("1..3abc")),
            ("okay", Line::Text("okay")),
            ("ok: fine", Line::Text("ok: fine")),
            ("not okay", Line::Text("not okay")),
            ("Bail out! no device", Line::BailOut),
            ("Bail out!", Line::BailOut),
            ("No Bail out! in the middle", Line::Text("No Bail out! in the middle")),
            ("# text ", Line::Comment("text")),
            ("#", Line::Comment("")),
            ("", Line::Text("")),
            ("„Bail‟", Line::Text("„Bail‟")),
        ];
        for (text, right) in table {
            assert_eq!(line(text), right, "{text}");
        }
    }
}
