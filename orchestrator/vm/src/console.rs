//! Reads the guest's console: logs every line with the host's time, up to a limit, and scans it for findings.

use crate::follow::Follow;
use crate::scan::Scanner;
use luqual_model::Finding;
use luqual_model::bounds::{CONSOLE_HALF, CONSOLE_LINE, CONSOLE_RECENT};
use luqual_model::plain::is_unsafe;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

/// A console that is read until QEMU ends.
#[derive(Clone)]
pub struct Console {
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
}

impl Console {
    /// Logs `stream` into the file at `log`; times are relative to `started`.
    pub(crate) fn attach(mut stream: Receiver, log: &Path, started: Instant) -> std::io::Result<Self> {
        let (console, mut feed) = Self::fed(log, started)?;
        tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                feed.take(&bytes[..length]);
            }
        });
        Ok(console)
    }

    /// Logs a file that QEMU writes, until QEMU is `gone`.
    pub(crate) fn follow(raw: &Path, gone: Arc<AtomicBool>, log: &Path, started: Instant) -> std::io::Result<Self> {
        let (console, mut feed) = Self::fed(log, started)?;
        let mut follow = Follow::open(raw)?;
        tokio::spawn(async move {
            loop {
                // After QEMU has ended, the file is complete.
                let is_all = gone.load(Ordering::SeqCst);
                let more = follow.more();
                if !more.is_empty() {
                    feed.take(more);
                } else if is_all {
                    return;
                } else {
                    Follow::pause().await;
                }
            }
        });
        Ok(console)
    }

    /// A console that logs to `log`, and the feed that supplies it.
    pub fn fed(log: &Path, started: Instant) -> std::io::Result<(Self, Feed)> {
        let state = Arc::new(Mutex::new(State::new(File::create(log)?, CONSOLE_HALF)));
        let (changed, changes) = watch::channel(0);
        Ok((Self { state: state.clone(), changes }, Feed { state, changed, started }))
    }

    /// The findings so far.
    pub fn findings(&self) -> Vec<Finding> {
        lock(&self.state).scanner.findings().to_vec()
    }

    /// Waits until `text` was in a line for the `times`-th time. Lines are counted from the first call with this text
    /// on, and in the 4096 lines before.
    pub async fn saw(&self, text: &str, times: usize) {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            if lock(&self.state).count(text) >= times {
                return;
            }
            if changes.changed().await.is_err() {
                // QEMU has ended; another task reports that.
                return std::future::pending().await;
            }
        }
    }

    /// Waits for the first line of the `number`-th kernel.
    pub async fn began(&self, number: u32) {
        let mut changes = self.changes.clone();
        if changes.wait_for(|_| lock(&self.state).scanner.kernels() >= number).await.is_err() {
            // Another task reports the end of QEMU.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the first byte.
    pub async fn spoke(&self) {
        let mut changes = self.changes.clone();
        if changes.wait_for(|count| *count > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the console was quiet for `quiet` or QEMU has ended, but not longer than `at_most`.
    pub async fn drain(&self, quiet: Duration, at_most: Duration) {
        let mut changes = self.changes.clone();
        let drained = async {
            // A `quiet` of zero only waits for the end of the stream.
            let quiet = if quiet.is_zero() { at_most } else { quiet };
            while let Ok(Ok(())) = tokio::time::timeout(quiet, changes.changed()).await {}
        };
        let _ = tokio::time::timeout(at_most, drained).await;
    }

    /// Calls `to` with each line as it arrives, as the log has it.
    pub fn tell(&self, to: fn(&str)) {
        lock(&self.state).told = Some(to);
    }

    /// The kernel that prints from now on runs after so many kexecs. Kernels that print no banner are not noticed
    /// otherwise.
    pub fn set_hop(&self, hop: u32) {
        lock(&self.state).scanner.set_hop(hop);
    }
}

/// Supplies the console with bytes; the console ends when this is dropped.
pub struct Feed {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    started: Instant,
}

impl Feed {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds bytes that the guest has written.
    pub fn take(&mut self, bytes: &[u8]) {
        lock(&self.state).take(bytes, self.now_us());
        self.changed.send_modify(|count| *count += bytes.len() as u64);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        lock(&self.state).end(self.now_us());
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    log: File,
    /// The size of head and tail in bytes.
    half: usize,
    written: usize,
    tail: VecDeque<String>,
    tail_length: usize,
    left_out: u64,
    partial: Vec<u8>,
    lines: u64,
    /// The last lines, for the first search for a text.
    recent: VecDeque<String>,
    /// The number of lines with each awaited text.
    counts: Vec<(String, usize)>,
    scanner: Scanner,
    /// Gets each line.
    told: Option<fn(&str)>,
}

impl State {
    fn new(log: File, half: usize) -> Self {
        Self {
            log,
            half,
            written: 0,
            tail: VecDeque::new(),
            tail_length: 0,
            left_out: 0,
            partial: Vec::new(),
            lines: 0,
            recent: VecDeque::new(),
            counts: Vec::new(),
            scanner: Scanner::default(),
            told: None,
        }
    }

    fn take(&mut self, bytes: &[u8], now_us: u64) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            for part in text.chunks(CONSOLE_LINE) {
                if self.partial.len() + part.len() > CONSOLE_LINE {
                    self.line(now_us);
                }
                self.partial.extend_from_slice(part);
            }
            if ends {
                self.line(now_us);
            }
        }
    }

    fn line(&mut self, now_us: u64) {
        let text = clean(&std::mem::take(&mut self.partial));
        self.lines += 1;
        self.scanner.take(&text, self.lines, now_us);
        let line = format!("[{:>4}.{:06}] {text}\n", now_us / 1_000_000, now_us % 1_000_000);
        if let Some(tell) = self.told {
            tell(line.trim_end());
        }
        self.keep(line);
        for (watched, count) in &mut self.counts {
            *count += usize::from(text.contains(watched.as_str()));
        }
        self.recent.push_back(text);
        if self.recent.len() > CONSOLE_RECENT {
            self.recent.pop_front();
        }
    }

    /// The number of lines with `text`, which is counted from now on.
    fn count(&mut self, text: &str) -> usize {
        if let Some((_, count)) = self.counts.iter().find(|(watched, _)| watched == text) {
            return *count;
        }
        let count = self.recent.iter().filter(|line| line.contains(text)).count();
        self.counts.push((text.to_owned(), count));
        count
    }

    /// Logs a line: the head goes to the file at once, the tail is kept in memory until the end.
    fn keep(&mut self, line: String) {
        if self.written + line.len() <= self.half && self.tail.is_empty() {
            self.written += line.len();
            // Errors are ignored; a full disk also fails the record.
            let _ = self.log.write_all(line.as_bytes());
            return;
        }
        self.tail_length += line.len();
        self.tail.push_back(line);
        while self.tail_length > self.half
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_length -= oldest.len();
            self.left_out += 1;
        }
    }

    fn end(&mut self, now_us: u64) {
        if !self.partial.is_empty() {
            self.line(now_us);
        }
        if self.left_out > 0 {
            let _ = writeln!(self.log, "… {} lines left out here …", self.left_out);
        }
        for line in std::mem::take(&mut self.tail) {
            let _ = self.log.write_all(line.as_bytes());
        }
    }
}

/// A line as text: without carriage returns and escape sequences, and with a replacement for bytes that are not
/// UTF-8.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                // ESC [ … letter (ECMA-48); anything else is two characters long.
                if characters.next() == Some('[') {
                    let _ = characters.by_ref().find(char::is_ascii_alphabetic);
                }
            }
            '\r' => {}
            '\t' => clean.push(' '),
            other if is_unsafe(other) => clean.push('\u{fffd}'),
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const SMALL: usize = 4096;

    fn state() -> (State, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        (State::new(file.reopen().unwrap(), SMALL), file)
    }

    #[test]
    fn lines_get_the_hosts_time_and_lose_what_is_not_text() {
        let (mut state, mut file) = state();
        state.take(b"\x1b[0;31mone\r\ntw", 1_500_000);
        state.take(b"o\xff\nlast", 2_000_001);
        state.end(3_000_000);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[   1.500000] one\n[   2.000001] two\u{fffd}\n[   3.000000] last\n");
    }

    #[test]
    fn a_flood_keeps_its_head_and_its_tail() {
        let (mut state, mut file) = state();
        for number in 0..1000 {
            state.take(format!("line {number:>60}\n").as_bytes(), 0);
        }
        state.end(0);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text.len() <= 2 * SMALL + 100, "{}", text.len());
        assert!(text.contains(" 0\n") && text.ends_with(" 999\n") && text.contains("lines left out here"));
    }

    const READY: &str = "agent: listening";

    /// A console and what feeds it.
    fn console() -> (Console, Feed, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (console, feed) = Console::fed(file.path(), Instant::now()).unwrap();
        (console, feed, file)
    }

    async fn is_seen(console: &Console, times: usize) -> bool {
        tokio::time::timeout(Duration::ZERO, console.saw(READY, times)).await.is_ok()
    }

    /// What a kernel prints until its agent listens, and more than the console looks back.
    fn boot(feed: &mut Feed) {
        for number in 0..10_000 {
            feed.take(format!("[    1.{number:06}] probe {number}\n").as_bytes());
        }
        feed.take(format!("[    2.000000] {READY}\n").as_bytes());
    }

    #[tokio::test]
    async fn a_line_is_counted_however_far_the_ones_before_are_back() {
        let (console, mut feed, _log) = console();
        feed.take(format!("{READY}\nmore\n").as_bytes());
        assert!(is_seen(&console, 1).await && !is_seen(&console, 2).await);
        for times in 2..5 {
            boot(&mut feed);
            assert!(is_seen(&console, times).await, "{times}");
            assert!(!is_seen(&console, times + 1).await, "{times}");
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_line_is_woken_by_it() {
        let (console, mut feed, _log) = console();
        let waiting = tokio::spawn({
            let console = console.clone();
            async move { console.saw(READY, 3).await }
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            boot(&mut feed);
        }
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (mut state, _file) = state();
        state.take(&vec![b'x'; 3 * CONSOLE_LINE + 5], 0);
        assert!(state.lines >= 3);
        assert!(state.partial.len() <= CONSOLE_LINE);
    }
}
