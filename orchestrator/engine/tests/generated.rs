//! A bounded number of generated inputs for each reader of foreign input; the fuzzer (fuzz/) makes more. The cases are the
//! same each time, so that a failure can be repeated: it names its target and its number.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../fuzz/cases.rs"]
mod cases;

use luqual_model::{
    CellKey, CellRecord, End, Event, Finding, FindingKind, HostInfo, KernelInfo, Outcome, PlannedCell, Probe, RunInfo,
    Side, Stamped, Status,
};
use std::fs;
use std::io::Write;
use std::panic::catch_unwind;
use std::path::Path;

/// A generator of numbers (xorshift64*), since the cases must not depend on the version of a crate.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }
}

/// What readers look for, and what they might not expect.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\x1b[31m",
    b"\xff\xfe",
    "\u{202e}".as_bytes(),
    b"[    1.000000] ",
    b"BUG: ",
    b"Linux version ",
    b"Kernel panic - not syncing: ",
    b"../",
    b"/",
    b"\"",
    b"\\u0000",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"[[",
    b"{\"",
    b"((((",
    b"!",
    b"*",
    b"->",
    b"null",
];

/// One of the seeds, changed in a few places.
fn case(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut case = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(case.len() + 1);
        match numbers.below(7) {
            0 => case.truncate(at),
            1 if at < case.len() => case[at] ^= 1 << numbers.below(8),
            2 if at < case.len() => case[at] = numbers.next() as u8,
            3 => drop(case.splice(at..at, WORDS[numbers.below(WORDS.len())].iter().copied())),
            4 => {
                let end = (at + numbers.below(64)).min(case.len());
                drop(case.drain(at..end));
            }
            5 => {
                // The same again, which makes long lists and long lines.
                let end = (at + numbers.below(256)).min(case.len());
                let part = case[at..end].repeat(1 + numbers.below(8));
                drop(case.splice(at..at, part));
            }
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                let part: Vec<u8> = other[from..].iter().take(numbers.below(512)).copied().collect();
                drop(case.splice(at..at, part));
            }
        }
    }
    case
}

fn generated(name: &str, count: usize, seeds: &[Vec<u8>], take: fn(&[u8])) {
    // For a longer search: other cases, and that many times as many.
    let more: u64 = std::env::var("LUQUAL_CASES").ok().and_then(|more| more.parse().ok()).unwrap_or(1);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ more);
    let count = count * usize::try_from(more).unwrap();
    seeds.iter().for_each(|seed| take(seed));
    for number in 0..count {
        let case = case(seeds, &mut numbers);
        if catch_unwind(|| take(&case)).is_err() {
            panic!("{name}: case {number} of {} bytes: {}", case.len(), case.escape_ascii());
        }
    }
}

fn file(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

#[test]
fn consoles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vm/tests/corpus");
    let texts = ["bad", "good"].into_iter().flat_map(|name| fs::read_dir(folder.join(name)).unwrap().flatten());
    let mut seeds: Vec<Vec<u8>> = texts.map(|entry| fs::read(entry.path()).unwrap()).collect();
    seeds.iter_mut().for_each(|text| text.truncate(8 << 10));
    assert!(seeds.len() > 10);
    generated("console", 1500, &seeds, cases::console);
}

#[test]
fn a_line_of_brackets_is_read_in_time() {
    let line = [&b"["[..], &b"[".repeat(256 << 10), b"\n"].concat();
    let started = std::time::Instant::now();
    cases::console(&line);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

/// A journal with a cell.
fn journal_lines() -> Vec<u8> {
    let [source, target, profile, workload] = ["7.2.12", "7.3.4", "q35-intel", "memfd.basic"].map(str::to_owned);
    let plan = PlannedCell { key: CellKey { source, target, profile, workload }, prediction: None, expectation: None };
    let mut cell = CellRecord::new(plan.clone(), Outcome::Lost, Status::of(&End::of(Outcome::Lost, &[]), None));
    let probe = |passed| Probe { name: "memfd 4k content".into(), expected: "1".into(), observed: "2".into(), passed };
    (cell.title, cell.probes) = ("memfd 4k content: expected 1, observed 2".into(), vec![probe(false), probe(true)]);
    let (kind, side, text) = (FindingKind::Kho, Side::Target, "KHO: x".into());
    cell.findings = vec![Finding { kind, side, hop: 1, at_us: 1, line: 1, text, function: None }];
    cell.folder = format!("cells/{}", cell.id);
    let mut run = RunInfo::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
    for name in ["7.2.12", "7.3.4"] {
        let info = KernelInfo { name: name.into(), release: name.into(), ..KernelInfo::default() };
        run.kernels.insert(name.into(), info);
    }
    run.planned = vec![plan];
    let events = [
        Event::RunStarted { run: Box::new(run) },
        Event::BootStarted { boot: cell.id.clone(), cells: vec![cell.id.clone()] },
        Event::CellFinished { record: Box::new(cell) },
        Event::RunFinished { interrupted: false },
    ];
    let line = |event| serde_json::to_string(&Stamped { at_us: 1, event }).unwrap() + "\n";
    events.into_iter().map(line).collect::<String>().into_bytes()
}

#[test]
fn journals() {
    generated("journal", 2000, &[journal_lines()], cases::journal);
}

#[test]
fn programs() {
    let ktap = b"KTAP version 1\n1..2\n  KTAP version 1\n  1..1\n  ok 1 a # SKIP no\nok 1 b\nnot ok 2 c # TODO x\n# Totals: pass:1 fail:0\n";
    let tap = b"TAP version 14\n1..0 # SKIP none\nBail out! x\n# Subtest: a\n    ok 1\n    1..1\nok 1 - a\n  ---\n  b: c\n  ...\n";
    let words = b"[RUN] a\n[  OK  ] a\n[FAIL] b\n# 3 / 4 tests passed.\n0 PASSED, 3 FAILED\n";
    generated("ktap", 3000, &[ktap.to_vec(), tap.to_vec(), words.to_vec()], cases::ktap);
}

#[test]
fn traces() {
    let text = b"1166@1795544754.580322:pci_cfg_write nvme 00:02.0 @0x88 <- 0x8000\n\
        1@2.000003:vtd_dmar_translate dev 00:02.00 iova 0xffffd000 -> gpa 0xdc0000 mask 0xfff\n\
        1@2.000004:virtio_iommu_report_fault FAULT reason=2 flags=2 endpoint=16 address =0x5000\n\
        1@2.000005:qdev_reset obj=0x55875b977ab0(nvme)\n";
    generated("trace", 5000, &[text.to_vec()], cases::trace);
}

/// A bzImage with that payload (Documentation/arch/x86/boot.rst).
fn image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x236] = 1;
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x309].copy_from_slice(b"7.3.4 #1\0");
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend(payload);
    image
}

#[test]
fn images() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let elf = b"\x7fELF\x02\x01\x01\0kho-v4\0IKCFG_ST\x1f\x8b\x08\0".repeat(8);
    gzip.write_all(&elf).unwrap();
    let lz4 = [&b"\x02\x21\x4c\x18\x20\0\0\0"[..], &[0x1f; 32]].concat();
    let lzma = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x3f\x91\x45".to_vec();
    let zstd = b"\x28\xb5\x2f\xfd\x04\x20\x41\0\0\x7fELF\x02\x01\x01\0".to_vec();
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0!\x01\x16\0\0\0".to_vec();
    let seeds = [elf.to_vec(), gzip.finish().unwrap(), lz4, lzma, zstd, xz].map(|payload| image(&payload));
    generated("image", 1500, &seeds, cases::image);
}

#[test]
fn bundles() {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    for (name, content) in [("bundle.json", &b"{}"[..]), ("kernels/ab/bzImage", b"kernel"), ("logs/console.log", b"x")]
    {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    let packed = builder.into_inner().unwrap().finish().unwrap();
    generated("bundle", 400, &[packed], cases::bundle);
}

#[test]
fn matrices() {
    let mut own = file("matrix.toml");
    own.truncate(4 << 10);
    let small =
        b"[matrix.m]\nkernels = [\"7.2.12\", \"./a\"]\npairs = \"all\"\nworkloads = [\"memfd.*\"]\n\n[[expect]]\n\
        source = \"*\"\ntarget = \">=7.2\"\nworkload = \"luo.name\"\noutcome = \"lost\"\nreason = \"x\"\n";
    generated("matrix", 1500, &[small.to_vec(), own], cases::matrix);
}

#[test]
fn filters() {
    let seeds = [&b"source(<7.1) & (target(>=7.2) | !workload(memfd.*)) & profile(q35-*)"[..], b"!(!(!source(6.19)))"];
    generated("filter", 10_000, &seeds.map(<[u8]>::to_vec), cases::filter);
}
