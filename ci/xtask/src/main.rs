//! `cargo xtask ci`: the steps of ci/test, once the toolchain is there.

use std::process::{Command, ExitCode};
use std::time::Instant;

/// A step: its name, what it is for, and the command.
struct Step {
    name: &'static str,
    purpose: &'static str,
    command: &'static [&'static str],
}

/// In this order; the first that fails ends it. The tests are last, so that their closing line is too.
const STEPS: &[Step] = &[
    Step {
        name: "scripts",
        purpose: "the shell scripts parse",
        command: &[
            "bash",
            "-c",
            // One at a time: what follows the first is its arguments.
            "for script; do bash -n \"$script\" || exit 1; done",
            "bash",
            "ci/quickstart",
            "ci/test",
            "ci/lib.sh",
            "ci/kernels",
            "ci/shard",
            "ci/merge",
            "ci/templates/check",
        ],
    },
    Step {
        name: "templates",
        purpose: "the templates for CI systems are valid by their schemas (the first time it needs PyPI)",
        command: &["ci/templates/check"],
    },
    Step { name: "fmt", purpose: "formatting", command: &["cargo", "fmt", "--all", "--check"] },
    Step {
        name: "clippy",
        purpose: "lints, warnings denied",
        command: &["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
    },
    Step {
        name: "deny",
        purpose: "licences, sources and bans (advisories need a network and are left to `cargo deny check advisories`)",
        command: &["cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
    },
    Step {
        name: "build",
        purpose: "luqual itself, optimised",
        command: &["cargo", "build", "--release", "--locked", "--quiet", "--package", "luqual"],
    },
    Step {
        name: "kernels",
        purpose: "the kernels of the end-to-end tests, built once and kept",
        command: &["target/release/luqual", "kernels", "build", "7.2.12", "7.3.4", "6.18.15"],
    },
    Step {
        name: "selftests",
        purpose: "the kernel's own programs, which are workloads",
        command: &["target/release/luqual", "selftests", "build", "7.3.4"],
    },
    Step {
        name: "test",
        purpose: "unit tests, and end-to-end tests on real kernels",
        command: &["cargo", "test", "--workspace", "--locked", "--release", "--quiet"],
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => run(STEPS.iter().collect()),
        ["ci", names @ ..] => {
            let steps: Vec<&Step> = STEPS.iter().filter(|step| names.contains(&step.name)).collect();
            if steps.len() == names.len() { run(steps) } else { usage() }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask ci [STEP…]\n\nsteps, in order:");
    for Step { name, purpose, .. } in STEPS {
        eprintln!("  {name:<9} {purpose}");
    }
    ExitCode::from(2)
}

fn run(steps: Vec<&Step>) -> ExitCode {
    for Step { name, purpose, command } in steps {
        println!("== {name}: {purpose}");
        let started = Instant::now();
        let status = command.split_first().map(|(program, arguments)| Command::new(program).args(arguments).status());
        match status {
            Some(Ok(status)) if status.success() => println!("== {name}: ok, {} s", started.elapsed().as_secs()),
            Some(Ok(status)) => {
                eprintln!("== {name}: FAILED ({status}): {}", command.join(" "));
                return ExitCode::FAILURE;
            }
            Some(Err(error)) => {
                eprintln!("== {name}: {} could not be started: {error}", command.join(" "));
                return ExitCode::FAILURE;
            }
            None => {}
        }
    }
    ExitCode::SUCCESS
}
