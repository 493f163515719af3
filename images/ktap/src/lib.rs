//! Judges the output of other people's programs: TAP 13 and 14 (testanything.org), KTAP (Documentation/dev-tools/ktap.rst), and what
//! tools/testing/selftests/kselftest.h prints. It is read as a stream, so that the verdict does not depend on how much of it is kept.
//!
//! What contradicts itself fails: results that are fewer or more than planned, numbers out of order, totals that are not those of the
//! results, a failed test in one that passed, a summary with failures of a program that exits with 0.

mod line;
mod reader;
mod words;

use line::TestResult;
use luqual_protocol::Probe;
use reader::{Reader, Record, Summary};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It ran for longer than this many seconds, and was killed.
    TimedOut(u64),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut(seconds) => write!(f, "killed after {seconds} s"),
        }
    }
}

/// The exit status of a program that has tested nothing (tools/testing/selftests/kselftest.h, KSFT_SKIP).
const SKIPPED: i32 = 4;

/// The longest line that is read, in bytes. The rest of a longer one is not.
const LONGEST_LINE: usize = 4096;

/// Judges output that comes in pieces.
#[derive(Default)]
pub struct Judge {
    reader: Reader,
    line: Vec<u8>,
}

impl Judge {
    /// Reads the next bytes of the output.
    pub fn read(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE - self.line.len();
            self.line.extend(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.reader.line(&String::from_utf8_lossy(&line));
    }

    /// The verdict, when the program has ended.
    pub fn end(mut self, end: End) -> Verdict {
        self.end_line();
        Verdict { summary: self.reader.end(), end }
    }
}

/// What a program has said, and how it ended.
#[derive(Debug)]
pub struct Verdict {
    summary: Summary,
    end: End,
}

const OK: &str = "ok";
const PASSED: &str = "it passed";

impl Verdict {
    /// How a program ended that did not do what it was asked for: by another exit status than 0 and 4, a signal, or a `Bail out!`.
    pub fn stopped(&self) -> Option<End> {
        let is_well = matches!(self.end, End::Exit(0 | SKIPPED)) && self.summary.bailed_out.is_none();
        (!is_well).then_some(self.end)
    }

    /// Why all was skipped, if it was and nothing contradicts that.
    pub fn skipped(&self) -> Option<String> {
        let results = &self.summary.results;
        let counts = results.counts;
        let nothing_else = counts.all() == counts.skipped && self.summary.failed.is_none();
        let is_skip = match self.end {
            End::Exit(SKIPPED) => true,
            End::Exit(0) => results.problems.is_empty() && (counts.skipped > 0 || results.skipped_all.is_some()),
            End::Exit(_) | End::Signal(_) | End::TimedOut(_) => false,
        };
        if !is_skip || !nothing_else || self.summary.bailed_out.is_some() {
            return None;
        }
        let of_a_test = results.records.iter().find(|record| !record.why.is_empty()).map(|record| record.why.clone());
        let why = results.skipped_all.clone().or(of_a_test).or_else(|| self.summary.last.clone());
        Some(why.unwrap_or_else(|| self.end.to_string()))
    }

    /// The reason that the program gave for its end: the line with which it bailed out, or its last line.
    pub fn reason(&self) -> String {
        let last = || self.summary.last.clone();
        self.summary.bailed_out.clone().or_else(last).unwrap_or_else(|| "it printed nothing".to_owned())
    }

    /// The probes of a stage. In the last stage the program also has to say that it has passed. The probes `STAGE end` and, in
    /// the last stage, `STAGE says` are always there.
    pub fn probes(&self, stage: &str, is_last: bool) -> Vec<Probe> {
        let Summary { results, plan, failed, has_fail, .. } = &self.summary;
        let mut probes: Vec<Probe> = results.records.iter().map(|record| probe(stage, record)).collect();
        if results.further_failures > 0 {
            let failed = format!("{} failed", results.further_failures);
            probes.push(Probe::compare(format!("{stage} further tests"), "0 failed", failed));
        }
        let problems = results.problems.iter();
        probes.extend(problems.map(|it| Probe::compare(format!("{stage} {}", it.what), &it.expected, &it.observed)));
        // A plan that was not kept is among the problems.
        if let Some((planned, ran)) = plan.filter(|(planned, ran)| planned == ran) {
            probes.push(Probe::compare(format!("{stage} number of tests"), planned, ran));
        }
        let has_tests = results.counts.all() > 0;
        if let Some(line) = failed.as_ref().or(has_fail.as_ref().filter(|_| !has_tests)) {
            probes.push(Probe::compare(format!("{stage} summary"), "no failure", line));
        }
        let end = match (self.end, &self.summary.bailed_out, &self.summary.step) {
            (End::Exit(0), None, _) => self.end.to_string(),
            (_, None, Some(step)) if self.summary.last.as_ref().is_some_and(|last| !last.contains(step)) => {
                format!("{} after “{step}”: {}", self.end, self.reason())
            }
            _ => format!("{}: {}", self.end, self.reason()),
        };
        probes.push(Probe::compare(format!("{stage} end"), End::Exit(0), end));
        if is_last {
            probes.push(Probe::compare(format!("{stage} says"), PASSED, self.says()));
        }
        probes
    }

    /// Whether anything has passed: a check that tested nothing finds no fault.
    fn says(&self) -> String {
        let counts = self.summary.results.counts;
        match (counts.passed, self.skipped()) {
            (1.., _) => PASSED.to_owned(),
            (0, Some(why)) => format!("all was skipped: {why}"),
            (0, None) if counts.all() > 0 => "nothing passed: it skipped tests, or they failed as is known".to_owned(),
            (0, None) if self.summary.passed.is_some() => PASSED.to_owned(),
            (0, None) => "nothing of it".to_owned(),
        }
    }
}

/// A skipped test is no failure, and one that is known to fail is none, whether it failed or not. Each says what it was.
fn probe(stage: &str, record: &Record) -> Probe {
    let name = format!("{stage} test “{}”", record.name);
    let why = if record.why.is_empty() { String::new() } else { format!(": {}", record.why) };
    let excused = |expected: &str, observed: String| Probe {
        name: name.clone(),
        expected: expected.to_owned(),
        observed,
        passed: true,
    };
    match record.result {
        TestResult::Ok => Probe::compare(name, OK, OK),
        TestResult::NotOk => Probe::compare(name, OK, format!("not ok{why}")),
        TestResult::Broken => Probe::compare(name, OK, format!("an error{why}")),
        TestResult::Skipped => excused("ok or skipped", format!("skipped{why}")),
        TestResult::Known => excused("ok or known to fail", format!("failed as is known{why}")),
        TestResult::KnownPassed => excused("ok or known to fail", format!("ok, though known to fail{why}")),
    }
}

#[cfg(test)]
mod tests;
