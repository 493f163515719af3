//! The boot of a Linux in a machine: what is in memory at its first instruction (Documentation/arch/x86/boot.rst, "64-bit Boot
//! Protocol", and zero-page.rst).

use crate::mapping::Mapping;
use crate::nested_init;
use luqual_program::PAGE;

/// The addresses of the boot parameters and the command line. The memory map excludes them, as it excludes the first page tables and
/// the account.
pub(super) const PARAMETERS: u64 = 0x6000;
const COMMAND_LINE: u64 = 0x7000;
/// The start of the low memory that the kernel may use.
const LOW: u64 = 0x1_0000;
/// Its end, where a PC has its BIOS area, and the start of the high memory.
const LOW_END: u64 = 0x9_f000;
const HIGH: u64 = 0x10_0000;

/// The kernel's command line. It turns off what such a machine does not have, and XSAVE (see `xcr0()` in `images/program`). The
/// kernel polls when it is idle, since an interrupt between STI and HLT can be lost under emulation.
pub(super) fn command_line(seed: u64) -> String {
    format!(
        "earlyprintk=serial,ttyS0,115200,keep printk.devkmsg=on noxsave idle=poll nokaslr no_timer_check acpi=off pci=off \
         panic=-1 rdinit={} {}={seed}",
        nested_init::PATH,
        nested_init::SEED
    )
}

/// Offsets in a bzImage and in the boot parameters.
const SETUP_SECTORS: usize = 0x1f1;
const HEADER: usize = 0x1f1;
const HEADER_END: usize = 0x201;
const LOADER: usize = 0x210;
const INITRD: usize = 0x218;
const INITRD_SIZE: usize = 0x21c;
const COMMAND_LINE_AT: usize = 0x228;
const PREFERRED: usize = 0x258;
const INIT_SIZE: usize = 0x260;
const ENTRIES: usize = 0x1e8;
const MAP: usize = 0x2d0;

/// The offset of the 64-bit entry point from the load address.
const ENTRY: u64 = 0x200;

/// Loads a kernel with its initramfs. Returns the entry point.
pub(super) fn load(memory: &mut Mapping, image: &[u8], initrd: &[u8], command_line: &str) -> Result<u64, String> {
    let size = memory.length() as u64;
    let word =
        |at: usize| image.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let (Some(b"HdrS"), Some(preferred), Some(requires)) = (image.get(0x202..0x206), word(PREFERRED), word(INIT_SIZE))
    else {
        return Err("the kernel is not a bzImage".to_owned());
    };
    let sectors = match usize::from(image[SETUP_SECTORS]) {
        0 => 4,
        sectors => sectors,
    };
    let kernel = image.get((sectors + 1) * 512..).ok_or("the bzImage is truncated")?;
    let (at, initrd_at) = (u64::from(preferred), (size - initrd.len() as u64) / PAGE * PAGE);
    if at + u64::from(requires) > initrd_at {
        return Err(format!("the kernel and its initramfs do not fit into {} MiB", size >> 20));
    }
    memory.write(at as usize, kernel);
    memory.write(initrd_at as usize, initrd);
    memory.write(COMMAND_LINE as usize, command_line.as_bytes());

    let mut page = [0; PAGE as usize];
    let end = HEADER_END + usize::from(image[HEADER_END]) + 1;
    page[HEADER..end].copy_from_slice(image.get(HEADER..end).ok_or("the bzImage is truncated")?);
    // The type of a boot loader without an assigned number.
    page[LOADER] = 0xff;
    for (at, value) in [(INITRD, initrd_at), (INITRD_SIZE, initrd.len() as u64), (COMMAND_LINE_AT, COMMAND_LINE)] {
        page[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    let map = [(LOW, LOW_END), (HIGH, size)];
    page[ENTRIES] = map.len() as u8;
    for (place, (from, to)) in map.into_iter().enumerate() {
        let entry = &mut page[MAP + place * 20..][..20];
        entry[..8].copy_from_slice(&from.to_le_bytes());
        entry[8..16].copy_from_slice(&(to - from).to_le_bytes());
        // Usable memory.
        entry[16] = 1;
    }
    memory.write(PARAMETERS as usize, &page);
    Ok(at + ENTRY)
}
