//! Standard output and standard error. Whoever reads them may leave early, as `head` does, or with the terminal: that is no error, and
//! changes no exit code.

use crate::error::CliError;
use crate::signals;
use luqual_engine::EngineError;
use luqual_model::plain::lines;
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};

/// Writes all that `write` writes.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut to = BufWriter::new(io::stdout().lock());
    match write(&mut to).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe || signals::has_hung_up() => {
            // What is still in the buffer has no reader.
            drop(to.into_parts());
            Ok(())
        }
        written => Ok(written.map_err(EngineError::own("standard output"))?),
    }
}

/// Writes a text. It may have somebody else's words in it.
pub(crate) fn print(text: impl Display) -> Result<(), CliError> {
    stream(|to| to.write_all(lines(&text.to_string()).as_bytes()))
}

/// Writes a line.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    print(format_args!("{text}\n"))
}

/// Tells something on standard error. Whoever does not look any more misses it.
pub(crate) fn tell(text: impl Display) {
    let _ = io::stderr().write_all(lines(&text.to_string()).as_bytes());
}

/// Lines that are written where no error can be returned; the first is kept.
#[derive(Default)]
pub(crate) struct Lines(RefCell<Option<CliError>>);

impl Lines {
    /// Writes a line, unless one could not be written before.
    pub(crate) fn write(&self, text: impl Display) {
        let mut failed = self.0.borrow_mut();
        if failed.is_none() {
            *failed = line(text).err();
        }
    }

    /// Whether all were written.
    pub(crate) fn end(self) -> Result<(), CliError> {
        self.0.into_inner().map_or(Ok(()), Err)
    }
}

/// The ending of a word that is counted.
pub(crate) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
