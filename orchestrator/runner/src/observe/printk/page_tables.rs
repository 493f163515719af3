//! Memory at the virtual addresses of a kernel, by its own page tables.

use super::vmcoreinfo::Vmcoreinfo;
use luqual_model::{ARCH, PageTableNote};
use luqual_protocol::content::PAGE;
use luqual_vm::Ram;

/// The page tables of a kernel.
pub(super) struct PageTables<'a> {
    pub(super) ram: &'a Ram,
    tables: luqual_model::PageTables,
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
        let note = PageTableNote { number: &|name| info.number(name), symbol: &|name| info.symbol(name) };
        Ok(Self { ram, tables: (ARCH.page_tables.find)(&note)? })
    }

    /// The physical address of a virtual one.
    fn translate(&self, address: u64) -> Result<u64, String> {
        let mut read = |place| {
            let mut word = [0; 8];
            self.ram.read(place, &mut word).map_err(|error| error.to_string())?;
            Ok(u64::from_le_bytes(word))
        };
        (ARCH.page_tables.translate)(&self.tables, &mut read, address)
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
