//! The payload of a package of rpm, which is other people's file.
//!
//! A package has a lead of 96 bytes, a header with signatures, a header with what is known of it, and a compressed cpio
//! archive (docs/manual/format_v4.md in the tree of rpm). Nothing in the headers is needed here, so that they are
//! skipped: the library for packages, `rpm`, believes the sizes and offsets in them.

use crate::unpack;
use std::io::{self, Read};

/// The start of a package.
const LEAD: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// The start of a header of version 1.
const HEADER: [u8; 4] = [0x8e, 0xad, 0xe8, 1];

/// The length of a name in an archive, with the byte that ends it (include/uapi/linux/limits.h: PATH_MAX).
const LONGEST_NAME: usize = 4096;

/// The payload of a package, still compressed.
pub(crate) fn payload(mut package: impl Read) -> io::Result<impl Read> {
    let lead: [u8; 96] = array(&mut package)?;
    if !lead.starts_with(&LEAD) {
        return Err(io::Error::other("it does not start as a package of rpm does (ed ab ee db)"));
    }
    let signatures = header(&mut package)?;
    skip(&mut package, signatures.next_multiple_of(8) - signatures)?;
    header(&mut package)?;
    Ok(package)
}

/// Calls `each` with the path, the mode and the content of every entry of an archive, and reads it to its end.
pub(crate) fn entries(
    mut archive: impl Read,
    mut each: impl FnMut(&str, u32, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        // The library reads a name of any length into memory.
        let start: [u8; 110] = array(&mut archive)?;
        let length = std::str::from_utf8(&start[94..102]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        if length.is_none_or(|length| length > LONGEST_NAME) {
            return Err(io::Error::other("an entry of its archive has no name, or one that is too long"));
        }
        let mut entry = cpio::NewcReader::new(start.chain(&mut archive))?;
        if entry.entry().is_trailer() {
            return unpack::to_the_end(archive);
        }
        let (name, mode) = (entry.entry().name().to_owned(), entry.entry().mode());
        each(&name, mode, &mut entry)?;
        entry.finish()?;
    }
}

/// Skips a header, and returns its length.
fn header(package: &mut impl Read) -> io::Result<u64> {
    let start: [u8; 16] = array(package)?;
    if !start.starts_with(&HEADER) {
        return Err(io::Error::other("one of its two headers does not start as it should (8e ad e8 01)"));
    }
    let number = |at: usize| u64::from(u32::from_be_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]));
    let (entries, data) = (number(8), number(12));
    let rest = entries * 16 + data;
    skip(package, rest)?;
    Ok(rest)
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(from: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// A package of these files, with headers of some length.
    pub(crate) fn package(files: &[(&str, u32, &str)]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, mode, content) in files {
            let builder = cpio::NewcBuilder::new(name).mode(*mode);
            let mut writer = builder.write(&mut archive, content.len() as u32);
            writer.write_all(content.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        cpio::newc::trailer(&mut archive).unwrap();
        let mut payload = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        payload.write_all(&archive).unwrap();
        let header = |entries: u32, data: &[u8]| {
            let sizes = [entries.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat();
            [&HEADER[..], &[0; 4], &sizes, &vec![7; entries as usize * 16], data].concat()
        };
        let lead = [&LEAD[..], &[0; 92]].concat();
        // The first header is filled up to a multiple of 8 bytes.
        [lead, header(2, b"abc"), vec![0; 5], header(1, b"abcdefghi"), payload.finish().unwrap()].concat()
    }

    fn read(package: &[u8]) -> io::Result<Vec<(String, u32, String)>> {
        let mut files = Vec::new();
        entries(unpack::opened(payload(package)?)?, |name, mode, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            files.push((name.to_owned(), mode, text));
            Ok(())
        })?;
        Ok(files)
    }

    #[test]
    fn the_payload_is_behind_two_headers() {
        let files =
            [("./lib/modules/1/vmlinuz", 0o100_644, "an image"), ("./lib", 0o40_755, ""), ("b", 0o100_644, "x")];
        let found = read(&package(&files)).unwrap();
        assert_eq!(found, files.map(|(name, mode, text)| (name.to_owned(), mode, text.to_owned())));
    }

    #[test]
    fn sizes_are_not_believed() {
        let whole = package(&[("a", 0o100_644, "content")]);
        for length in [0, 95, 100, 120, 150, whole.len() - 4] {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let changed = |at: usize, bytes: &[u8]| {
            let mut package = whole.clone();
            package[at..at + bytes.len()].copy_from_slice(bytes);
            read(&package).unwrap_err().to_string()
        };
        assert!(changed(0, b"x").contains("ed ab ee db"));
        assert!(changed(96, b"x").contains("8e ad e8 01"));
        changed(96 + 8, &[0xff; 8]);
        let long = [b"070701".as_slice(), &[b'0'; 88], b"ffffffff", &[b'0'; 8], &[b'x'; 9000]].concat();
        let told = entries(&long[..], |_, _, _| Ok(())).unwrap_err().to_string();
        assert!(told.contains("too long"), "{told}");
    }
}
