//! Reads the output of a program line by line, and keeps no more of it than what decides: numbers, and a bounded list of results.

use super::line::{Line, Test, TestResult, is_version, line};
use super::words::{self, Totals};

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The text of the test, or its number; a nested one has its place before it.
    pub(super) name: String,
    pub(super) result: TestResult,
    pub(super) why: String,
}

/// Something that contradicts the rest of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: &'static str,
    pub(super) expected: String,
    pub(super) observed: String,
}

/// How many results are listed by name. The others are counted.
const LISTED: usize = 128;
/// How many failures, and how many problems, are listed at least.
const LISTED_FAILURES: usize = 64;
/// How many characters of a text are kept.
const LONGEST: usize = 240;
/// How deep results can be nested; deeper ones count as those of this depth.
const DEEPEST: usize = 16;

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) known: u64,
    pub(super) known_passed: u64,
    pub(super) broken: u64,
}

impl Counts {
    fn of(result: TestResult) -> Self {
        let mut counts = Self::default();
        let one = match result {
            TestResult::Ok => &mut counts.passed,
            TestResult::NotOk => &mut counts.failed,
            TestResult::Skipped => &mut counts.skipped,
            TestResult::Known => &mut counts.known,
            TestResult::KnownPassed => &mut counts.known_passed,
            TestResult::Broken => &mut counts.broken,
        };
        *one = 1;
        counts
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.known += other.known;
        self.known_passed += other.known_passed;
        self.broken += other.broken;
    }

    pub(super) fn all(self) -> u64 {
        self.passed + self.failed + self.skipped + self.known + self.known_passed + self.broken
    }

    pub(super) fn bad(self) -> u64 {
        self.failed + self.broken
    }
}

/// What a list of results has said, with all that is nested in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    pub(super) records: Vec<Record>,
    /// The results without tests of their own: a test that has some passes by them.
    pub(super) counts: Counts,
    /// Failures that are not among the records.
    pub(super) further_failures: u64,
    pub(super) problems: Vec<Problem>,
    /// Why a plan of no tests was made.
    pub(super) skipped_all: Option<String>,
}

impl Results {
    fn record(&mut self, record: Record) {
        let is_bad = matches!(record.result, TestResult::NotOk | TestResult::Broken);
        let room = if is_bad { LISTED + LISTED_FAILURES } else { LISTED };
        if self.records.len() < room {
            self.records.push(record);
        } else if is_bad {
            self.further_failures += 1;
        }
    }

    fn problem(&mut self, what: &'static str, expected: impl ToString, observed: impl ToString) {
        if self.problems.len() < LISTED_FAILURES {
            self.problems.push(Problem { what, expected: expected.to_string(), observed: observed.to_string() });
        }
    }

    /// Takes over what was nested.
    fn take(&mut self, nested: Self) {
        nested.records.into_iter().for_each(|record| self.record(record));
        self.counts.add(nested.counts);
        self.further_failures += nested.further_failures;
        let room = LISTED_FAILURES.saturating_sub(self.problems.len());
        self.problems.extend(nested.problems.into_iter().take(room));
        if self.skipped_all.is_none() {
            self.skipped_all = nested.skipped_all;
        }
    }

    /// The failures became known ones, since the test that they belong to is known to fail.
    fn excuse(&mut self) {
        self.records.retain(|record| !matches!(record.result, TestResult::NotOk | TestResult::Broken));
        self.counts.known += self.counts.bad();
        (self.counts.failed, self.counts.broken, self.further_failures) = (0, 0, 0);
    }
}

/// A list of results at one depth.
#[derive(Debug, Default)]
struct Level {
    indent: usize,
    plan: Option<u64>,
    /// The number of the last test.
    last: u64,
    /// The results of this list alone, for its plan and its totals.
    own: Counts,
    results: Results,
    /// The list that is nested in the next test.
    nested: Option<Results>,
}

impl Level {
    fn test(&mut self, place: &str, test: Test<'_>) {
        let expected = self.last.saturating_add(1);
        let number = test.number.unwrap_or(expected);
        if number != expected {
            self.results.problem("number of a test", expected, number);
        }
        self.last = number;
        self.own.add(Counts::of(test.result));
        let mut record = Record {
            name: match (place, test.text) {
                ("", "") => number.to_string(),
                ("", text) => shortened(text),
                (place, "") => format!("{place}.{number}"),
                (place, text) => format!("{place}.{number} {}", shortened(text)),
            },
            result: test.result,
            why: shortened(test.why),
        };
        let is_something =
            |nested: &Results| nested.counts.all() > 0 || nested.skipped_all.is_some() || !nested.problems.is_empty();
        let Some(mut nested) = self.nested.take().filter(is_something) else {
            self.results.counts.add(Counts::of(test.result));
            return self.results.record(record);
        };
        match test.result {
            TestResult::Known | TestResult::KnownPassed => nested.excuse(),
            TestResult::NotOk | TestResult::Broken if nested.counts.bad() == 0 => {
                self.results.counts.add(Counts::of(test.result));
            }
            // It passed, and its own tests decide whether anything ran.
            TestResult::Ok if nested.counts.bad() > 0 => {
                record.why = format!("ok, and {} of its tests failed", nested.counts.bad());
                record.result = TestResult::Broken;
                self.results.counts.add(Counts::of(record.result));
            }
            TestResult::Ok | TestResult::Skipped | TestResult::NotOk | TestResult::Broken => {}
        }
        self.results.take(nested);
        self.results.record(record);
    }

    fn plan(&mut self, count: u64, why: &str) {
        if let Some(before) = self.plan.replace(count) {
            self.results.problem("plan", "one", format!("1..{before} and 1..{count}"));
        }
        if count == 0 {
            let why = if why.is_empty() { "a plan of no tests".to_owned() } else { shortened(why) };
            self.results.skipped_all = Some(why);
        }
    }

    fn totals(&mut self, said: Totals) {
        let Counts { passed, failed, skipped, known, known_passed, broken } = self.own;
        let seen =
            Totals { pass: passed, fail: failed, xfail: known, xpass: known_passed, skip: skipped, error: broken };
        if said.fail + said.error > 0 || said != seen {
            let expected = if said == seen { "no failure".to_owned() } else { seen.to_string() };
            self.results.problem("totals", expected, said);
        }
    }

    /// The end of the list.
    fn close(mut self) -> Results {
        if let Some(nested) = self.nested.take() {
            self.results.take(nested);
        }
        if let Some(plan) = self.plan {
            let ran = self.own.all();
            if ran != plan {
                self.results.problem("number of tests", plan, ran);
            }
        }
        self.results
    }
}

/// What the whole output has said.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) results: Results,
    /// How many tests the program planned, and how many ran.
    pub(super) plan: Option<(u64, u64)>,
    /// The first line with which it gave up.
    pub(super) bailed_out: Option<String>,
    /// The first line that says in words that it passed.
    pub(super) passed: Option<String>,
    /// The first line that says in words that a test failed.
    pub(super) failed: Option<String>,
    /// The first line with `FAIL`.
    pub(super) has_fail: Option<String>,
    /// Its last comment, and its last line.
    pub(super) step: Option<String>,
    pub(super) last: Option<String>,
}

/// Reads lines.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// From the outermost to the innermost list; the first always is there once a result was seen.
    levels: Vec<Level>,
    /// The prefix of comments that are the output of a nested program, as the kernel's run_kselftest.sh prints it.
    quoted: bool,
    summary: Summary,
}

impl Reader {
    pub(super) fn line(&mut self, whole: &str) {
        let text = whole.trim_end();
        if text.trim().is_empty() {
            return;
        }
        self.summary.last = Some(shortened(text.trim_start()));
        let trimmed = text.trim_start_matches([' ', '\t']);
        let indent = text.len() - trimmed.len();
        // `# TAP version 13` begins the output of a program in the comments of another.
        if let Some(quoted) = trimmed.strip_prefix("# ") {
            let inner = quoted.trim_start_matches([' ', '\t']);
            self.quoted |= is_version(inner);
            if self.quoted && !matches!(line(inner), Line::Comment(_) | Line::Text(_)) {
                return self.structured(indent + 2 + (quoted.len() - inner.len()), line(inner), quoted);
            }
            if self.quoted
                && let Some(comment) = inner.strip_prefix('#')
            {
                return self.words(comment.trim(), true, indent + 2, whole);
            }
        }
        match line(trimmed) {
            Line::Comment(comment) => {
                self.summary.step =
                    Some(shortened(comment)).filter(|step| !step.is_empty()).or(self.summary.step.take());
                self.words(comment, true, indent, whole);
            }
            Line::Text(text) => self.words(text, false, indent, whole),
            structured => {
                // What is not nested ends a nested program.
                self.quoted = false;
                self.structured(indent, structured, trimmed);
            }
        }
    }

    fn structured(&mut self, indent: usize, line: Line<'_>, text: &str) {
        match line {
            Line::Version => {
                let level = self.level(indent);
                // Another list at the same depth begins.
                if level.plan.is_some() || level.own.all() > 0 || level.nested.is_some() {
                    let ended = std::mem::replace(level, Level { indent, ..Level::default() }).close();
                    level.results.take(ended);
                }
            }
            Line::Plan { count, why } => self.level(indent).plan(count, why),
            Line::Test(test) => {
                // Words that are indented are no result, unless they are among results.
                let is_known = indent == 0 || self.levels.iter().any(|level| level.indent == indent);
                if !is_known && test.number.is_none() && test.result == TestResult::Ok {
                    return;
                }
                self.level(indent);
                let outer = self.levels.len() - 1;
                let place: Vec<String> =
                    self.levels[..outer].iter().map(|level| level.last.saturating_add(1).to_string()).collect();
                if let Some(level) = self.levels.last_mut() {
                    level.test(&place.join("."), test);
                }
            }
            Line::BailOut => {
                self.summary.bailed_out.get_or_insert_with(|| shortened(text));
            }
            Line::Comment(_) | Line::Text(_) => {}
        }
    }

    fn words(&mut self, text: &str, is_comment: bool, indent: usize, whole: &str) {
        if let Some(totals) = words::totals(text).filter(|_| is_comment) {
            return self.level(indent).totals(totals);
        }
        let said = words::said(text, is_comment);
        let note = |place: &mut Option<String>, is: bool| {
            if is && place.is_none() {
                *place = Some(shortened(whole.trim()));
            }
        };
        note(&mut self.summary.passed, said.passed);
        note(&mut self.summary.failed, said.failed);
        note(&mut self.summary.has_fail, said.has_fail);
    }

    /// The list with this indentation. Deeper ones end, and belong to the next test of the one that they are nested in.
    fn level(&mut self, indent: usize) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.indent > indent) {
            if let Some(ended) = self.levels.pop().map(Level::close)
                && let Some(outer) = self.levels.last_mut()
            {
                outer.nested.get_or_insert_default().take(ended);
            }
        }
        let is_deeper = self.levels.last().is_some_and(|level| level.indent < indent);
        if is_deeper && self.levels.len() < DEEPEST {
            self.levels.push(Level { indent, ..Level::default() });
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    pub(super) fn end(mut self) -> Summary {
        self.level(0);
        if let Some(outermost) = self.levels.pop() {
            self.summary.plan = outermost.plan.map(|plan| (plan, outermost.own.all()));
            self.summary.results = outermost.close();
        }
        self.summary
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
