//! Scans console lines for findings, incrementally, and joins lines that were split.
//!
//! Only messages of the kernel count, and only by how they begin, which is after the time stamp. Text within a
//! message (a command line, or text that a program writes to /dev/kmsg after its own name) and lines of programs
//! match nothing. Text that a program writes to /dev/kmsg without its name cannot be told from the kernel's messages.
//!
//! A kernel without CONFIG_PRINTK_TIME is recognised by its banner; each of its lines counts as a message.

mod classify;
mod function;
mod kept;

use classify::classify;
use function::Trace;
use kept::Kept;
use luqual_model::bounds::{self, cut};
use luqual_model::plain::one_line;
use luqual_model::{Finding, FindingKind, Side};

/// Scans lines one by one.
#[derive(Debug, Default)]
pub struct Scanner {
    findings: Kept,
    banners: u32,
    /// The number of kexecs before the kernel that prints.
    hop: u32,
    /// The last message with its time stamp, and the lines without one that followed; empty if it is too long.
    open: String,
    /// The kind of that message; its finding is then the last one.
    open_kind: Option<FindingKind>,
    /// Whether the previous line was a banner without a time stamp.
    bare_banner: bool,
    /// Whether the current kernel prints no time stamps.
    bare: bool,
    /// What is known of the function of the last finding.
    trace: Trace,
}

/// The longest joined message in bytes; its kind is at its start.
const LOOK_BACK: usize = 512;

const BANNER: &str = "Linux version ";

impl Scanner {
    /// The findings so far, in order.
    pub fn findings(&self) -> &[Finding] {
        self.findings.all()
    }

    /// The number of kernels that have printed their banner.
    pub(crate) fn kernels(&self) -> u32 {
        self.banners
    }

    /// The kernel that prints from now on runs after so many kexecs. The number only grows.
    pub fn set_hop(&mut self, hop: u32) {
        self.hop = self.hop.max(hop);
    }

    /// Scans a line with its number, which was read at `at_us`.
    pub fn take(&mut self, line: &str, number: u64, at_us: u64) {
        let place = ConsolePosition { line: number, at_us };
        let first = stamps(line).first().map_or(line.len(), |stamp| stamp.open);
        let (rest, stamped) = line.split_at(first);
        self.notice_bare_kernel(rest);
        if !rest.is_empty() {
            self.take_unstamped(rest, place);
        }
        for stamp in stamps(stamped) {
            let message = stamp.of(stamped);
            if message.starts_with(BANNER) {
                self.bare = false;
                self.banner();
            }
            self.begin(&stamped[stamp.open..stamp.end], message, place);
        }
        if self.open.len() > LOOK_BACK {
            self.open.clear();
        }
    }

    fn take_unstamped(&mut self, rest: &str, place: ConsolePosition) {
        if self.bare && classify(rest).is_some() {
            return self.begin(rest, rest, place);
        }
        if self.open.is_empty() && !self.bare {
            return;
        }
        // A message can be split anywhere, even in its time stamp: by printk of two processors, by a program on the
        // same terminal, or by lost bytes. A line without a time stamp may be the rest of the previous message.
        let whole = std::mem::take(&mut self.open) + rest;
        if self.bare {
            self.go_on(&whole, place);
            // A message can only continue the previous line, not earlier ones.
            self.open = rest.to_owned();
            return;
        }
        let stamps = stamps(&whole);
        for (nth, stamp) in stamps.iter().enumerate() {
            match nth {
                0 => self.go_on(stamp.of(&whole), place),
                _ => self.begin("", stamp.of(&whole), place),
            }
        }
        self.open = stamps.last().map_or_else(String::new, |last| whole[last.open..].to_owned());
    }

    /// Starts a new message.
    fn begin(&mut self, raw: &str, message: &str, place: ConsolePosition) {
        self.open = raw.to_owned();
        self.open_kind = classify(message);
        if let Some(kind) = self.open_kind {
            self.report(kind, message, place);
        } else if let (Some(function), Some(finding)) = (self.trace.take(message), self.findings.newest()) {
            finding.function = Some(function);
        }
    }

    /// Extends the open message, which may change its kind.
    fn go_on(&mut self, message: &str, place: ConsolePosition) {
        match (classify(message), self.open_kind) {
            (Some(kind), None) => self.report(kind, message, place),
            (Some(kind), Some(known)) if kind != known => {
                self.findings.change_newest(kind, text_of(message));
            }
            _ => return,
        }
        self.open_kind = classify(message);
    }

    fn report(&mut self, kind: FindingKind, message: &str, ConsolePosition { line, at_us }: ConsolePosition) {
        let (hop, text) = (self.hop, text_of(message));
        self.trace = Trace::after(kind);
        self.findings.add(Finding { kind, side: Side::after(hop), hop, at_us, line, text, function: None });
    }

    /// The first banner is the source's.
    fn banner(&mut self) {
        self.banners += 1;
        self.set_hop(self.banners - 1);
    }

    /// /proc/version has the text of the banner, too; only the kernel prints its command line after it.
    fn notice_bare_kernel(&mut self, line: &str) {
        if self.bare_banner && line.starts_with("Command line: ") {
            self.bare = true;
            self.banner();
        }
        self.bare_banner = line.starts_with(BANNER);
    }
}

/// The text of a finding.
fn text_of(message: &str) -> String {
    cut(one_line(message).trim_end(), bounds::FINDING)
}

/// The position and the time of a line.
#[derive(Clone, Copy)]
struct ConsolePosition {
    line: u64,
    at_us: u64,
}

/// The byte offsets of a time stamp, of the message after it, and of the message's end.
struct Stamp {
    open: usize,
    message: usize,
    end: usize,
}

impl Stamp {
    fn of<'a>(&self, line: &'a str) -> &'a str {
        line.get(self.message..self.end).unwrap_or_default()
    }
}

/// The time stamps in a line; there are several if a newline was lost.
fn stamps(line: &str) -> Vec<Stamp> {
    let mut stamps: Vec<Stamp> = Vec::new();
    for (open, _) in line.match_indices('[') {
        if let Some(length) = stamp(&line[open..]) {
            if let Some(before) = stamps.last_mut() {
                before.end = open;
            }
            stamps.push(Stamp { open, message: open + length, end: line.len() });
        }
    }
    stamps
}

/// The length of a stamp such as `[    1.234567][  T71] ` at the start of `text` (kernel/printk/printk.c,
/// info_print_prefix()).
fn stamp(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let close = close_of(inner)?;
    let (seconds, micros) = inner[..close].trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(micros) || micros.len() != 6 {
        return None;
    }
    let mut length = close + 2;
    // CONFIG_PRINTK_CALLER: [T123] a task, [C1] a processor.
    if let Some(caller) = text[length..].strip_prefix('[')
        && let Some(close) = close_of(caller)
        && caller[..close].trim_start().strip_prefix(['T', 'C']).is_some_and(digits)
    {
        length += close + 2;
    }
    Some(length + usize::from(text[length..].starts_with(' ')))
}

/// Where the bracket closes that was opened before `text`. A line of opening brackets would otherwise be searched to its
/// end for each of them.
fn close_of(text: &str) -> Option<usize> {
    const LONGEST: usize = 32;
    text.bytes().take(LONGEST).position(|byte| byte == b']')
}

#[cfg(test)]
mod tests;
