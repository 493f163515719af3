//! Runs an external test program once, and reads its output by the rules of KTAP (Documentation/dev-tools/ktap.rst).

use luqual_protocol::Probe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The output of a program, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) lines: Vec<String>,
    pub(crate) end: End,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
    /// It ran for too long, and was killed.
    TimedOut,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => write!(f, "killed after {TIMEOUT_S} s"),
        }
    }
}

/// How many seconds a program may run: fewer than the host's default deadline of a phase.
const TIMEOUT_S: i64 = 25;

/// How many bytes of the output are read.
const OUTPUT_LIMIT: u64 = 256 << 10;

/// The exit status of a program that has tested nothing (tools/testing/selftests/kselftest.h, KSFT_SKIP).
pub(crate) const SKIPPED: i32 = 4;

/// Runs a program to its end. Processes that it leaves behind go on.
pub(crate) fn run(path: &Path, arguments: &[&str]) -> Result<Output, String> {
    let about = |what: &str| format!("{}: {what}", path.display());
    // A file, not a pipe: processes that are left behind may keep a pipe open.
    let mut output = File::from(
        memfd_create("output", MemfdFlags::CLOEXEC).map_err(|errno| about(&format!("memfd_create: {errno}")))?,
    );
    let stream = || output.try_clone().map(Stdio::from).map_err(|error| about(&error.to_string()));
    let mut command = Command::new(path);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(stream()?).stderr(stream()?);
    let mut child = command.spawn().map_err(|error| about(&error.to_string()))?;
    let ended = || -> rustix::io::Result<bool> {
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let mut events = [PollFd::new(&pidfd, PollFlags::IN)];
        poll(&mut events, Some(&Timespec { tv_sec: TIMEOUT_S, tv_nsec: 0 })).map(|ready| ready > 0)
    };
    let in_time = ended().map_err(|errno| about(&format!("pidfd: {errno}")))?;
    if !in_time {
        child.kill().map_err(|error| about(&error.to_string()))?;
    }
    let status = child.wait().map_err(|error| about(&error.to_string()))?;
    let end = match (in_time, status.code(), status.signal()) {
        (false, ..) => End::TimedOut,
        (true, Some(code), _) => End::Exit(code),
        (true, None, signal) => End::Signal(signal.unwrap_or_default()),
    };
    let mut bytes = Vec::new();
    output
        .rewind()
        .and_then(|()| output.take(OUTPUT_LIMIT).read_to_end(&mut bytes))
        .map_err(|error| about(&error.to_string()))?;
    let lines = String::from_utf8_lossy(&bytes).lines().map(|line| line.trim_end().to_owned()).collect();
    Ok(Output { lines, end })
}

/// A line with a meaning.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// `# text`: the next step.
    Step(&'a str),
    /// `ok 1 - text`, `not ok 1 - text`, `ok 1 - text # SKIP why`.
    Test { text: &'a str, result: &'static str },
    /// `1..3`.
    Plan(usize),
    /// Any line with `PASSED`, unless it has `NOT PASSED`.
    Passed,
    /// `Bail out! why`.
    BailOut,
}

fn line(text: &str) -> Option<Line<'_>> {
    if let Some(rest) = text.strip_prefix("not ok ") {
        return Some(Line::Test { text: description(rest), result: "not ok" });
    }
    if let Some(rest) = text.strip_prefix("ok ") {
        let skipped = rest.to_ascii_uppercase().contains("# SKIP");
        return Some(Line::Test { text: description(rest), result: if skipped { "skipped" } else { OK } });
    }
    if text.starts_with("Bail out!") {
        return Some(Line::BailOut);
    }
    if let Some(rest) = text.strip_prefix("1..") {
        let count = rest.split_whitespace().next().and_then(|word| word.parse().ok());
        return count.map(Line::Plan);
    }
    let step = text.strip_prefix('#').map(str::trim).filter(|step| !step.is_empty() && !step.starts_with("Totals:"));
    match step {
        _ if text.contains("PASSED") && !text.contains("NOT PASSED") => Some(Line::Passed),
        Some(step) => Some(Line::Step(step)),
        None => None,
    }
}

/// The description behind a test's number.
fn description(rest: &str) -> &str {
    rest.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start_matches([' ', '-'])
}

const OK: &str = "ok";
const DONE: &str = "done";

impl Output {
    /// The reason that the program gave for its end: the line with which it bailed out, or its last line.
    pub(crate) fn reason(&self) -> String {
        let last = || self.lines.iter().rev().find(|text| !text.is_empty());
        self.bailed_out().or_else(last).map_or_else(|| "it printed no KTAP".to_owned(), Clone::clone)
    }

    fn bailed_out(&self) -> Option<&String> {
        self.lines.iter().find(|text| line(text) == Some(Line::BailOut))
    }

    /// The probes of a stage. A step is done if the program has begun the next one, or has ended well. In the last stage the
    /// program also has to say that it has passed.
    pub(crate) fn probes(&self, stage: &str, is_last: bool) -> Vec<Probe> {
        let well = self.end == End::Exit(0) && self.bailed_out().is_none();
        let said: Vec<Line<'_>> = self.lines.iter().filter_map(|text| line(text)).collect();
        let last_step = said.iter().rposition(|line| matches!(line, Line::Step(_)));
        let mut probes: Vec<Probe> = said
            .iter()
            .enumerate()
            .filter_map(|(number, line)| match line {
                Line::Step(step) => {
                    let done = well || Some(number) != last_step;
                    let stopped = || self.bailed_out().map_or_else(|| self.end.to_string(), Clone::clone);
                    let observed = if done { DONE.to_owned() } else { stopped() };
                    Some(Probe::compare(format!("{stage} “{step}”"), DONE, observed))
                }
                Line::Test { text, result } => Some(Probe::compare(format!("{stage} test “{text}”"), OK, result)),
                Line::Plan(_) | Line::Passed | Line::BailOut => None,
            })
            .collect();
        let tests = said.iter().filter(|line| matches!(line, Line::Test { .. })).count();
        let planned = said.iter().find_map(|line| if let Line::Plan(count) = line { Some(*count) } else { None });
        if let Some(planned) = planned {
            probes.push(Probe::compare(format!("{stage} number of tests"), planned, tests));
        }
        let end = if well { self.end.to_string() } else { format!("{}: {}", self.end, self.reason()) };
        probes.push(Probe::compare(format!("{stage} end"), End::Exit(0), end));
        if is_last {
            let passed = tests > 0 || said.contains(&Line::Passed);
            let observed = if passed { "it passed" } else { "nothing of it" };
            probes.push(Probe::compare(format!("{stage} says"), "it passed", observed));
        }
        probes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str, end: End) -> Output {
        Output { lines: text.lines().map(str::to_owned).collect(), end }
    }

    fn broken(output: &Output) -> Vec<String> {
        let probes = output.probes("-s 2", true).into_iter().filter(|probe| !probe.passed);
        probes.map(|probe| format!("{}: {}", probe.name, probe.observed)).collect()
    }

    #[test]
    fn a_program_has_to_say_that_it_passed() {
        let text = "# [STAGE 2] Starting…\n# \n--- SIMPLE KEXEC TEST PASSED ---\n";
        assert_eq!(broken(&output(text, End::Exit(0))), Vec::<String>::new());
        let names: Vec<String> =
            output(text, End::Exit(0)).probes("-s 2", true).into_iter().map(|probe| probe.name).collect();
        assert_eq!(names, ["-s 2 “[STAGE 2] Starting…”", "-s 2 end", "-s 2 says"]);
        assert_eq!(broken(&output("", End::Exit(0))), ["-s 2 says: nothing of it"], "silence is no pass");
        assert_eq!(broken(&output("NOT PASSED", End::Exit(0))), ["-s 2 says: nothing of it"]);
        assert_eq!(
            broken(&output("ok 1 a\nBail out! no device\n", End::Exit(0))),
            ["-s 2 end: exit status 0: Bail out! no device"],
            "whoever gives up has not passed, whatever it exits with"
        );
        assert_eq!(broken(&output("PASSED", End::Exit(1))), ["-s 2 end: exit status 1: PASSED"]);
        assert_eq!(broken(&output("PASSED", End::TimedOut)), ["-s 2 end: killed after 25 s: PASSED"]);
    }

    #[test]
    fn the_last_step_of_a_program_that_failed_is_not_done() {
        let text = "# one\n# two\nBail out! [run:7] no session (errno: 2)\n# Totals: pass:0 fail:0\n";
        let why = "Bail out! [run:7] no session (errno: 2)";
        assert_eq!(
            broken(&output(text, End::Exit(1))),
            [
                format!("-s 2 “two”: {why}"),
                format!("-s 2 end: exit status 1: {why}"),
                "-s 2 says: nothing of it".to_owned()
            ]
        );
        assert_eq!(broken(&output("# one\n", End::Signal(11)))[0], "-s 2 “one”: signal 11");
        assert_eq!(output("", End::Signal(11)).reason(), "it printed no KTAP");
    }

    #[test]
    fn tests_are_counted_by_the_rules_of_ktap() {
        let text = "1..4\nok 1 - a\nnot ok 2 b\nok 3 c # SKIP no device\n";
        assert_eq!(
            broken(&output(text, End::Exit(0))),
            ["-s 2 test “b”: not ok", "-s 2 test “c # SKIP no device”: skipped", "-s 2 number of tests: 3"]
        );
        assert_eq!(broken(&output("1..1\nok 1 a\n", End::Exit(0))), Vec::<String>::new());
        assert_eq!(line("okay"), None);
        assert_eq!(line("1..x"), None);
    }

    #[test]
    fn a_program_is_run_to_its_end_and_its_output_is_read() {
        let output = run(Path::new("/bin/sh"), &["-c", "echo '# a'; echo PASSED >&2; exit 3"]).unwrap();
        assert_eq!(output, Output { lines: vec!["# a".into(), "PASSED".into()], end: End::Exit(3) });
        assert_eq!(run(Path::new("/bin/sh"), &["-c", "kill -9 $$"]).unwrap().end, End::Signal(9));
        // What it leaves behind is not waited for.
        assert_eq!(run(Path::new("/bin/sh"), &["-c", "sleep 60 & exit 0"]).unwrap().end, End::Exit(0));
        assert!(run(Path::new("/nowhere"), &[]).unwrap_err().starts_with("/nowhere: No such file"));
    }
}
