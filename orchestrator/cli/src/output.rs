//! Standard output. Whoever reads it may leave early, as `head` does: that is no error, and changes no exit code.

use crate::error::CliError;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};

/// Writes all that `write` writes.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut to = BufWriter::new(io::stdout().lock());
    match write(&mut to).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            // What is still in the buffer has no reader.
            drop(to.into_parts());
            Ok(())
        }
        written => written.map_err(CliError::file("standard output")),
    }
}

/// Writes a text.
pub(crate) fn print(text: impl Display) -> Result<(), CliError> {
    stream(|to| write!(to, "{text}"))
}

/// Writes a line.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    print(format_args!("{text}\n"))
}
