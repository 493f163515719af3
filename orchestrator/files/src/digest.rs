//! SHA-256 digests as lower-case hex.

use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::path::Path;

/// The digest of bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest of a file.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut file = crate::open(path)?;
    let mut digest = Sha256::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hex(&digest.finalize())),
            length => digest.update(&bytes[..length]),
        }
    }
}

/// Formats bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
