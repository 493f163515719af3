//! The ring buffer of a kernel's log, in its memory (kernel/printk/printk_ringbuffer.h; the fields are read as
//! Documentation/admin-guide/kdump/gdbmacros.txt does).

use super::page_tables::{Mapped, PageTables};
use super::vmcoreinfo::Vmcoreinfo;
use luqual_model::bounds::FINDING;
use luqual_vm::Ram;

/// Where the parts of the ring are. They do not move while the kernel runs.
pub(super) struct Ring {
    descriptors: Mapped,
    infos: Mapped,
    text: Mapped,
    head: Mapped,
    count: u64,
    text_size: u64,
    /// The size of a descriptor, and of an info.
    sizes: (u64, u64),
    state: u64,
    begin: u64,
    next: u64,
    text_length: u64,
}

/// What is in the place of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A record that is complete.
    Complete(Record),
    /// A record that may still be continued.
    Open(Record),
    /// A record that is being written.
    Reserved,
    /// Another record, or something else.
    Other,
}

/// A record of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// As /dev/kmsg shows it.
    pub(super) text: String,
    /// Whether the kernel wrote it, not a process through /dev/kmsg.
    pub(super) is_of_kernel: bool,
}

impl Ring {
    /// Finds the ring of the kernel that the note is of.
    pub(super) fn find(tables: &PageTables<'_>, info: &Vmcoreinfo) -> Result<Self, String> {
        let ring = tables.word(info.symbol("prb")?)?;
        let descriptors = ring.wrapping_add(info.offset("printk_ringbuffer.desc_ring")?);
        let texts = ring.wrapping_add(info.offset("printk_ringbuffer.text_data_ring")?);
        let field = |start: u64, name| Ok::<_, String>(start.wrapping_add(info.offset(name)?));
        let bits = |address, most: u32| {
            // An unsigned int, in front of something else.
            let bits = tables.word(address)? as u32;
            if bits <= most { Ok(1 << bits) } else { Err(format!("the ring has 2^{bits} entries")) }
        };
        let count: u64 = bits(field(descriptors, "prb_desc_ring.count_bits")?, COUNT_BITS)?;
        let text_size: u64 = bits(field(texts, "prb_data_ring.size_bits")?, TEXT_BITS)?;
        let sizes = (info.size("prb_desc")?, info.size("printk_info")?);
        let place = info.offset("prb_desc.text_blk_lpos")?;
        let array = |name, length| tables.map(tables.word(field(descriptors, name)?)?, length);
        Ok(Self {
            descriptors: array("prb_desc_ring.descs", count * sizes.0)?,
            infos: array("prb_desc_ring.infos", count * sizes.1)?,
            text: tables.map(tables.word(field(texts, "prb_data_ring.data")?)?, text_size)?,
            head: tables.map(field(descriptors, "prb_desc_ring.head_id")?, 8)?,
            count,
            text_size,
            sizes,
            state: info.offset("prb_desc.state_var")?,
            begin: place + info.offset("prb_data_blk_lpos.begin")?,
            next: place + info.offset("prb_data_blk_lpos.next")?,
            text_length: info.offset("printk_info.text_len")?,
        })
    }

    /// The id of the newest record.
    pub(super) fn head(&self, ram: &Ram) -> Result<u64, String> {
        Ok(self.head.word(ram, 0)? & ID)
    }

    /// How many records there are from `id` to the newest; `None` if the ring cannot hold as many.
    pub(super) fn from(&self, id: u64, ram: &Ram) -> Result<Option<u64>, String> {
        let count = moved(self.head(ram)?, 1_u64.wrapping_sub(id));
        Ok((count <= self.count).then_some(count))
    }

    /// How many records the ring has room for.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The record with that id.
    pub(super) fn slot(&self, id: u64, ram: &Ram) -> Result<Slot, String> {
        let at = id % self.count * self.sizes.0;
        let state = self.descriptors.word(ram, at + self.state)?;
        if state & ID != id {
            return Ok(Slot::Other);
        }
        let make = match state >> ID_BITS {
            RESERVED => return Ok(Slot::Reserved),
            COMMITTED => Slot::Open,
            FINALIZED => Slot::Complete,
            _ => return Ok(Slot::Other),
        };
        let info = id % self.count * self.sizes.1 + self.text_length;
        let info = self.infos.word(ram, info)?;
        let (length, facility) = (info & 0xffff, info >> 16 & 0xff);
        let begin = self.descriptors.word(ram, at + self.begin)?;
        let next = self.descriptors.word(ram, at + self.next)?;
        let (start, length) = self.text_of(begin, next, length);
        let mut text = vec![0; length as usize];
        self.text.read(ram, start as usize, &mut text)?;
        Ok(make(Record { text: shown(&text), is_of_kernel: facility == 0 }))
    }

    /// Where the text of a block is, which is at `begin` and before `next`. A block that would not fit at the end of the
    /// ring is at its start.
    fn text_of(&self, begin: u64, next: u64, length: u64) -> (u64, u64) {
        // Positions of data are even; a record without text has odd ones.
        if begin % 2 == 1 {
            return (0, 0);
        }
        let end = next.wrapping_sub(1) % self.text_size + 1;
        let begin = begin % self.text_size;
        let start = (if begin >= end { 0 } else { begin }) + WORD;
        (start, length.min(end.saturating_sub(start)).min(FINDING as u64))
    }
}

/// The id that is so many records further. Ids start just below their overflow.
pub(super) fn moved(id: u64, by: u64) -> u64 {
    id.wrapping_add(by) & ID
}

/// A text as /dev/kmsg shows it (kernel/printk/printk.c, msg_add_ext_text()).
fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..127 if *byte != b'\\' => shown.push(char::from(*byte)),
            _ => shown.push_str(&format!("\\x{byte:02x}")),
        }
    }
    shown
}

/// The state of a record is in the highest bits of a word, its id in the others.
const ID_BITS: u32 = 62;
const ID: u64 = (1 << ID_BITS) - 1;
const RESERVED: u64 = 0;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;

/// The id in front of each text.
const WORD: u64 = 8;

/// The largest log buffer has 2 GiB (kernel/printk/printk.c, LOG_BUF_LEN_MAX); one of a usual size has 128 KiB to 16
/// MiB, with a record for each 32 bytes.
const TEXT_BITS: u32 = 28;
const COUNT_BITS: u32 = TEXT_BITS - 5;
