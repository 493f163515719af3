//! The user's terminal: raw while somebody is at a guest's prompt, and always given back as it was.

use luqual_guest::{Size, Typed};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is typed to leave a prompt that does not answer: Ctrl-], as of telnet.
const ESCAPE: u8 = 0x1d;

static IS_RAW: AtomicBool = AtomicBool::new(false);

/// Whether somebody types.
pub(crate) fn is_there() -> bool {
    isatty(stdin())
}

/// What ends a line on it now.
pub(crate) fn line_end() -> &'static str {
    if IS_RAW.load(Ordering::SeqCst) { "\r\n" } else { "\n" }
}

/// A line of a guest's console, which may come between what is typed.
pub(crate) fn console_line(line: &str) {
    // Whoever does not look any more misses it.
    let _ = write!(io::stderr(), "{line}{}", line_end());
}

/// A terminal that hands on each key, until it is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        IS_RAW.store(true, Ordering::SeqCst);
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        IS_RAW.store(false, Ordering::SeqCst);
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Its size, or what terminals once had.
pub(crate) fn size() -> Size {
    let known = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok().filter(|size| size.ws_col > 0);
    let (columns, rows) = known.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    Size { columns: columns.into(), rows: rows.into() }
}

/// What comes from it, until its end or [`ESCAPE`].
pub(crate) fn typed() -> mpsc::Receiver<Typed> {
    let (sender, receiver) = mpsc::channel(16);
    let resized = sender.downgrade();
    if let Ok(mut changes) = signal(SignalKind::window_change()) {
        tokio::spawn(async move {
            while changes.recv().await.is_some()
                && let Some(sender) = resized.upgrade()
                && sender.send(Typed::Resized(size())).await.is_ok()
            {}
        });
    }
    // A thread of its own, not one of the runtime's: nobody waits for it at the end.
    std::thread::spawn(move || {
        let mut bytes = vec![0; 4096];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut bytes) {
            let (bytes, leaves) = until_escape(&bytes[..length]);
            if sender.blocking_send(Typed::Bytes(bytes.to_vec())).is_err() || leaves {
                break;
            }
        }
    });
    receiver
}

/// What stands before the escape, and whether there is one.
fn until_escape(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.iter().position(|byte| *byte == ESCAPE) {
        Some(place) => (&bytes[..place], true),
        None => (bytes, false),
    }
}

/// The lines of standard input, until its end.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut from = io::stdin().lock();
        let mut line = Vec::new();
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            if sender.blocking_send(as_text(&line)).is_err() {
                break;
            }
            line.clear();
        }
    });
    receiver
}

/// A line without its end. What is no UTF-8 in it is shown as such, and does not end the input.
fn as_text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// Shows what a guest printed. Whoever does not look any more misses it.
pub(crate) fn show(bytes: &[u8]) {
    let mut to = io::stdout();
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_whatever_is_in_it() {
        assert_eq!([&b"a b\r\n"[..], b"\n", b"c", b"\xff\xfe\n"].map(as_text), ["a b", "", "c", "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn the_escape_ends_what_is_typed() {
        assert_eq!(until_escape(b"ab\x1dcd"), (&b"ab"[..], true));
        assert_eq!(until_escape(b"\x03\x04"), (&b"\x03\x04"[..], false));
    }
}
