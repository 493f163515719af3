//! The guest's console: every line with the host's time, kept up to a bound, read for what matters.

use crate::follow::Follow;
use crate::scan::Scanner;
use luqual_model::{Finding, Side};
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

/// Bytes of the log's head that are kept; as many of its tail are.
const HALF: usize = 8 << 20;
/// A line that does not end is cut here.
const LONGEST_LINE: usize = 16 << 10;

/// A console that is being read. Reading ends with QEMU.
#[derive(Clone)]
pub struct Console {
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
}

impl Console {
    /// Reads `stream` into the file at `log`; times are relative to `started`.
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

    /// Reads a file that QEMU writes until it is `gone`.
    pub(crate) fn follow(raw: &Path, gone: Arc<AtomicBool>, log: &Path, started: Instant) -> std::io::Result<Self> {
        let (console, mut feed) = Self::fed(log, started)?;
        let mut follow = Follow::open(raw)?;
        tokio::spawn(async move {
            loop {
                // Once it is gone, what is there is all.
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

    /// A console that is written into the file at `log`, and by what it is fed.
    pub fn fed(log: &Path, started: Instant) -> std::io::Result<(Self, Feed)> {
        let state = Arc::new(Mutex::new(State::new(File::create(log)?, HALF)));
        let (changed, changes) = watch::channel(0);
        Ok((Self { state: state.clone(), changes }, Feed { state, changed, started }))
    }

    /// What was found so far.
    pub fn findings(&self) -> Vec<Finding> {
        lock(&self.state).scanner.findings().to_vec()
    }

    /// Waits until `line` was seen in a line for the `times`-th time.
    pub async fn saw(&self, line: &str, times: usize) {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            if lock(&self.state).recent.iter().filter(|recent| recent.contains(line)).count() >= times {
                return;
            }
            if changes.changed().await.is_err() {
                // QEMU is gone, and with it the chance to see it; its end is somebody else's to tell.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the `number`-th kernel begins to speak.
    pub async fn began(&self, number: u32) {
        let mut changes = self.changes.clone();
        if changes.wait_for(|_| lock(&self.state).scanner.kernels() >= number).await.is_err() {
            // Whether it is the end of QEMU is somebody else's to tell.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the first byte.
    pub async fn spoke(&self) {
        let mut changes = self.changes.clone();
        if changes.wait_for(|count| *count > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until nothing came for `quiet`, or QEMU is gone, but not longer than `at_most`.
    pub async fn drain(&self, quiet: Duration, at_most: Duration) {
        let mut changes = self.changes.clone();
        let drained = async {
            // A quiet of zero waits for the end of the stream alone.
            let quiet = if quiet.is_zero() { at_most } else { quiet };
            while let Ok(Ok(())) = tokio::time::timeout(quiet, changes.changed()).await {}
        };
        let _ = tokio::time::timeout(at_most, drained).await;
    }

    /// Has each line told as it comes, as the log has it.
    pub fn tell(&self, to: fn(&str)) {
        lock(&self.state).told = Some(to);
    }

    /// Says which kernel speaks from now on, where the host knows it better than the console's banner.
    pub fn set_side(&self, side: Side) {
        lock(&self.state).scanner.set_side(side);
    }
}

/// Where what was read goes; the console ends with it.
pub struct Feed {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    started: Instant,
}

impl Feed {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes what the guest has written.
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
    /// Bytes that are kept of the head, and of the tail.
    half: usize,
    written: usize,
    tail: VecDeque<String>,
    tail_length: usize,
    left_out: u64,
    partial: Vec<u8>,
    lines: u64,
    recent: VecDeque<String>,
    scanner: Scanner,
    /// To whom each line is told.
    told: Option<fn(&str)>,
}

/// How many lines back [`Console::saw`] looks: more than the guest prints while the host is busy.
const RECENT: usize = 4096;

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
            scanner: Scanner::default(),
            told: None,
        }
    }

    fn take(&mut self, bytes: &[u8], now_us: u64) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            for part in text.chunks(LONGEST_LINE) {
                if self.partial.len() + part.len() > LONGEST_LINE {
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
        self.recent.push_back(text);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// The head goes to the file at once; the tail is kept in memory until the end.
    fn keep(&mut self, line: String) {
        if self.written + line.len() <= self.half && self.tail.is_empty() {
            self.written += line.len();
            // Evidence beside the record: a full disk is told by the record itself.
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

/// A line as text: without carriage returns and escape sequences, and with what is not UTF-8 replaced.
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
            control if control.is_control() => clean.push('\u{fffd}'),
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

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (mut state, _file) = state();
        state.take(&vec![b'x'; 3 * LONGEST_LINE + 5], 0);
        assert!(state.lines >= 3);
        assert!(state.partial.len() <= LONGEST_LINE);
    }
}
