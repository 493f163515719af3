//! Reads facts from a kernel's image without booting it: its header, and the kernel's ELF behind it, which is compressed.

use crate::foreign;
use crate::payload::unpack;
use flate2::read::GzDecoder;
use luqual_model::ARCH;
use luqual_model::bounds::KERNEL_CONFIG;
use object::Object;
use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;

/// The facts of an image; `None` means that the image does not have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The output of `uname -r`.
    pub release: String,
    /// The GNU build id, as hex.
    pub build_id: Option<String>,
    /// Every ABI string, sorted.
    pub abi: Option<Vec<String>>,
    /// The embedded .config (CONFIG_IKCONFIG).
    pub config: Option<String>,
    /// Why the payload could not be read, so that the other facts are unknown.
    pub unread: Option<String>,
}

/// The file is not an image; the text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {image}: {0}", image = ARCH.image.name)]
pub struct NotAnImage(String);

/// Reads an image. An invalid header is an error; facts from a payload that cannot be unpacked are `None`.
pub fn read(image: &[u8]) -> Result<ImageFacts, NotAnImage> {
    let (release, payload) = header(image)?;
    let elf = image.get(payload).ok_or_else(|| "it is not in the file".to_owned()).and_then(unpack);
    Ok(match elf {
        Ok(elf) => {
            let (build_id, abi, config) = (build_id(&elf), Some(abi_strings(&elf)), ikconfig(&elf));
            ImageFacts { release, build_id, abi, config, unread: None }
        }
        Err(why) => ImageFacts { release, build_id: None, abi: None, config: None, unread: Some(why) },
    })
}

/// The release of an image, by its header.
pub(crate) fn release(image: &[u8]) -> Result<String, NotAnImage> {
    header(image).map(|(release, _)| release)
}

/// The header of an image, whose release is that of a kernel.
fn header(image: &[u8]) -> Result<(String, Range<usize>), NotAnImage> {
    let wrong = |why: &str| NotAnImage(why.to_owned());
    let header =
        (ARCH.image.header)(image).map_err(|why| foreign::told(image).map_or_else(|| wrong(why), NotAnImage))?;
    let release = std::str::from_utf8(header.release).map_err(|_| wrong("the version string is not text"))?;
    if release.is_empty() {
        return Err(wrong("the image has no version string"));
    }
    // include/uapi/linux/utsname.h: a release has 64 characters.
    if release.len() > 64 || !release.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("the version string is not that of a kernel"));
    }
    Ok((release.to_owned(), header.payload))
}

/// The GNU build id in an ELF, as hex.
pub fn build_id(elf: &[u8]) -> Option<String> {
    let file = object::File::parse(elf).ok()?;
    let id = file.build_id().ok().flatten()?;
    Some(luqual_files::digest::hex(id))
}

/// All ABI strings in a kernel's ELF: NUL-terminated, such as `kho-v4`, `luo-v5` or `memfd-v2` in
/// include/linux/kho/abi/*.h. Only a run shows which of them a kernel writes or accepts.
pub fn abi_strings(elf: &[u8]) -> Vec<String> {
    let versions = memchr::memmem::find_iter(elf, b"-v").filter_map(|at| {
        let digits = elf[at + 2..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = at + 2 + digits;
        let is_whole = digits > 0 && elf.get(end).is_none_or(|byte| *byte == 0);
        is_whole.then(|| &elf[at.saturating_sub(LONGEST_NAME)..end])
    });
    let found: BTreeSet<&str> = versions.filter_map(last_word).filter(|text| is_abi(text)).collect();
    found.into_iter().map(str::to_owned).collect()
}

/// More bytes than the name before a version has.
const LONGEST_NAME: usize = 64;

/// The text at the end of `bytes`. Binary data can precede it in an array of structures; after a letter or a space it
/// is the end of a sentence, not a string of its own.
fn last_word(bytes: &[u8]) -> Option<&str> {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let start = bytes.iter().rposition(|byte| !plain(byte)).map_or(0, |before| before + 1);
    let before = start.checked_sub(1).and_then(|before| bytes.get(before));
    let whole = before.is_none_or(|byte| !byte.is_ascii_graphic() && *byte != b' ');
    std::str::from_utf8(bytes.get(start..)?).ok().filter(|_| whole)
}

/// Whether a text is `NAME-vN` with a name of the handover; other subsystems have versions, too.
fn is_abi(text: &str) -> bool {
    const WORLDS: [&str; 10] =
        ["kho", "luo", "liveupdate", "memfd", "memblock", "reserve", "hugetlb", "vfio", "iommu", "pci"];
    let Some((name, version)) = text.rsplit_once("-v") else { return false };
    let first = name.split(['-', '_']).next().unwrap_or_default();
    WORLDS.contains(&first) && !version.is_empty() && version.chars().all(|c| c.is_ascii_digit())
}

/// The .config between the markers of kernel/configs.c.
fn ikconfig(elf: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(elf, b"IKCFG_ST\x1f\x8b")? + b"IKCFG_ST".len();
    let mut text = String::new();
    GzDecoder::new(elf.get(start..)?).take(KERNEL_CONFIG + 1).read_to_string(&mut text).ok()?;
    // A part of a configuration lacks options that the kernel has.
    Some(text).filter(|text| text.len() as u64 <= KERNEL_CONFIG)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// A bzImage of nothing but its header and `payload`.
    pub(crate) fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x236] = 1;
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + 18].copy_from_slice(b"9.9.9-x (a@b) #1\0\0");
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image
    }

    pub(crate) fn elf() -> Vec<u8> {
        let mut elf =
            b"\x7fELF\0kho-v4\0luo-v5\0\xff\x81memfd-v2\0kho-block-v1\0not-abi-v1\0x kho-v9\0IKCFG_ST".to_vec();
        let mut config = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        config.write_all(b"CONFIG_LIVEUPDATE=y\n").unwrap();
        elf.extend(config.finish().unwrap());
        elf.extend(b"IKCFG_ED");
        elf
    }

    #[test]
    fn every_compression_gives_the_same_facts() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&elf()).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&elf()).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        lzma.write_all(&elf()).unwrap();
        let mut lzma = lzma.finish().unwrap();
        // The unpacked size, which the build appends (scripts/Makefile.lib, size_append).
        lzma.extend((elf().len() as u32).to_le_bytes());
        let block = lz4_flex::block::compress(&elf());
        let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
        lz4.extend((block.len() as u32).to_le_bytes());
        lz4.extend(block);
        let bare = lz4.clone();
        let again = [&lz4[..], &lz4[..4]].concat();
        lz4.extend((elf().len() as u32).to_le_bytes());
        let zstd = ruzstd::encoding::compress_to_vec(&elf()[..], ruzstd::encoding::CompressionLevel::Fastest);
        for payload in [elf(), gzip.finish().unwrap(), xz.finish().unwrap(), lzma, lz4, bare, again, zstd] {
            let facts = read(&image(&payload)).unwrap();
            assert_eq!(facts.release, "9.9.9-x");
            assert_eq!(facts.abi.unwrap(), ["kho-block-v1", "kho-v4", "luo-v5", "memfd-v2"]);
            assert_eq!(facts.config.unwrap(), "CONFIG_LIVEUPDATE=y\n");
        }
    }

    #[test]
    fn a_payload_that_cannot_be_opened_is_unknown() {
        let block = lz4_flex::block::compress(&elf());
        // One whole block, and the length of another that is not there.
        let length = (block.len() as u32).to_le_bytes();
        let cut = [&[0x02, 0x21, 0x4c, 0x18], &length[..], &block, &[9, 9, 0, 0], &[1, 2]].concat();
        let wrong_size = [&cut[..8 + block.len()], &[9, 9, 0, 0]].concat();
        for payload in [b"LZO?".to_vec(), cut, wrong_size] {
            let facts = read(&image(&payload)).unwrap();
            assert_eq!((facts.abi, facts.config, facts.build_id), (None, None, None));
            assert!(facts.unread.is_some());
        }
        let told = |magic: &[u8]| read(&image(magic)).unwrap().unread.unwrap();
        assert_eq!(told(b"BZh91AY&SY"), "luqual cannot unpack bzip2");
        assert_eq!(told(b"\x89LZO\0\r\n\x1a\n"), "luqual cannot unpack LZO");
        assert_eq!(told(b"????"), "its compression is unknown");
    }

    #[test]
    fn a_release_is_shown_and_so_it_is_plain_text() {
        for release in ["9.9.9\x1b[2J", "9\u{202e}", &"9".repeat(65)] {
            let mut bytes = image(&elf());
            let long = [release.as_bytes(), b" #1\0"].concat();
            bytes[0x300..0x300 + long.len()].copy_from_slice(&long);
            assert_eq!(
                read(&bytes),
                Err(NotAnImage("the version string is not that of a kernel".to_owned())),
                "{release:?}"
            );
        }
    }

    #[test]
    fn what_is_not_a_bzimage_is_told_why() {
        let whole = image(&elf());
        let mut narrow = whole.clone();
        narrow[0x236] = 0;
        for (bytes, why) in [
            (&narrow[..], "32-bit"),
            (b"\x7fELF", "vmlinux"),
            (b"#!/bin/sh\n", "the file ends within its header"),
            (&[0; 4096][..], "HdrS"),
            (&whole[..whole.len() - 1], "shorter than its header says"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
