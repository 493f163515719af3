//! The note of /sys/kernel/vmcoreinfo: where a kernel says that its symbols and the fields of its structures are
//! (Documentation/admin-guide/kdump/vmcoreinfo.rst, kernel/vmcore_info.c).

use luqual_model::bounds::VMCOREINFO;
use std::collections::HashMap;

/// The lines of the note.
pub(super) struct Vmcoreinfo(HashMap<String, String>);

impl Vmcoreinfo {
    /// Takes the memory of the note: an ELF note whose descriptor is text.
    pub(super) fn parse(note: &[u8]) -> Result<Self, String> {
        let word = |at: usize| {
            let bytes = note.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(|bytes| u32::from_le_bytes(bytes) as usize).ok_or("it is too short")
        };
        let (name, text) = (word(0)?, word(4)?);
        if note.get(HEADER..HEADER + NAME.len()) != Some(NAME) || name != NAME.len() || text > VMCOREINFO {
            return Err("it is not a note of VMCOREINFO".to_owned());
        }
        let start = HEADER + name.next_multiple_of(4);
        let text = note.get(start..start + text).ok_or("it is too short")?;
        let lines = String::from_utf8_lossy(text);
        let lines = lines.lines().filter_map(|line| line.split_once('='));
        Ok(Self(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// The release of the kernel that wrote it.
    pub(super) fn release(&self) -> &str {
        self.0.get("OSRELEASE").map_or("", String::as_str)
    }

    /// The virtual address of a symbol.
    pub(super) fn symbol(&self, name: &str) -> Result<u64, String> {
        let key = format!("SYMBOL({name})");
        self.value(&key, |text| u64::from_str_radix(text, 16).ok())
    }

    /// The offset of a field, such as `printk_info.seq`.
    pub(super) fn offset(&self, field: &str) -> Result<u64, String> {
        self.value(&format!("OFFSET({field})"), |text| text.parse().ok().filter(|it| *it < LARGEST))
    }

    /// The size of a structure.
    pub(super) fn size(&self, structure: &str) -> Result<u64, String> {
        self.value(&format!("SIZE({structure})"), |text| text.parse().ok().filter(|it| (1..LARGEST).contains(it)))
    }

    /// A number, which can be negative.
    pub(super) fn number(&self, name: &str) -> Result<i64, String> {
        self.value(&format!("NUMBER({name})"), |text| text.parse().ok())
    }

    /// By how much the kernel's image is above the addresses that it was linked for.
    pub(super) fn kernel_offset(&self) -> Result<u64, String> {
        self.value("KERNELOFFSET", |text| u64::from_str_radix(text, 16).ok())
    }

    fn value<T>(&self, key: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let text = self.0.get(key).ok_or_else(|| format!("it has no {key}"))?;
        parse(text).ok_or_else(|| format!("its {key} is {text}"))
    }
}

/// Three words before the name.
const HEADER: usize = 12;
const NAME: &[u8] = b"VMCOREINFO\0";

/// No structure of the log is larger.
const LARGEST: u64 = 4096;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A note with that text.
    pub(in super::super) fn note(text: &str) -> Vec<u8> {
        let words = [NAME.len() as u32, text.len() as u32, 0];
        let mut note: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        note.extend(NAME);
        note.resize(HEADER + NAME.len().next_multiple_of(4), 0);
        note.extend(text.as_bytes());
        note
    }

    #[test]
    fn each_kind_of_line_is_read() {
        let text = "OSRELEASE=7.3.4\nSYMBOL(prb)=ffffffff81c0dd08\nOFFSET(printk_info.seq)=8\nSIZE(prb_desc)=24\n\
                    NUMBER(phys_base)=-16777216\nKERNELOFFSET=1f000000\nCRASHTIME=1";
        let info = Vmcoreinfo::parse(&note(text)).unwrap();
        assert_eq!(info.release(), "7.3.4");
        assert_eq!(info.symbol("prb"), Ok(0xffff_ffff_81c0_dd08));
        assert_eq!((info.offset("printk_info.seq"), info.size("prb_desc")), (Ok(8), Ok(24)));
        assert_eq!((info.number("phys_base"), info.kernel_offset()), (Ok(-16_777_216), Ok(0x1f00_0000)));
        assert_eq!(info.symbol("tea"), Err("it has no SYMBOL(tea)".to_owned()));
    }

    #[test]
    fn what_is_not_a_note_is_refused_and_no_size_is_believed() {
        let mut other = note("A=1");
        other[12] = b'X';
        let mut long = note("A=1");
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let cut = note("A=1");
        for bytes in [&[][..], &[0; 8], &other, &long, &cut[..cut.len() - 1]] {
            assert!(Vmcoreinfo::parse(bytes).is_err(), "{bytes:?}");
        }
        let info = Vmcoreinfo::parse(&note("SIZE(a)=0\nSIZE(b)=99999999\nOFFSET(c)=-1\nSYMBOL(d)=tea")).unwrap();
        assert!(info.size("a").is_err() && info.size("b").is_err() && info.offset("c").is_err());
        assert_eq!(info.symbol("d"), Err("its SYMBOL(d) is tea".to_owned()));
    }
}
