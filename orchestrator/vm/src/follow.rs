//! Reads files while QEMU writes them. QEMU sends no notification, and with a pipe the guest would notice how fast
//! the host reads, so the files are polled.

use luqual_model::bounds::REPLY;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// The period.
const PERIOD: Duration = Duration::from_millis(10);

/// Reads what was written since the last read.
pub(crate) struct Follow {
    file: File,
    bytes: Vec<u8>,
}

impl Follow {
    /// Starts at the beginning of the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, bytes: vec![0; 64 << 10] })
    }

    /// The new bytes, which can be none.
    pub(crate) fn more(&mut self) -> &[u8] {
        let length = self.file.read(&mut self.bytes).unwrap_or_default();
        &self.bytes[..length]
    }

    /// Waits for one period.
    pub(crate) async fn pause() {
        tokio::time::sleep(PERIOD).await;
    }
}

/// Reads such a file by lines.
pub struct Lines {
    follow: Follow,
    partial: Vec<u8>,
}

impl Lines {
    /// Starts at the beginning of the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { follow: Follow::open(path)?, partial: Vec::new() })
    }

    /// The next line, if it is complete.
    pub fn try_next(&mut self) -> Option<String> {
        let end = self.end()?;
        let line: Vec<u8> = self.partial.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The end of the next line.
    fn end(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                return Some(end);
            }
            let more = self.follow.more();
            if more.is_empty() || self.partial.len() > REPLY {
                return None;
            }
            self.partial.extend_from_slice(more);
        }
    }

    /// Waits until the next line is complete.
    pub async fn ready(&mut self) {
        while self.end().is_none() {
            Follow::pause().await;
        }
    }

    /// Waits for the next line, and returns it.
    pub async fn next(&mut self) -> String {
        loop {
            self.ready().await;
            if let Some(line) = self.try_next() {
                return line;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_line_comes_when_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path()).unwrap();
        assert_eq!(lines.try_next(), None);
        file.write_all(b"one\r\ntw").unwrap();
        lines.ready().await;
        assert_eq!((lines.next().await.as_str(), lines.try_next()), ("one", None));
        file.write_all(b"o\n\nlast").unwrap();
        assert_eq!([lines.next().await, lines.next().await], ["two", ""]);
        assert_eq!(lines.try_next(), None);
    }
}
