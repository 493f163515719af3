//! What a file is that is no image, so that an error says what to give in its place.

use luqual_model::ARCH;
use object::{Object, ObjectSection};

/// What the file is, and what to do; `None` if it is nothing that people take for an image.
pub(crate) fn told(file: &[u8]) -> Option<String> {
    let of = |other: &str| Some(format!("it is an image for {other}; luqual runs kernels for {}", ARCH.name));
    let name = ARCH.image.name;
    // Documentation/arch/arm64/booting.rst and arch/riscv/boot-image-header.rst: both have their magic at 56.
    match file.get(56..60) {
        Some(b"ARM\x64") => return of("arm64"),
        Some(b"RSC\x05") => return of("RISC-V"),
        _ => {}
    }
    match file {
        [0x7f, b'E', b'L', b'F', ..] => Some(format!("it is an ELF, as vmlinux is; give the {name} of the same build")),
        // drivers/firmware/efi/libstub/zboot-header.S; x86 has none of these.
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g', ..] => {
            Some(format!("it is an EFI image (zboot) of another architecture; luqual runs kernels for {}", ARCH.name))
        }
        [b'M', b'Z', ..] if is_unified(file) => Some(format!(
            "it is a unified kernel image; give the kernel in it: objcopy -O binary --only-section=.linux FILE {name}"
        )),
        [0x1f, 0x8b, ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("it is a compressed file; unpack it".to_owned())
        }
        _ => None,
    }
}

/// Whether the file is a stub with a kernel in a section (systemd's documentation, org/uapi-group/specifications,
/// "Unified Kernel Image").
fn is_unified(file: &[u8]) -> bool {
    let has_kernel = |file: object::File| file.sections().any(|section| section.name() == Ok(".linux"));
    object::File::parse(file).is_ok_and(has_kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE32+ with a section of this name.
    fn pe(section: &[u8]) -> Vec<u8> {
        let mut pe = vec![0; 0x200];
        pe[..2].copy_from_slice(b"MZ");
        pe[0x3c] = 0x40;
        pe[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        pe[0x46] = 1;
        // The optional header: its size, its magic, and no data directories.
        pe[0x54] = 112;
        pe[0x58..0x5a].copy_from_slice(&[0x0b, 0x02]);
        let at = 0x58 + 112;
        pe[at..at + section.len()].copy_from_slice(section);
        pe
    }

    #[test]
    fn what_people_take_for_an_image_is_named() {
        let at = |at: usize, magic: &[u8]| {
            let mut file = vec![0; 4096];
            file[at..at + magic.len()].copy_from_slice(magic);
            file
        };
        for (file, said) in [
            (at(56, b"ARM\x64"), "arm64"),
            (at(56, b"RSC\x05"), "RISC-V"),
            (at(0, b"MZ\0\0zimg"), "zboot"),
            (at(0, b"\x7fELF"), "vmlinux"),
            (at(0, &[0x1f, 0x8b]), "unpack it"),
            (pe(b".linux"), "objcopy"),
        ] {
            assert!(told(&file).unwrap().contains(said), "{said}");
        }
        for file in [pe(b".text"), at(0, b"MZ"), at(0, b"#!/bin/sh"), Vec::new()] {
            assert_eq!(told(&file), None);
        }
    }
}
