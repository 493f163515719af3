//! Unpacks the payload of a kernel's image. Nothing in it is trusted: the output and the memory of each decompressor are bounded.

use flate2::read::GzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;
use luqual_model::bounds::{DECOMPRESSOR, UNPACKED_IMAGE};
use std::io::{self, Read};

/// The ELF in a payload, or why it cannot be read. The first bytes tell the compression. The kernel's build appends the
/// unpacked size, 4 bytes, to most formats.
pub(crate) fn unpack(payload: &[u8]) -> Result<Vec<u8>, String> {
    unpack_at_most(payload, UNPACKED_IMAGE)
}

fn unpack_at_most(payload: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let elf = match payload {
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => lz4_legacy(blocks, most)?,
        [0x1f, 0x8b, ..] => whole(GzDecoder::new(payload), most)?,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            let stream = Stream::new_stream_decoder(DECOMPRESSOR, 0).map_err(|error| error.to_string())?;
            whole(XzDecoder::new_stream(payload, stream), most)?
        }
        // The properties of scripts/Makefile.lib's `lzma -9`, and a dictionary of a multiple of 64 KiB.
        [0x5d, 0, 0, ..] => {
            let stream = Stream::new_lzma_decoder(DECOMPRESSOR).map_err(|error| error.to_string())?;
            whole(XzDecoder::new_stream(payload, stream), most)?
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(payload).map_err(|error| error.to_string())?;
            whole(decoder, most)?
        }
        [0x7f, b'E', b'L', b'F', ..] => payload.to_vec(),
        [b'B', b'Z', b'h', ..] => return Err("luqual cannot unpack bzip2".to_owned()),
        [0x89, b'L', b'Z', b'O', ..] => return Err("luqual cannot unpack LZO".to_owned()),
        _ => return Err("its compression is unknown".to_owned()),
    };
    if elf.starts_with(b"\x7fELF") { Ok(elf) } else { Err("there is no ELF in it".to_owned()) }
}

/// All that a decompressor has. A part of a kernel does not have all strings.
fn whole(decoder: impl Read, most: u64) -> Result<Vec<u8>, String> {
    let mut elf = Vec::new();
    let read = decoder.take(most + 1).read_to_end(&mut elf);
    read.map_err(|error: io::Error| error.to_string())?;
    if elf.len() as u64 > most { Err(too_large(most)) } else { Ok(elf) }
}

fn too_large(most: u64) -> String {
    format!("it unpacks to more than {} MiB", most >> 20)
}

/// Unpacks `lz4 -l`: blocks of up to 8 MiB, each after its packed length; the magic may be repeated between them
/// (lib/decompress_unlz4.c). An error if the end is missing.
fn lz4_legacy(mut blocks: &[u8], most: u64) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 8 << 20;
    const MAGIC: usize = 0x184c_2102;
    let cut = || "its end is missing".to_owned();
    let mut elf = Vec::new();
    let mut unpacked = vec![0; BLOCK];
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length == MAGIC {
            blocks = rest;
            continue;
        }
        // The unpacked size, which the build appends.
        if rest.is_empty() && length == elf.len() {
            return Ok(elf);
        }
        if length == 0 || length > rest.len() {
            return Err(cut());
        }
        let (block, rest) = rest.split_at(length);
        let size = lz4_flex::block::decompress_into(block, &mut unpacked).map_err(|error| error.to_string())?;
        // A block without an output would be read again and again from a long file.
        if size == 0 {
            return Err("a block of it is empty".to_owned());
        }
        if (elf.len() + size) as u64 > most {
            return Err(too_large(most));
        }
        elf.extend_from_slice(&unpacked[..size]);
        blocks = rest;
    }
    if blocks.is_empty() { Ok(elf) } else { Err(cut()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An ELF of zeros in each compression.
    fn packed(size: usize) -> Vec<(&'static str, Vec<u8>)> {
        let mut elf = vec![0; size];
        elf[..4].copy_from_slice(b"\x7fELF");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&elf).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&elf).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), Stream::new_lzma_encoder(&options).unwrap());
        lzma.write_all(&elf).unwrap();
        let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
        for part in elf.chunks(8 << 20) {
            let block = lz4_flex::block::compress(part);
            lz4.extend((block.len() as u32).to_le_bytes());
            lz4.extend(block);
        }
        let zstd = ruzstd::encoding::compress_to_vec(&elf[..], ruzstd::encoding::CompressionLevel::Fastest);
        vec![
            ("gzip", gzip.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("lzma", lzma.finish().unwrap()),
            ("lz4", lz4),
            ("zstd", zstd),
        ]
    }

    #[test]
    fn a_bomb_is_not_unpacked_and_what_fits_is() {
        let most = 1 << 20;
        for (name, payload) in packed(most as usize) {
            assert_eq!(unpack_at_most(&payload, most).map(|elf| elf.len()), Ok(most as usize), "{name}");
        }
        for (name, payload) in packed(most as usize + 1) {
            let told = unpack_at_most(&payload, most);
            assert_eq!(told, Err("it unpacks to more than 1 MiB".to_owned()), "{name}");
        }
    }

    #[test]
    fn many_blocks_are_bounded_as_one_is() {
        let zeros = lz4_flex::block::compress(&[0; 8 << 20]);
        assert!(zeros.len() < 40 << 10, "a block is 8 MiB of 33 KB");
        let block = [&(zeros.len() as u32).to_le_bytes()[..], &zeros].concat();
        let payload = [&[0x02, 0x21, 0x4c, 0x18], &block.repeat(500)[..]].concat();
        assert_eq!(unpack_at_most(&payload, 32 << 20), Err("it unpacks to more than 32 MiB".to_owned()));
    }
}
