//! Files that QEMU writes while they are read. It tells nobody when there is more, and a pipe in their place would have the guest
//! notice how fast the host reads: so they are looked at again and again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// How often.
const PERIOD: Duration = Duration::from_millis(10);

/// What was written since the last look.
pub(crate) struct Follow {
    file: File,
    bytes: Vec<u8>,
}

impl Follow {
    /// From the file's beginning.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, bytes: vec![0; 64 << 10] })
    }

    /// What is there more, which may be nothing.
    pub(crate) fn more(&mut self) -> &[u8] {
        let length = self.file.read(&mut self.bytes).unwrap_or_default();
        &self.bytes[..length]
    }

    /// Until it is worth to look again.
    pub(crate) async fn pause() {
        tokio::time::sleep(PERIOD).await;
    }
}

/// The lines of such a file.
pub struct Lines {
    follow: Follow,
    partial: Vec<u8>,
}

/// A line that does not end is as long as this at most.
const LONGEST: usize = 16 << 20;

impl Lines {
    /// From the file's beginning.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { follow: Follow::open(path)?, partial: Vec::new() })
    }

    /// The next line, if all of it is there.
    pub fn try_next(&mut self) -> Option<String> {
        let end = self.end()?;
        let line: Vec<u8> = self.partial.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Where the next line ends.
    fn end(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                return Some(end);
            }
            let more = self.follow.more();
            if more.is_empty() || self.partial.len() > LONGEST {
                return None;
            }
            self.partial.extend_from_slice(more);
        }
    }

    /// Waits until there is a next line.
    pub async fn ready(&mut self) {
        while self.end().is_none() {
            Follow::pause().await;
        }
    }

    /// The next line, as soon as all of it is there.
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
