//! Runs steps, one after the other, and tells how long each took.

use crate::steps::{CiStep, Tier, Work};
use crate::{claims, slowest};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What the words in braces of a command stand for.
struct Words {
    target: PathBuf,
    tier: Tier,
    commit: String,
}

impl Words {
    fn new(tier: Tier) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
        let commit = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        Self { target, tier, commit }
    }

    fn fill(&self, word: &str) -> String {
        let target = self.target.display();
        word.replace("{luqual}", &format!("{target}/debug/luqual"))
            .replace("{release}", &format!("{target}/release/luqual"))
            .replace("{runs}", &format!("{target}/full/{}", self.commit))
            .replace("{profile}", self.tier.profile())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut words = words.iter().map(|word| self.fill(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

/// Runs the steps. The first that fails ends it; in the full tier, whose steps take hours, the others are run all the same.
pub(crate) fn run(steps: &[&CiStep], tier: Tier) -> ExitCode {
    let words = Words::new(tier);
    // Told once more before the closing line.
    let mut notes: Vec<String> = Vec::new();
    let mut closing: Vec<String> = Vec::new();
    let mut has_failed = false;
    let all = Instant::now();
    for CiStep { name, purpose, budget, work, .. } in steps {
        println!("== {name}: {purpose}");
        let started = Instant::now();
        let result = match work {
            Work::Command(command) => {
                words.command(command).status().map_err(|error| format!("{}: {error}", command.join(" "))).and_then(
                    |status| {
                        let told = || format!("{status}: {}", command.join(" "));
                        status.success().then_some(()).ok_or_else(told)
                    },
                )
            }
            Work::Tests(command) => {
                let (result, closing_lines) = tests(&words, command);
                notes.extend(slowest::told(&junit(tier)));
                closing = closing_lines;
                result
            }
            Work::Claims => claims_hold(),
            Work::Size(limit) => is_small(&words, *limit),
        };
        let took = started.elapsed();
        let late = over(took, *budget);
        match &result {
            Ok(()) => println!("== {name}: ok, {} s{late}", took.as_secs()),
            Err(why) => println!("== {name}: FAILED, {} s{late} ({why})", took.as_secs()),
        }
        if !late.is_empty() {
            notes.push(format!("== {name} took {} s{late}", took.as_secs()));
        }
        if let Err(why) = result {
            has_failed = true;
            notes.push(format!("== {name} FAILED ({why})"));
            if tier != Tier::Full {
                break;
            }
        }
    }
    for note in &notes {
        println!("{note}");
    }
    println!("== all: {} s", all.elapsed().as_secs());
    // What nextest said of itself at its end, word for word.
    for line in &closing {
        println!("{line}");
    }
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is said of a step that took longer than it should.
fn over(took: Duration, budget: u64) -> String {
    if took.as_secs() > budget { format!(", over its budget of {budget} s") } else { String::new() }
}

/// Where nextest writes what became of each test.
fn junit(tier: Tier) -> PathBuf {
    Path::new("target/nextest").join(tier.profile()).join("junit.xml")
}

/// Runs nextest; its last lines come back, from the summary on.
fn tests(words: &Words, command: &[&str]) -> (Result<(), String>, Vec<String>) {
    // An older file would tell of another run.
    let _ = std::fs::remove_file(junit(words.tier));
    let wrong = |error: io::Error| format!("{}: {error}", command.join(" "));
    let mut child = match words.command(command).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return (Err(wrong(error)), Vec::new()),
    };
    let closing_lines = child.stderr.take().map(|stderr| hold_back(BufReader::new(stderr), &mut io::stderr()));
    let result = child
        .wait()
        .map_err(wrong)
        .and_then(|status| if status.success() { Ok(()) } else { Err(format!("{status}: {}", command.join(" "))) });
    (result, closing_lines.unwrap_or_default())
}

/// Passes lines on until nextest's summary; that and what follows is returned.
fn hold_back(from: impl BufRead, to: &mut dyn Write) -> Vec<String> {
    let mut closing_lines = Vec::new();
    for line in from.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if closing_lines.is_empty() && !line.trim_start().starts_with("Summary [") {
            let _ = writeln!(to, "{line}");
        } else {
            closing_lines.push(line);
        }
    }
    closing_lines
}

fn claims_hold() -> Result<(), String> {
    let wrong = claims::wrong(&claims::root())?;
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} claims do not hold", wrong.len())) }
}

fn is_small(words: &Words, limit: u64) -> Result<(), String> {
    let file = words.fill("{release}");
    let length = std::fs::metadata(&file).map_err(|error| format!("{file}: {error}"))?.len();
    if length <= limit << 20 { Ok(()) } else { Err(format!("{file} has {} MiB, {limit} are allowed", length >> 20)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_and_what_follows_is_held_back() {
        let text = "    PASS [   0.1s] a\n------------\n     Summary [   0.1s] 1 test run: 1 passed\n        FAIL x\n";
        let mut passed = Vec::new();
        let closing_lines = hold_back(text.as_bytes(), &mut passed);
        assert_eq!(String::from_utf8(passed).unwrap(), "    PASS [   0.1s] a\n------------\n");
        assert_eq!(closing_lines, ["     Summary [   0.1s] 1 test run: 1 passed", "        FAIL x"]);
    }

    #[test]
    fn a_step_that_took_too_long_is_told() {
        assert_eq!(over(Duration::from_millis(10_900), 10), "");
        assert_eq!(over(Duration::from_secs(11), 10), ", over its budget of 10 s");
    }

    #[test]
    fn words_are_filled_in() {
        let words = Words { target: "t".into(), tier: Tier::Slurm, commit: "c".into() };
        let filled = ["{luqual}", "{release}", "{runs}/x", "{profile}"].map(|word| words.fill(word));
        assert_eq!(filled, ["t/debug/luqual", "t/release/luqual", "t/full/c/x", "slurm"]);
    }
}
