//! Runs another person's program once, apart from the agent ([`crate::sandbox`]), and keeps what it prints.

use crate::sandbox;
use luqual_ktap::{End, Judge, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many bytes of the output are kept at each end.
const KEPT: usize = 128 << 10;

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    pub(crate) output: BothEnds,
    /// The process that is around the program, while others that the program has left behind are still there.
    pub(crate) around: Child,
}

/// Runs the program of a workload to its end, or kills it with all of its processes after `limit`. Processes that it leaves behind
/// go on, and can print.
pub(crate) fn run(path: &str, arguments: &[&str], limit: Duration) -> Result<Ended, String> {
    finish(sandbox::command(path, arguments), limit).map_err(|why| format!("{path}: {why}"))
}

/// Runs a command that prints to its standard output, and to its standard error how it ended ([`sandbox::report`]).
fn finish(mut command: Command, limit: Duration) -> Result<Ended, String> {
    let (mut output, theirs) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    let (mut report, of_report) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    let child = command.current_dir("/").stdin(Stdio::null()).stdout(theirs).stderr(of_report).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    // It has the writing ends, which would never be closed.
    drop(command);
    let (mut judge, mut kept) = (Judge::default(), BothEnds::default());
    let mut said = String::new();
    let until = Instant::now().checked_add(limit);
    let mut bytes = vec![0; 64 << 10];
    let mut is_open = true;
    let in_time = loop {
        let mut events = vec![PollFd::new(&report, PollFlags::IN)];
        if is_open {
            events.push(PollFd::new(&output, PollFlags::IN));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
        match poll(&mut events, timeout.as_ref()) {
            Ok(0) => break false,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(format!("poll: {errno}")),
        }
        let happened: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        if happened.get(1) == Some(&true) {
            let length = output.read(&mut bytes).map_err(|error| format!("its output: {error}"))?;
            is_open = length > 0;
            judge.read(&bytes[..length]);
            kept.add(&bytes[..length]);
        }
        if happened[0] {
            let length = report.read(&mut bytes).map_err(|error| format!("its end: {error}"))?;
            said += &String::from_utf8_lossy(&bytes[..length]);
            if length == 0 || said.ends_with('\n') {
                break true;
            }
        }
        // A program that never stops printing is stopped all the same.
        if until.is_some_and(|until| Instant::now() > until) {
            break false;
        }
    };
    if !in_time {
        child.kill().and_then(|()| child.wait()).map_err(|error| format!("kill: {error}"))?;
    }
    // What was printed before the end is in the pipe by now. What is left behind may print without an end.
    let in_pipe = if is_open { ioctl_fionread(&output).map_err(|errno| format!("its output: {errno}"))? } else { 0 };
    let mut rest = vec![0; usize::try_from(in_pipe).unwrap_or_default()];
    output.read_exact(&mut rest).map_err(|error| format!("its output: {error}"))?;
    judge.read(&rest);
    kept.add(&rest);
    discard(output);
    let end = match in_time {
        true => sandbox::ended(&said).ok_or_else(|| format!("it was not run: {}", said.trim_end()))?,
        false => End::TimedOut(limit.as_secs()),
    };
    Ok(Ended { verdict: judge.end(end), output: kept, around: child })
}

/// Reads on and forgets: whoever is left behind must neither wait for room in the pipe nor be killed for printing.
fn discard(mut output: PipeReader) {
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}

/// The first and the last bytes of an output.
#[derive(Default)]
pub(crate) struct BothEnds {
    first: Vec<u8>,
    last: VecDeque<u8>,
    /// How many bytes in between are not kept.
    pub(crate) cut: u64,
}

impl BothEnds {
    fn add(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT - self.first.len()));
        self.first.extend(first);
        self.last.extend(rest);
        let over = self.last.len().saturating_sub(KEPT);
        self.last.drain(..over);
        self.cut += over as u64;
    }

    /// The lines that are kept, and one in between that says how much is not.
    pub(crate) fn lines(&self) -> Vec<String> {
        let last: Vec<u8> = self.last.iter().copied().collect();
        let lines = |bytes: &[u8]| -> Vec<String> {
            String::from_utf8_lossy(bytes).lines().map(|line| line.trim_end().to_owned()).collect()
        };
        if self.cut == 0 {
            return lines(&[&self.first[..], &last].concat());
        }
        let note = format!("({} bytes of output are not kept)", self.cut);
        [lines(&self.first), vec![note], lines(&last)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: u64) -> Result<Ended, String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        finish(command, Duration::from_secs(seconds))
    }

    #[test]
    fn a_program_is_run_to_its_end_and_its_output_is_read() {
        let ended = shell("echo '# a'; echo PASSED; echo exit 3 >&2", 60).unwrap();
        assert_eq!(ended.output.lines(), ["# a", "PASSED"]);
        assert_eq!(ended.verdict.stopped(), Some(End::Exit(3)));
        assert_eq!(shell("echo signal 9 >&2", 60).unwrap().verdict.stopped(), Some(End::Signal(9)));
        // What it leaves behind is not waited for, and may print.
        let begun = Instant::now();
        assert_eq!(shell("(sleep 60; echo x) & echo exit 0 >&2; exit", 60).unwrap().verdict.stopped(), None);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(
            finish(Command::new("/nowhere"), Duration::from_secs(1)).is_err_and(|why| why.starts_with("No such file"))
        );
        assert_eq!(shell("echo mount: EPERM >&2", 60).map(drop).unwrap_err(), "it was not run: mount: EPERM");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        for script in ["exec sleep 60", "while :; do echo x; done"] {
            assert_eq!(shell(script, 1).unwrap().verdict.stopped(), Some(End::TimedOut(1)), "{script}");
        }
    }

    #[test]
    fn both_ends_are_kept_and_all_is_judged() {
        let script = "i=0; while [ $i -lt 9000 ]; do echo '# a line of forty characters, more or less.'; i=$((i+1)); done; \
                      echo 'ok 1 all'; echo exit 0 >&2";
        let ended = shell(script, 60).unwrap();
        let lines = ended.output.lines();
        assert_eq!(ended.output.cut, 9000 * 44 + 9 - 2 * KEPT as u64);
        assert!(lines.iter().any(|line| line == "(133865 bytes of output are not kept)"), "{}", ended.output.cut);
        assert_eq!(lines.last().map(String::as_str), Some("ok 1 all"));
        assert!(ended.verdict.probes("-s 2", true).iter().all(|probe| probe.passed));
    }
}
