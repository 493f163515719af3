//! Prompts in guests: real kernels, real QEMU, a real terminal.

use crate::common::{NEW, OLD, assert_nothing_left, luqual, machines, text};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Gives these lines to a prompt.
fn piped(folder: &Path, words: &[&str], lines: &str) -> Output {
    let mut command = luqual(folder);
    command.arg("shell").args(words).args(["--report-dir", "logs"]);
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    shell.wait_with_output().unwrap()
}

#[test]
fn lines_are_commands_in_a_source_and_in_the_target_that_it_is_left_for() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "cat /proc/sys/kernel/osrelease\npreserve memfd.basic 5\nload\nkexec\ncat /proc/sys/kernel/osrelease\n\
                 retrieve memfd.basic 5\nverify memfd.basic\nfinish memfd.basic\nnonsense\nexit\ncat /proc/version\n";
    let output = piped(folder.path(), &[OLD], lines);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    // Nobody named a target: it is updated to itself.
    assert_eq!(said.matches("7.2.12\n").count(), 2, "{}", text(&output));
    assert!(said.contains("passed  memfd 64m content: expected ") && !said.contains("FAILED"), "{}", text(&output));
    assert!(!said.contains("Linux version"), "it went on after exit: {}", text(&output));
    assert!(text(&output).contains("nonsense: "), "{}", text(&output));
    assert!(fs::read_to_string(folder.path().join("logs/console.log")).unwrap().contains("Linux version 7.2.12"));
    assert_nothing_left(folder.path());
}

#[test]
fn a_prompt_stands_in_the_target_before_any_phase() {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        "cat /proc/sys/kernel/osrelease\nverify memfd.basic\nfinish memfd.basic\nbusybox echo a 'b  c'\ntaint\n";
    let more = ["--at", "verify", "--add", "/bin/busybox"];
    let output = piped(folder.path(), &[&[OLD, NEW], &more[..]].concat(), lines);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(said.starts_with("7.3.4\npassed  memfd "), "{}", text(&output));
    // Five memfds: offset, size, content.
    assert!(said.contains("15 probes"), "{}", text(&output));
    assert!(said.ends_with("\na b  c\n0\n"), "{}", text(&output));
    assert_nothing_left(folder.path());
}

#[test]
fn a_kernel_that_panics_under_the_prompt_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "/bin/luqual-agent panic\ntaint\n";
    let output = piped(folder.path(), &[OLD, NEW, "--at", "kexec"], lines);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = text(&output);
    assert!(told.contains(" crashed: ") && told.contains(" logs"), "{told}");
    assert_nothing_left(folder.path());
}

/// A luqual at a terminal of its own.
struct SessionInput {
    terminal: File,
    peer: File,
    said: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl SessionInput {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        unlockpt(&terminal).unwrap();
        let peer = File::from(ioctl_tiocgptpeer(&terminal, flags).unwrap());
        let terminal = File::from(terminal);
        let (say, said) = mpsc::channel();
        let mut from = terminal.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes)
                && say.send(bytes[..length].to_vec()).is_ok()
            {}
        });
        let session_input = Self { terminal, peer, said, seen: String::new() };
        session_input.resize(80);
        session_input
    }

    fn resize(&self, columns: u16) {
        tcsetwinsize(&self.peer, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows this; what it showed up to there is looked at no more.
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + Duration::from_secs(180);
        loop {
            if let Some(place) = self.seen.find(text) {
                self.seen.drain(..place + text.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{text}` is not in: {}", self.seen),
            }
        }
    }

    /// Whether it echoes and gathers lines, as terminals do.
    fn is_cooked(&self) -> bool {
        tcgetattr(&self.peer).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

#[test]
fn a_terminal_is_the_guests_until_the_prompt_ends_and_then_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut session_input = SessionInput::new();
    let stream = || Stdio::from(session_input.peer.try_clone().unwrap());
    // The terminal's size is told to those whose own it is.
    let program = luqual(folder.path()).get_program().to_owned();
    let mut shell = Command::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(program)
        .args(["shell", OLD, NEW, "--at", "kexec", "--add", "/bin/busybox", "--report-dir", "logs"])
        .current_dir(folder.path())
        .env("LUQUAL_WORK_DIR", folder.path().join("w"))
        .env("TERM", "xterm")
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .unwrap();
    session_input.sees("7.2.12 source> ");
    assert!(!session_input.is_cooked());
    // What is typed comes back by the guest's terminal, and once.
    session_input.types("taint\r");
    session_input.sees("taint\r\n0\r\n7.2.12 source> ");
    session_input.types("verif\x03");
    session_input.sees("^C\r\n7.2.12 source> ");
    session_input.types("busybox sleep 600\r");
    session_input.sees("sleep 600\r\n");
    thread::sleep(Duration::from_secs(1));
    session_input.types("\x03");
    session_input.sees("signal 2\r\n7.2.12 source> ");
    session_input.types("busybox sh\r");
    session_input.sees("# ");
    session_input.types("echo $TERM; stty size\r");
    session_input.sees("xterm\r\n24 80\r\n");
    session_input.resize(97);
    session_input.types("sleep 1; stty size\r");
    session_input.sees("24 97\r\n");
    session_input.types("exit\r");
    session_input.sees("7.2.12 source> ");
    session_input.types("kexec\r");
    session_input.sees("7.3.4 target> ");
    session_input.types("retrieve memfd.basic\r");
    session_input.sees("passed\r\n7.3.4 target> ");
    session_input.types("\x04");
    assert_eq!(shell.wait().unwrap().code(), Some(0), "{}", session_input.seen);
    assert!(session_input.is_cooked());
    assert_nothing_left(folder.path());
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut session_input = SessionInput::new();
    let stream = || Stdio::from(session_input.peer.try_clone().unwrap());
    let mut command = luqual(folder.path());
    command.args(["shell", NEW]).stdin(stream()).stdout(stream()).stderr(stream());
    let mut shell = command.spawn().unwrap();
    session_input.sees("7.3.4 source> ");
    assert_eq!(machines(folder.path()).len(), 1);
    assert!(!session_input.is_cooked());
    let pid = rustix::process::Pid::from_child(&shell);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(130));
    assert!(session_input.is_cooked());
    assert_nothing_left(folder.path());
}

#[test]
fn gdb_reads_either_kernel_by_its_own_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = luqual(folder.path());
    command.args(["shell", OLD, NEW, "--at", "verify", "--gdb", "--console", "--report-dir", "logs"]);
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"verify memfd.basic\n").unwrap();
    // What is to be typed is typed, with two looks at what the kernels say of themselves.
    let mut told = BufReader::new(shell.stderr.take().unwrap());
    let mut typed: Vec<String> = Vec::new();
    while !typed.iter().any(|line| line.starts_with("  file ")) || typed.len() < 9 {
        let mut line = String::new();
        assert!(told.read_line(&mut line).unwrap() > 0, "{typed:?}");
        if line.starts_with("  ") {
            typed.push(line);
        }
    }
    let rest = thread::spawn(move || {
        let mut text = String::new();
        told.read_to_string(&mut text).unwrap();
        text
    });
    let first = shlex::split(&typed[0]).unwrap();
    let mut gdb = Command::new(&first[0]);
    gdb.args(["-batch", "-nx", "-iex", "set debuginfod enabled off"]).args(&first[1..]);
    let mut started = 0;
    for line in &typed[1..] {
        gdb.args(["-ex", line.trim()]);
        if line.trim() == "continue" {
            started += 1;
            // At the second one the source is about to leave.
            if started != 2 {
                gdb.args(["-ex", "info registers rip", "-ex", "x/s (char *)&linux_banner"]);
            }
        }
    }
    let output = gdb.stdin(Stdio::null()).output().unwrap();
    let seen = text(&output);
    for name in ["Linux version 7.2.12 ", "Linux version 7.3.4 "] {
        assert_eq!(seen.matches(name).count(), 1, "{seen}");
    }
    assert_eq!(seen.matches("<start_kernel>").count(), 2, "{seen}");
    // gdb has let go of it: it goes on.
    let output = shell.wait_with_output().unwrap();
    let console = rest.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{console}");
    assert!(text(&output).contains("15 probes"), "{}\n{console}", text(&output));
    let lines: Vec<&str> = console.lines().filter(|line| line.contains("Linux version ")).collect();
    assert_eq!(lines.len(), 2, "{console}");
    let log = fs::read_to_string(folder.path().join("logs/console.log")).unwrap();
    assert!(lines.iter().all(|line| log.contains(line)));
    assert_nothing_left(folder.path());
}
