//! A serial port, as much as a kernel needs that polls it: it takes each byte at once. An account in a line of its output is entered
//! into the machine's memory.

use crate::nested_init;
use luqual_program::{ACCOUNTS, PAGE};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The registers of a PC's first serial port (drivers/tty/serial/8250): data, and the line status.
pub(super) const FIRST: u16 = 0x3f8;
pub(super) const LAST: u16 = FIRST + 7;
const SENT: u16 = FIRST;
const STATUS: u16 = FIRST + 5;
const EMPTY: u8 = 0x60;

/// How many bytes of the output are kept for a message.
const KEPT: usize = 2048;

pub(super) struct Serial {
    /// The machine's memory, which has the account.
    memory: File,
    /// The line that is not complete yet. It is the port's whole state.
    pub(super) line: String,
    kept: String,
}

impl Serial {
    pub(super) fn new(memory: File, line: String) -> Self {
        Self { memory, line, kept: String::new() }
    }

    pub(super) fn write(&mut self, port: u16, bytes: &[u8]) {
        for byte in bytes.iter().filter(|_| port == SENT) {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                byte => self.line.push(char::from(*byte)),
            }
        }
    }

    pub(super) fn read(port: u16, bytes: &mut [u8]) {
        bytes.fill(if port == STATUS { EMPTY } else { 0 });
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        for (place, value) in nested_init::parse(&line).unwrap_or_default() {
            if place < PAGE as usize / 8 {
                // A failed write leaves the account behind, which the checks notice.
                let _ = self.memory.write_all_at(&value.to_le_bytes(), ACCOUNTS + place as u64 * 8);
            }
        }
        self.kept.push_str(&line);
        self.kept.push('\n');
        let over = self.kept.len().saturating_sub(KEPT);
        let from = (over..).find(|at| self.kept.is_char_boundary(*at)).unwrap_or(0);
        self.kept.drain(..from);
    }

    /// The end of the output, in one line.
    pub(super) fn last(&self) -> String {
        format!("{}{}", self.kept, self.line).lines().collect::<Vec<_>>().join(" / ")
    }
}
