//! From console lines to findings: incremental, with a look-back over lines that were split.
//!
//! Only messages of the kernel count, and only by how they begin: what stands behind a time stamp. Text in the middle of a
//! message (a command line, what a program writes to /dev/kmsg behind its own name) and lines of programs match nothing.
//! What a program writes to /dev/kmsg without its name before it cannot be told from the kernel's words.
//!
//! A kernel without CONFIG_PRINTK_TIME is known by its banner: there every line counts as a message.

mod classify;

use classify::classify;
use luqual_model::{Finding, FindingKind, Side};

/// Reads lines one by one.
#[derive(Debug, Default)]
pub struct Scanner {
    findings: Vec<Finding>,
    banners: u32,
    side: Option<Side>,
    /// The last message with its stamp, and what followed it without one; empty when it is too long to be of use.
    open: String,
    /// What that message was taken for; its finding is then the last one.
    open_kind: Option<FindingKind>,
    /// Whether the line before was a banner without a stamp.
    bare_banner: bool,
    /// Whether the kernel that speaks writes no stamps.
    bare: bool,
}

/// A split message is put together up to this many bytes: its kind stands at its start.
const LOOK_BACK: usize = 512;

const BANNER: &str = "Linux version ";

impl Scanner {
    /// What was found so far, in order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many kernels have begun to speak.
    pub(crate) fn kernels(&self) -> u32 {
        self.banners
    }

    /// Says which kernel speaks from now on.
    pub fn set_side(&mut self, side: Side) {
        self.side = Some(side);
    }

    /// Takes the line with that number, read at `at_us`.
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
        // printk of two processors, a program on the same terminal, or bytes that were lost can cut a message anywhere,
        // in its stamp too: what has no stamp may be the rest of the message before.
        let whole = std::mem::take(&mut self.open) + rest;
        if self.bare {
            self.go_on(&whole, place);
            // What a message can be the rest of is the line before it, not all of them.
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

    /// A message that starts here.
    fn begin(&mut self, raw: &str, message: &str, place: ConsolePosition) {
        self.open = raw.to_owned();
        self.open_kind = classify(message);
        if let Some(kind) = self.open_kind {
            self.report(kind, message, place);
        }
    }

    /// The open message, longer than before: it may tell more now.
    fn go_on(&mut self, message: &str, place: ConsolePosition) {
        match (classify(message), self.open_kind) {
            (Some(kind), None) => self.report(kind, message, place),
            (Some(kind), Some(known)) if kind != known => {
                if let Some(finding) = self.findings.last_mut() {
                    (finding.kind, finding.text) = (kind, message.trim_end().to_owned());
                }
            }
            _ => return,
        }
        self.open_kind = classify(message);
    }

    fn report(&mut self, kind: FindingKind, message: &str, ConsolePosition { line, at_us }: ConsolePosition) {
        let (side, text) = (self.side.unwrap_or(Side::Source), message.trim_end().to_owned());
        self.findings.push(Finding { kind, side, at_us, line, text });
    }

    /// A kernel's second banner is the target's first.
    fn banner(&mut self) {
        self.banners += 1;
        if self.banners > 1 {
            self.side = Some(Side::Target);
        }
    }

    /// /proc/version has the text of the banner too; only the kernel writes its command line behind it.
    fn notice_bare_kernel(&mut self, line: &str) {
        if self.bare_banner && line.starts_with("Command line: ") {
            self.bare = true;
            self.banner();
        }
        self.bare_banner = line.starts_with(BANNER);
    }
}

/// Where a line was read.
#[derive(Clone, Copy)]
struct ConsolePosition {
    line: u64,
    at_us: u64,
}

/// Where a stamp is in a line, where the message behind it starts and where that ends; in bytes.
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

/// The stamps in a line: there are several when an end of line was lost.
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
    let close = inner.find(']')?;
    let (seconds, micros) = inner[..close].trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(micros) || micros.len() != 6 {
        return None;
    }
    let mut length = close + 2;
    // CONFIG_PRINTK_CALLER: [T123] a task, [C1] a processor.
    if let Some(caller) = text[length..].strip_prefix('[')
        && let Some(close) = caller.find(']')
        && caller[..close].trim_start().strip_prefix(['T', 'C']).is_some_and(digits)
    {
        length += close + 2;
    }
    Some(length + usize::from(text[length..].starts_with(' ')))
}

#[cfg(test)]
mod tests;
