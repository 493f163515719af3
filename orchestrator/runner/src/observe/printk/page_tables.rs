//! Translates the virtual addresses of a kernel by its own page tables (arch/x86/include/asm/pgtable_types.h; Intel SDM
//! volume 3, section 5.5).

use super::vmcoreinfo::Vmcoreinfo;
use luqual_protocol::content::PAGE;
use luqual_vm::Ram;

/// The page tables of a kernel.
pub(super) struct PageTables<'a> {
    pub(super) ram: &'a Ram,
    /// The physical address of the highest table.
    top: u64,
    levels: u32,
    /// The bits of an entry that encrypt memory, which are no part of an address.
    encryption: u64,
}

/// Memory at a virtual address, page by page.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    /// The physical address of each page.
    pages: Vec<u64>,
    /// Where it starts in its first page.
    start: usize,
    length: usize,
}

impl<'a> PageTables<'a> {
    /// The tables that the note names.
    pub(super) fn of(ram: &'a Ram, info: &Vmcoreinfo) -> Result<Self, String> {
        // The image itself is mapped at one distance from its physical address (__phys_addr_nodebug()).
        let base = info.number("phys_base")?;
        let top = info.symbol("init_top_pgt")?.wrapping_sub(IMAGE).wrapping_add_signed(base);
        let levels = if info.number("pgtable_l5_enabled").unwrap_or(0) == 0 { 4 } else { 5 };
        let encryption = info.number("sme_mask").unwrap_or(0).cast_unsigned();
        Ok(Self { ram, top, levels, encryption })
    }

    /// The physical address of a virtual one.
    fn translate(&self, address: u64) -> Result<u64, String> {
        let mut table = self.top;
        for level in (0..self.levels).rev() {
            let shift = 12 + 9 * level;
            let mut entry = [0; 8];
            // A note can say anything.
            let place = table.wrapping_add((address >> shift & 0x1ff) * 8);
            self.ram.read(place, &mut entry).map_err(|error| error.to_string())?;
            let entry = u64::from_le_bytes(entry) & !self.encryption;
            if entry & PRESENT == 0 {
                return Err(format!("{address:#x} is not mapped"));
            }
            let of_entry = entry & ADDRESS;
            let is_large = entry & LARGE != 0 && (1..=2).contains(&level);
            if level == 0 || is_large {
                let within = (1 << shift) - 1;
                return Ok(of_entry & !within | address & within);
            }
            table = of_entry;
        }
        Err(format!("{address:#x} is not mapped"))
    }

    /// The memory from a virtual address on.
    pub(super) fn map(&self, address: u64, length: u64) -> Result<Mapped, String> {
        if length > self.ram.size() {
            return Err(format!("{length} bytes at {address:#x} are more than the machine has"));
        }
        let page = PAGE as u64;
        let end = address.checked_add(length).ok_or_else(|| format!("{address:#x} is too high"))?;
        let pages = (address / page..end.div_ceil(page)).map(|at| self.translate(at * page));
        let pages = pages.collect::<Result<_, _>>()?;
        Ok(Mapped { pages, start: (address % page) as usize, length: length as usize })
    }

    /// A word at a virtual address.
    pub(super) fn word(&self, address: u64) -> Result<u64, String> {
        let mut word = [0; 8];
        self.map(address, 8)?.read(self.ram, 0, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

impl Mapped {
    /// Reads from an offset on.
    pub(super) fn read(&self, ram: &Ram, offset: usize, bytes: &mut [u8]) -> Result<(), String> {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.length) {
            return Err(format!("offset {offset} is beyond {} bytes", self.length));
        }
        let (mut at, mut done) = (self.start + offset, 0);
        while done < bytes.len() {
            let length = (PAGE - at % PAGE).min(bytes.len() - done);
            let address = self.pages[at / PAGE] + (at % PAGE) as u64;
            ram.read(address, &mut bytes[done..done + length]).map_err(|error| error.to_string())?;
            (at, done) = (at + length, done + length);
        }
        Ok(())
    }

    /// Reads a word from an offset on.
    pub(super) fn word(&self, ram: &Ram, offset: u64) -> Result<u64, String> {
        let mut word = [0; 8];
        self.read(ram, offset as usize, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// `__START_KERNEL_map`: the virtual address that physical address 0 of the image would have.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
