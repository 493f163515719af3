//! An interactive prompt: the host's requests as commands, and programs.

use crate::call::answer;
use luqual_protocol::{NotDone, PROGRAMS, PROMPT, Probe, Prompt, Reply, Request, Said, workloads};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::termios::isatty;
use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
preserve WORKLOAD [SEED]  preserve the state of a workload (in the source)
load                      load the next kernel, with the command line that luqual gives it
kexec                     kexec into the loaded kernel
retrieve WORKLOAD [SEED]  retrieve the preserved state (in the target)
verify WORKLOAD           compare the retrieved state with the preserved one
finish WORKLOAD           finish the sessions of the workload
workloads [PART]          list the workloads whose names contain PART
log                       print the kernel's log
taint                     print the kernel's taint flags
ls [PATH…], cat FILE…
PROGRAM [ARGUMENT…]       run a program by its path, or by its name if it was added (luqual shell --add)
exit                      end the session and the machine; Ctrl-D does the same
";

/// `luqual-agent shell`: shows a prompt, or runs one command line (`shell -c LINE`).
pub(crate) fn run() -> Result<(), String> {
    let prompt = match std::env::var(PROMPT) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{PROMPT}: {error}"))?,
        Err(_) => Prompt::default(),
    };
    let mut words = std::env::args().skip(2);
    match (words.next().as_deref(), words.next()) {
        (Some("-c"), Some(line)) => parse(&line, &prompt)?.map_or(Ok(()), act),
        (None, _) => converse(&prompt),
        _ => Err("usage: luqual-agent shell [-c LINE]".to_owned()),
    }
}

fn converse(prompt: &Prompt) -> Result<(), String> {
    if isatty(io::stdin()) {
        // The terminal sends Ctrl-C to the processes of its session.
        setsid()
            .and_then(|_| ioctl_tiocsctty(io::stdin()))
            .map_err(|errno| format!("the terminal cannot be controlled: {errno}"))?;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let label = format!("{} {}> ", release.trim_end(), prompt.side);
    let waits = Arc::new(AtomicBool::new(false));
    outlive_interrupts(label.clone(), waits.clone())?;
    loop {
        say(&label);
        let mut line = String::new();
        waits.store(true, Ordering::SeqCst);
        let read = io::stdin().lock().read_line(&mut line);
        waits.store(false, Ordering::SeqCst);
        match read {
            Ok(0) => {
                say("\n");
                return Ok(());
            }
            Ok(_) => {}
            // A line that is not UTF-8 is ignored.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            Err(error) => return Err(format!("standard input: {error}")),
        }
        match parse(&line, prompt) {
            Ok(Some(ShellCommand::Exit)) => return Ok(()),
            Ok(order) => {
                if let Err(why) = order.map_or(Ok(()), act) {
                    say(&format!("{why}\n"));
                }
            }
            Err(why) => say(&format!("{why}\n")),
        }
    }
}

/// Keeps the prompt alive on Ctrl-C, which still ends a program: execve(2) resets caught signals (signal(7)).
fn outlive_interrupts(label: String, waits: Arc<AtomicBool>) -> Result<(), String> {
    let failed = |error: io::Error| format!("signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let inside = runtime.enter();
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let _quits = signal(SignalKind::quit()).map_err(failed)?;
    drop(inside);
    std::thread::spawn(move || {
        runtime.block_on(async {
            while interrupts.recv().await.is_some() {
                // The terminal has discarded the input.
                if waits.load(Ordering::SeqCst) {
                    say(&format!("\n{label}"));
                }
            }
        });
    });
    Ok(())
}

/// Prints text. Errors are ignored: a client that is gone has closed the terminal.
fn say(text: &str) {
    let mut to = io::stdout();
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// A command.
#[derive(Debug, PartialEq, Eq)]
enum ShellCommand {
    Help,
    Workloads(String),
    Ask(Request),
    Log,
    Taint,
    List(Vec<String>),
    Print(Vec<String>),
    Program(Vec<String>),
    Exit,
}

/// Parses a command line; none if it is empty. Pure.
fn parse(line: &str, prompt: &Prompt) -> Result<Option<ShellCommand>, String> {
    let words = shlex::split(line).ok_or("a quote is not closed")?;
    let Some((first, rest)) = words.split_first() else { return Ok(None) };
    let order = match (first.as_str(), rest) {
        ("help", _) => ShellCommand::Help,
        ("workloads", []) => ShellCommand::Workloads(String::new()),
        ("workloads", [part]) => ShellCommand::Workloads(part.clone()),
        ("log", []) => ShellCommand::Log,
        ("taint", []) => ShellCommand::Taint,
        ("exit", []) => ShellCommand::Exit,
        ("ls", paths) => ShellCommand::List(paths.to_vec()),
        ("cat", paths @ [_, ..]) => ShellCommand::Print(paths.to_vec()),
        ("load", []) => {
            let load = prompt.load.clone();
            ShellCommand::Ask(load.ok_or("this guest has no kernel to load; see `luqual shell SOURCE TARGET`")?)
        }
        ("kexec", []) => ShellCommand::Ask(Request::Kexec),
        ("preserve", [workload, seed @ ..]) if seed.len() < 2 => ShellCommand::Ask(Request::Preserve {
            workload: workload.clone(),
            seed: seed_of(workload, seed, prompt)?,
            device: prompt.devices.get(workload).cloned(),
            limit_s: None,
        }),
        ("retrieve", [workload, seed @ ..]) if seed.len() < 2 => ShellCommand::Ask(Request::Retrieve {
            workload: workload.clone(),
            seed: seed_of(workload, seed, prompt)?,
            hop: prompt.hop,
            device: prompt.devices.get(workload).cloned(),
        }),
        ("verify", [workload]) => ShellCommand::Ask(Request::Verify { workload: workload.clone(), limit_s: None }),
        ("finish", [workload]) => ShellCommand::Ask(Request::Finish { workload: workload.clone() }),
        (
            word @ ("workloads" | "log" | "taint" | "exit" | "cat" | "load" | "kexec" | "preserve" | "retrieve"
            | "verify" | "finish"),
            _,
        ) => {
            let usage = HELP.lines().find(|line| line.split([' ', ',']).any(|it| it == word)).unwrap_or_default();
            return Err(format!("usage: {usage}"));
        }
        _ => ShellCommand::Program(words),
    };
    Ok(Some(order))
}

fn seed_of(workload: &str, given: &[String], prompt: &Prompt) -> Result<u64, String> {
    match given.first() {
        Some(text) => text.parse().map_err(|_| format!("`{text}` is not a seed; a seed is a number")),
        None => Ok(prompt.seeds.get(workload).copied().unwrap_or(prompt.seed)),
    }
}

fn act(order: ShellCommand) -> Result<(), String> {
    match order {
        ShellCommand::Help => say(HELP),
        ShellCommand::Workloads(part) => {
            let taken = workloads().filter(|workload| workload.name.contains(&part));
            taken.for_each(|workload| say(&format!("{:<40} {}\n", workload.name, workload.asserts)));
        }
        ShellCommand::Ask(request) => {
            let reply = answer(&request);
            let text = told(&reply);
            if !matches!(reply, Reply::Done { .. }) {
                return Err(text);
            }
            say(&text);
        }
        ShellCommand::Log => crate::facts::kernel_log()?.lines.iter().for_each(|line| say(&format!("{line}\n"))),
        ShellCommand::Taint => say(&format!("{}\n", crate::facts::kernel_log()?.taint)),
        ShellCommand::List(paths) => return list(&paths),
        ShellCommand::Print(paths) => {
            for path in paths {
                let mut file = fs::File::open(&path).map_err(|error| format!("{path}: {error}"))?;
                io::copy(&mut file, &mut io::stdout()).map_err(|error| format!("{path}: {error}"))?;
            }
        }
        ShellCommand::Program(words) => return program(&words),
        ShellCommand::Exit => {}
    }
    Ok(())
}

/// A reply as text for the user.
fn told(reply: &Reply) -> String {
    match reply {
        Reply::Done { said, taint } => {
            let taint = if *taint == 0 { String::new() } else { format!("; the kernel is tainted: {taint}") };
            format!("{}done: {}{taint}\n", probes(said), counted(said))
        }
        Reply::NotDone { why, said, .. } => {
            let why = match why {
                NotDone::Refused { call, errno, about } => format!("the kernel refused: {call}: {errno} ({about})"),
                NotDone::Missing { what } => format!("missing: {what}"),
                NotDone::Failed { message } => message.clone(),
            };
            probes(said) + &why
        }
        other => format!("{other:?}"),
    }
}

/// The probes of a step, a line each.
fn probes(said: &Said) -> String {
    let line = |it: &Probe| {
        let word = if it.passed { "passed" } else { "FAILED" };
        format!("{word}  {}: expected {}, observed {}\n", it.name, it.expected, it.observed)
    };
    said.probes.iter().map(line).collect()
}

fn counted(said: &Said) -> String {
    let failed = said.probes.iter().filter(|probe| !probe.passed).count();
    match (said.probes.len(), failed) {
        (0, _) => "nothing to check".to_owned(),
        (all, 0) => format!("{all} probes, all passed"),
        (all, failed) => format!("{all} probes, {failed} failed"),
    }
}

fn list(paths: &[String]) -> Result<(), String> {
    let here = ["/".to_owned()];
    for path in if paths.is_empty() { &here } else { paths } {
        let failed = |error: io::Error| format!("{path}: {error}");
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            say(&format!("{path}\n"));
            continue;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.push(format!("{}{}\n", entry.file_name().to_string_lossy(), if is_folder { "/" } else { "" }));
        }
        names.sort();
        say(&names.concat());
    }
    Ok(())
}

fn program(words: &[String]) -> Result<(), String> {
    let [name, arguments @ ..] = words else { return Ok(()) };
    let path = if name.contains('/') { PathBuf::from(name) } else { Path::new(PROGRAMS).join(name) };
    let environment = [("PATH", format!("{PROGRAMS}:/bin")), ("HOME", "/".to_owned())];
    let ran = Command::new(&path).args(arguments).envs(environment).env_remove(PROMPT).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ended(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{name}: no such command or program; `help` lists the commands"))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::{Kernel, Probe};

    fn prompt() -> Prompt {
        Prompt {
            side: "target".into(),
            hop: 1,
            seed: 7,
            seeds: [("memfd.basic".to_owned(), 11)].into(),
            devices: [("vfio.edu.idle".to_owned(), "0000:00:04.0".to_owned())].into(),
            load: None,
        }
    }

    fn order(line: &str) -> Result<ShellCommand, String> {
        parse(line, &prompt()).map(|order| order.unwrap())
    }

    #[test]
    fn requests_get_the_arguments_that_the_host_would_give() {
        let retrieve = |workload: &str, seed, device: Option<&str>| {
            let (workload, device) = (workload.to_owned(), device.map(str::to_owned));
            Ok(ShellCommand::Ask(Request::Retrieve { workload, seed, hop: 1, device }))
        };
        assert_eq!(order("retrieve memfd.basic"), retrieve("memfd.basic", 11, None));
        assert_eq!(order("retrieve memfd.basic 3"), retrieve("memfd.basic", 3, None));
        assert_eq!(order(" retrieve  vfio.edu.idle"), retrieve("vfio.edu.idle", 7, Some("0000:00:04.0")));
        assert_eq!(order("retrieve memfd.basic x"), Err("`x` is not a seed; a seed is a number".into()));
        assert_eq!(order("kexec"), Ok(ShellCommand::Ask(Request::Kexec)));
        assert_eq!(order("load"), Err("this guest has no kernel to load; see `luqual shell SOURCE TARGET`".into()));
        let load = Request::Load { kernel: Kernel::Target, carry: Vec::new(), command_line: "a b".into() };
        let carries = Prompt { load: Some(load.clone()), ..prompt() };
        assert_eq!(parse("load", &carries), Ok(Some(ShellCommand::Ask(load))));
    }

    #[test]
    fn an_unknown_command_is_a_program() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(order("busybox sh -c 'a b'"), Ok(ShellCommand::Program(words(&["busybox", "sh", "-c", "a b"]))));
        assert_eq!(order("ls"), Ok(ShellCommand::List(Vec::new())));
        assert_eq!(order("cat /a /b"), Ok(ShellCommand::Print(words(&["/a", "/b"]))));
        assert_eq!(parse(" \n", &prompt()), Ok(None));
        assert_eq!(order("cat 'x"), Err("a quote is not closed".into()));
    }

    #[test]
    fn a_misused_command_shows_its_usage() {
        assert_eq!(
            order("verify"),
            Err("usage: verify WORKLOAD           compare the retrieved state with the preserved one".into())
        );
        assert_eq!(order("cat"), Err("usage: ls [PATH…], cat FILE…".into()));
        for word in ["log", "taint", "exit", "load", "kexec"] {
            let told = order(&format!("{word} x")).unwrap_err();
            assert!(told.starts_with(&format!("usage: {word}")), "{told}");
        }
    }

    #[test]
    fn probes_are_shown_with_expected_and_observed_values() {
        let probes = vec![Probe::compare("size", 4096, 4096), Probe::compare("offset", 1, 2)];
        let reply = Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 };
        let text = "passed  size: expected 4096, observed 4096\nFAILED  offset: expected 1, observed 2\n\
                    done: 2 probes, 1 failed\n";
        assert_eq!(told(&reply), text);
    }
}
