//! Linux in a machine: what is in memory when its first instruction runs (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and
//! zero-page.rst).

use crate::inner::{INNER, SEED};
use crate::mapping::Mapping;
use luqual_program::PAGE;

/// Where the parameters are, and the command line; in what the map says is not to be used, as are the first page tables and the account.
pub(super) const PARAMETERS: u64 = 0x6000;
const COMMAND_LINE: u64 = 0x7000;
/// Where the memory begins that may be used.
const LOW: u64 = 0x1_0000;
/// And where it ends, for what a PC has there, and goes on.
const LOW_END: u64 = 0x9_f000;
const HIGH: u64 = 0x10_0000;

/// Without what a machine of this kind does not have. XSAVE: see `program.rs`, `xcr0()`; and it polls for work, since an interrupt
/// between STI and HLT can be lost under emulation.
pub(super) fn command_line(seed: u64) -> String {
    format!(
        "earlyprintk=serial,ttyS0,115200,keep printk.devkmsg=on noxsave idle=poll nokaslr no_timer_check acpi=off pci=off \
         panic=-1 rdinit={INNER} {SEED}={seed}"
    )
}

/// Offsets in a bzImage and in the parameters.
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

/// The 64-bit entry, behind where the kernel is loaded.
const ENTRY: u64 = 0x200;

/// Loads a kernel with its initramfs; where it begins.
pub(super) fn load(memory: &mut Mapping, image: &[u8], initrd: &[u8], command_line: &str) -> Result<u64, String> {
    let size = memory.length() as u64;
    let word =
        |at: usize| image.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let (Some(b"HdrS"), Some(preferred), Some(needs)) = (image.get(0x202..0x206), word(PREFERRED), word(INIT_SIZE))
    else {
        return Err("the kernel is no bzImage".to_owned());
    };
    let sectors = match usize::from(image[SETUP_SECTORS]) {
        0 => 4,
        sectors => sectors,
    };
    let kernel = image.get((sectors + 1) * 512..).ok_or("the bzImage is cut short")?;
    let (at, initrd_at) = (u64::from(preferred), (size - initrd.len() as u64) / PAGE * PAGE);
    if at + u64::from(needs) > initrd_at {
        return Err(format!("the kernel and its initramfs do not fit into {} MiB", size >> 20));
    }
    memory.write(at as usize, kernel);
    memory.write(initrd_at as usize, initrd);
    memory.write(COMMAND_LINE as usize, command_line.as_bytes());

    let mut page = [0; PAGE as usize];
    let end = HEADER_END + usize::from(image[HEADER_END]) + 1;
    page[HEADER..end].copy_from_slice(image.get(HEADER..end).ok_or("the bzImage is cut short")?);
    // A loader without a number of its own.
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
        // Memory that can be used.
        entry[16] = 1;
    }
    memory.write(PARAMETERS as usize, &page);
    Ok(at + ENTRY)
}
