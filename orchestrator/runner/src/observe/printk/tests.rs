use super::*;
use luqual_protocol::MemoryRange;
use std::io::Write as _;
use tempfile::NamedTempFile;

const MIB: u64 = 1 << 20;
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const NOTE: u64 = 0x1_0000;
const RING: u64 = 0x2_0000;
const DESCRIPTORS: u64 = 0x3_0000;
const INFOS: u64 = 0x4_0000;
const TEXT: u64 = 0x5_0000;
const TAINT: u64 = 0x6_0000;
const FINAL: u64 = 2;
const COUNT: u64 = 8;
const TEXT_SIZE: u64 = 256;

/// The memory of a kernel with a log of 8 records and 256 bytes, whose image is at physical address 0.
struct Kernel {
    file: NamedTempFile,
    symbols: NamedTempFile,
    ram: Ram,
    id: u64,
    position: u64,
}

impl Kernel {
    fn new() -> Self {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * MIB).unwrap();
        let ram = Ram::of_file(file.path(), 4 * MIB).unwrap();
        let mut symbols = NamedTempFile::new().unwrap();
        writeln!(symbols, "{:016x} D other\n{:016x} b tainted_mask", IMAGE, IMAGE + TAINT - 0x100).unwrap();
        // The first ids and positions are just below an overflow (DESC0_ID, BLK0_LPOS).
        let kernel = Self { file, symbols, ram, id: (1 << 62) - 3, position: u64::MAX - 23 };
        // The image is one large page, at the entries 511, 510 and 0.
        for (table, entry, value) in [(0x1000, 511, 0x2003), (0x2000, 510, 0x3003), (0x3000, 0, 0x83)] {
            kernel.put(table + entry * 8, value);
        }
        let text = "OSRELEASE=7.3.4\nSYMBOL(prb)=ffffffff80020000\nSYMBOL(init_top_pgt)=ffffffff80001000\n\
            OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=64\n\
            OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
            OFFSET(prb_desc_ring.head_id)=24\nSIZE(prb_desc)=24\nOFFSET(prb_desc.state_var)=0\n\
            OFFSET(prb_desc.text_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=8\n\
            SIZE(printk_info)=32\nOFFSET(printk_info.text_len)=16\nOFFSET(prb_data_ring.size_bits)=0\n\
            OFFSET(prb_data_ring.data)=8\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=100\n";
        kernel.ram.write(NOTE, &vmcoreinfo::tests::note(text)).unwrap();
        kernel.put(RING, IMAGE + RING + 8);
        let words = [3, IMAGE + DESCRIPTORS, IMAGE + INFOS, kernel.id, 0, 0, 0, 0, 8, IMAGE + TEXT];
        words.into_iter().zip(0..).for_each(|(word, at)| kernel.put(RING + 8 + at * 8, word));
        kernel
    }

    fn put(&self, address: u64, word: u64) {
        self.ram.write(address, &word.to_le_bytes()).unwrap();
    }

    fn set_state(&self, state: u64) {
        self.put(DESCRIPTORS + self.id % COUNT * 24, self.id | state << 62);
    }

    /// Logs a text, as process if it has a facility.
    fn log(&mut self, text: &str, facility: u64) {
        self.id = (self.id + 1) % (1 << 62);
        let block = (8 + text.len() as u64).next_multiple_of(8);
        // A block that would not fit at the end of the ring has its data at the start.
        let (at, length) = (self.position % TEXT_SIZE, block);
        let wraps = at + length > TEXT_SIZE;
        let start = if wraps { 0 } else { at };
        let skipped = if wraps { TEXT_SIZE - at } else { 0 };
        let next = self.position.wrapping_add(skipped).wrapping_add(block);
        self.ram.write(TEXT + start + 8, text.as_bytes()).unwrap();
        self.put(DESCRIPTORS + self.id % COUNT * 24 + 8, self.position);
        self.put(DESCRIPTORS + self.id % COUNT * 24 + 16, next);
        self.put(INFOS + self.id % COUNT * 32 + 16, text.len() as u64 | facility << 16 | 0xab << 24);
        self.position = next;
        self.set_state(FINAL);
        self.put(RING + 8 + 24, self.id);
    }

    fn told(&self, line: &str, taint: u64) -> KernelLog {
        let length = 4096;
        let vmcoreinfo = Some(MemoryRange { address: NOTE, length });
        KernelLog { lines: vec!["first".to_owned(), line.to_owned()], taint, vmcoreinfo }
    }

    fn find(&self, told: &KernelLog) -> Result<(Source, u64), String> {
        let symbols = Some(self.symbols.path());
        Source::find(&self.ram, KernelOfLog { release: "7.3.4", symbols, told })
    }
}

/// A kernel that has told its last line, and what was heard of it since.
fn heard() -> (Kernel, Source, Heard) {
    let mut kernel = Kernel::new();
    kernel.log("first", 0);
    kernel.log("told", 0);
    let (source, next) = kernel.find(&kernel.told("told", 0)).unwrap();
    (kernel, source, Heard { next, ..Heard::default() })
}

#[test]
fn what_comes_after_the_last_line_is_heard_once_and_in_order() {
    let (mut kernel, source, mut heard) = heard();
    assert!(heard.look(&source, 10).is_continue());
    for number in 0..40 {
        kernel.log(&format!("line {number} \\ \u{e9}"), 0);
        assert!(heard.look(&source, 20).is_continue());
    }
    kernel.log("WARNING: tea", 0);
    kernel.log("WARNING: of a process", 1);
    assert!(heard.look(&source, 30).is_continue() && heard.look(&source, 40).is_continue());
    let late = heard.end(40, 0).unwrap();
    assert_eq!(late.lines.len(), 41);
    assert_eq!((&*late.lines[7], &*late.lines[40]), (r"line 7 \x5c \xc3\xa9", "WARNING: tea"));
}

#[test]
fn a_record_that_may_be_continued_is_kept_as_it_was_last() {
    let (mut kernel, source, mut heard) = heard();
    kernel.log("open", 0);
    kernel.set_state(1);
    assert!(heard.look(&source, 1).is_continue());
    let (open, next) = (heard.open.clone(), heard.next);
    kernel.set_state(0);
    assert!(heard.look(&source, 2).is_continue());
    assert_eq!((open.as_deref(), heard.next), (Some("open"), next), "it is not complete");
    assert_eq!(heard.end(2, 0).unwrap().lines, ["open"]);
}

#[test]
fn a_record_whose_descriptor_is_not_there_yet_is_heard_when_it_is() {
    let (mut kernel, source, mut heard) = heard();
    kernel.log("late", 0);
    let place = DESCRIPTORS + kernel.id % COUNT * 24;
    for before in [5, kernel.id.wrapping_sub(COUNT) | 3 << 62] {
        kernel.put(place, before);
        assert!(heard.look(&source, 1).is_continue());
    }
    assert_eq!(heard.last_us, 0);
    kernel.set_state(FINAL);
    assert!(heard.look(&source, 2).is_continue());
    assert_eq!((heard.others, heard.end(2, 0).unwrap().lines), (0, vec!["late".to_owned()]));
}

#[test]
fn taint_counts_until_the_memory_is_somebody_elses() {
    let (kernel, source, mut heard) = heard();
    for (at_us, taint) in [(1_000, 0), (2_000, 512), (2_500, 512), (3_000, 512 | 128)] {
        kernel.put(TAINT, taint);
        assert!(heard.look(&source, at_us).is_continue());
    }
    // 100 ms after the last tick nothing is believed, and never what no flag has.
    kernel.put(TAINT, 1 << 40);
    assert!(heard.look(&source, 4_000).is_continue());
    kernel.put(TAINT, 4);
    assert!(heard.look(&source, 150_000).is_continue());
    assert_eq!(heard.end(10_000, 0).unwrap().taint, 512 | 128);
}

#[test]
fn memory_that_is_somebody_elses_is_not_heard_and_a_kernel_is_heard_to_its_end() {
    for (is_head, word) in [(true, 17), (true, 1 << 40), (false, u64::MAX)] {
        let (mut kernel, source, mut heard) = heard();
        assert!(heard.look(&source, 1_000).is_continue());
        kernel.log("x", 0);
        kernel.put(if is_head { RING + 32 } else { DESCRIPTORS + kernel.id % COUNT * 24 }, word);
        if !is_head {
            assert!((0..UNSURE).all(|_| heard.look(&source, 2_000).is_continue()), "it can be about to be written");
        }
        assert!(heard.look(&source, 2_000).is_break(), "{word}");
        assert_eq!(heard.end(1_500, 500).unwrap(), LateLog::default());
        let why = "its log buffer could not be read any more 4 ms before its last tick";
        assert_eq!(heard.end(5_501, 500), Err(why.to_owned()));
    }
}

#[test]
fn a_flood_is_bounded_and_told() {
    let (mut kernel, source, mut heard) = heard();
    heard.lines = vec![String::new(); LATE_LINES - 1];
    for _ in 0..3 {
        kernel.log("flood", 0);
    }
    assert!(heard.look(&source, 1).is_continue());
    let late = heard.end(1, 0).unwrap();
    assert_eq!(late.lines[LATE_LINES - 1..], ["flood", "… 2 lines left out here …"]);
}

#[test]
fn the_witness_has_to_see_what_the_guest_told() {
    let mut kernel = Kernel::new();
    kernel.log("first", 0);
    kernel.put(TAINT, 512);
    let why = |told: &KernelLog| kernel.find(told).err().unwrap_or_default();
    assert_eq!(why(&kernel.told("first", 512)), "");
    assert_eq!(why(&kernel.told("made up", 0)), "it has no record `made up`, which the guest told");
    assert!(why(&kernel.told("first", 128)).ends_with("tainted_mask is 0x200 where it says, the guest told 0x80"));
    let nowhere = KernelLog { vmcoreinfo: None, ..kernel.told("first", 512) };
    assert!(why(&nowhere).contains("CONFIG_CRASH_DUMP"));
    let range = |address| Some(MemoryRange { address, length: u64::MAX });
    for address in [0, RING, 4 * MIB, u64::MAX] {
        let told = KernelLog { vmcoreinfo: range(address), ..kernel.told("first", 512) };
        assert!(!why(&told).is_empty(), "{address:#x}");
    }
    // A ring that cannot be, tables that lead nowhere, and symbols of another kernel.
    for (address, word) in
        [(RING + 8, 60), (RING + 16, 1 << 50), (0x2000 + 510 * 8, 0), (0x1000 + 511 * 8, 1 << 50 | 1)]
    {
        let mut was = [0; 8];
        kernel.ram.read(address, &mut was).unwrap();
        kernel.put(address, word);
        assert!(!why(&kernel.told("first", 512)).is_empty(), "{address:#x}");
        kernel.ram.write(address, &was).unwrap();
    }
    assert_eq!(why(&kernel.told("first", 512)), "");
    std::fs::write(kernel.symbols.path(), "0 T nothing\n").unwrap();
    assert!(why(&kernel.told("first", 512)).ends_with("it has no tainted_mask"));
    assert!(kernel.file.path().exists());
}

#[test]
fn small_pages_are_found_where_they_are() {
    let kernel = Kernel::new();
    let info = |text: &str| Vmcoreinfo::parse(&vmcoreinfo::tests::note(text)).unwrap();
    // Entry 1 of each level: the tables at 0x7000, 0x8000 and 0x9000; one page is encrypted.
    for (at, value) in
        [(0x1008, 0x7003), (0x7008, 0x8003), (0x8008, 0x9003), (0x9008, 0xb003), (0x9010, 1 << 47 | 0xa003)]
    {
        kernel.put(at, value);
    }
    let note = info(&format!(
        "SYMBOL(init_top_pgt)=ffffffff80002000\nNUMBER(phys_base)=-4096\nNUMBER(sme_mask)={}",
        1_u64 << 47
    ));
    let tables = PageTables::of(&kernel.ram, &note).unwrap();
    let start = 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12;
    kernel.ram.write(0xbffc, b"abcd").unwrap();
    kernel.ram.write(0xa000, b"efgh").unwrap();
    let mut text = [0; 8];
    tables.map(start + 0xffc, 8).unwrap().read(&kernel.ram, 0, &mut text).unwrap();
    assert_eq!(&text, b"abcdefgh");
    let mapped = tables.map(start, 16).unwrap();
    assert!(
        mapped.read(&kernel.ram, 9, &mut text).is_err() && mapped.read(&kernel.ram, usize::MAX, &mut text).is_err()
    );
    let note = info("SYMBOL(init_top_pgt)=ffffffff7fffffff\nNUMBER(phys_base)=0");
    assert!(PageTables::of(&kernel.ram, &note).unwrap().map(IMAGE | 0xffff_f000, 1).is_err(), "nothing overflows");
    for (address, length) in [(start + 0x2000, 1), (start, 5 * MIB), (u64::MAX, 2)] {
        assert!(tables.map(address, length).is_err(), "{address:#x}");
    }
}
