use super::*;
use PageContent::{Filled, Zeros};
use PagePlace::{Memory as At, Nowhere, Swap};
use luqual_protocol::PageRun;

const MIB: u64 = 1 << 20;
const SEED: u64 = 42;

/// A memory of 1 MiB with a memfd of three pages and a byte: filled, filled again, a hole in memory, filled in part.
fn machine() -> (tempfile::NamedTempFile, Ram, MemfdPages) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(MIB).unwrap();
    let ram = Ram::of_file(file.path(), MIB).unwrap();
    let pages = [(At(0x5000), Filled(0)), (At(0x9000), Filled(3)), (At(0x2000), Zeros), (At(0x3000), Filled(0))];
    for (page, (place, content)) in pages.iter().enumerate() {
        if let (At(address), Filled(generation)) = (place, content) {
            let mut bytes = [0; PAGE];
            fill_page(generation_seed(SEED, *generation), memfd_number("a"), page as u64, &mut bytes);
            let length = if page == 3 { 1 } else { PAGE };
            ram.write(*address, &bytes[..length]).unwrap();
        }
    }
    let told = MemfdPages::new("a", 3 * PAGE as u64 + 1, pages);
    (file, ram, told)
}

fn found(ram: &Ram, told: &MemfdPages) -> String {
    compare(ram, SEED, told).unwrap().map_or_else(|| SAME.to_owned(), |it| it.to_string())
}

#[test]
fn each_byte_is_compared_and_none_behind_the_end() {
    let (_file, ram, told) = machine();
    assert_eq!(found(&ram, &told), SAME);
    // Behind the end of the memfd.
    ram.write(0x3001, &[7]).unwrap();
    assert_eq!(found(&ram, &told), SAME);
    for (address, page, offset) in [(0x5000, 0, 0), (0x9fff, 1, 4095), (0x2010, 2, 16), (0x3000, 3, 0)] {
        let mut byte = [0];
        ram.read(address, &mut byte).unwrap();
        ram.write(address, &[byte[0] ^ 1]).unwrap();
        let observed = found(&ram, &told);
        let told_as = format!("page {page} offset {offset} is {:#04x}, was {:#04x}", byte[0] ^ 1, byte[0]);
        assert_eq!(observed, format!("{told_as} (differing pages: 1)"));
        ram.write(address, &byte).unwrap();
    }
    assert!(compare(&ram, SEED + 1, &told).unwrap().is_some_and(|it| it.pages == 3));
}

#[test]
fn pages_of_one_run_are_all_compared() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(MIB).unwrap();
    let ram = Ram::of_file(file.path(), MIB).unwrap();
    let told = MemfdPages::new("zeros", 200 * PAGE as u64, (0..200).map(|page| (At(page * PAGE as u64), Zeros)));
    assert_eq!((told.runs.len(), found(&ram, &told)), (1, SAME.to_owned()));
    ram.write(199 * PAGE as u64 + 5, &[1]).unwrap();
    ram.write(64 * PAGE as u64, &[1]).unwrap();
    assert_eq!(found(&ram, &told), "page 64 offset 0 is 0x01, was 0x00 (differing pages: 2)");
    // The same pages the other way round.
    let told = MemfdPages::new("zeros", 200 * PAGE as u64, (0..200).rev().map(|page| (At(page * PAGE as u64), Zeros)));
    assert_eq!(told.runs.len(), 1);
    assert_eq!(found(&ram, &told), "page 0 offset 5 is 0x01, was 0x00 (differing pages: 2)");
    ram.write(199 * PAGE as u64 + 5, &[0]).unwrap();
    assert_eq!(found(&ram, &told), "page 135 offset 0 is 0x01, was 0x00 (differing pages: 1)");
    let run = PageRun { count: 3, place: PagePlace::Downwards(PAGE as u64), content: Zeros };
    let below = MemfdPages { name: "below".into(), size: 3 * PAGE as u64, runs: vec![run] };
    assert!(compare(&ram, SEED, &below).is_err());
    assert!(compare(&ram, SEED, &MemfdPages::new("outside", 1, [(At(MIB), Zeros)])).is_err());
}

#[test]
fn content_that_is_not_in_memory_is_told_and_a_hole_is_none() {
    let (_file, ram, _) = machine();
    let with = |place, content| found(&ram, &MemfdPages::new("a", 1, [(place, content)]));
    assert_eq!(with(Nowhere, Zeros), SAME);
    assert_eq!(with(Nowhere, Filled(0)), "page 0 is not in memory (differing pages: 1)");
    assert_eq!(with(Swap, Filled(0)), "page 0 is in swap (differing pages: 1)");
}

/// A part of one boot, whose memory has changed or not after the kexec.
async fn watched(changes: bool) -> (Memory, MemfdPages) {
    let (_file, ram, told) = machine();
    let mut memory = Memory::of(2, true);
    memory.preserved(1, SEED, vec![told.clone()], MIB).unwrap();
    let before = memory.look(Look::BeforeKexec, &ram).await.unwrap();
    let [(1, probes)] = &before[..] else { panic!("{before:?}") };
    assert_eq!((probes[0].name.as_str(), probes[0].passed), ("memfd host: pages of a before the kexec", true));
    if changes {
        ram.write(0x5000, &[1, 2, 3]).unwrap();
    }
    assert!(memory.look(Look::AfterKexec, &ram).await.unwrap().iter().all(|(_, probes)| probes.is_empty()));
    (memory, told)
}

fn passed(probes: &[Probe]) -> Vec<(&str, bool)> {
    probes.iter().map(|probe| (probe.name.as_str(), probe.passed)).collect()
}

const AFTER: &str = "memfd host: pages of a after the kexec";
const PLACES: &str = "memfd host: places of a";

#[tokio::test]
async fn what_changed_over_the_kexec_is_found_though_the_guest_says_nothing() {
    let (mut memory, told) = watched(false).await;
    assert_eq!(passed(&memory.retrieved(1, &[told], false).unwrap()), [(AFTER, true), (PLACES, true)]);
    let (mut memory, told) = watched(true).await;
    assert_eq!(passed(&memory.retrieved(1, &[told], false).unwrap()), [(AFTER, false), (PLACES, true)]);
}

#[tokio::test]
async fn memory_that_was_copied_is_told() {
    let (mut memory, told) = watched(false).await;
    let mut runs = told.runs.clone();
    runs[1].place = At(0xa000);
    runs[3].place = Nowhere;
    let probes = memory.retrieved(1, &[MemfdPages { runs, ..told }], false).unwrap();
    assert_eq!(passed(&probes), [(AFTER, true), (PLACES, false)]);
    assert_eq!(probes[1].observed, "page 1 is at 0xa000, was at 0x9000 (moved pages: 2)");
    let (mut memory, told) = watched(false).await;
    let run = PageRun { count: 3, place: At(0x5000), content: Zeros };
    let shorter = MemfdPages { size: 3 * PAGE as u64, runs: vec![run], ..told };
    assert!(!memory.retrieved(1, &[shorter], false).unwrap()[1].passed);
}

#[tokio::test]
async fn a_memfd_that_nobody_could_watch_is_no_pass() {
    let mut memory = Memory::of(1, true);
    assert!(memory.preserved(0, SEED, Vec::new(), MIB).unwrap_err().contains("did not say where"));
    let short = MemfdPages { size: 2 * PAGE as u64, ..MemfdPages::new("a", 1, [(Nowhere, Zeros)]) };
    assert!(memory.preserved(0, SEED, vec![short], MIB).unwrap_err().contains("each page of memfd a once"));
    let one = MemfdPages::new("a", 1, [(Nowhere, Zeros)]);
    assert!(memory.preserved(0, SEED, vec![one.clone(), one.clone()], MIB).is_err());
    let large = MemfdPages::new("a", 2 * MIB, (0..512).map(|_| (Nowhere, Zeros)));
    assert!(memory.preserved(0, SEED, vec![large], MIB).unwrap_err().contains("512 preserved pages"));
    // Nobody looked after the kexec.
    memory.preserved(0, SEED, vec![one.clone()], MIB).unwrap();
    assert!(memory.retrieved(0, &[one], false).unwrap_err().contains("nobody looked"));
}

#[tokio::test]
async fn a_memfd_that_did_not_come_back_needs_a_probe_that_says_so() {
    let (mut memory, _) = watched(true).await;
    assert!(memory.retrieved(1, &[], false).unwrap_err().contains("memfd a"));
    let (mut memory, _) = watched(true).await;
    assert_eq!(memory.retrieved(1, &[], true), Ok(Vec::new()));
}

#[test]
fn a_guest_without_a_connection_is_not_watched() {
    let mut memory = Memory::of(1, false);
    assert_eq!(memory.preserved(0, SEED, Vec::new(), MIB), Ok(()));
    assert_eq!(memory.retrieved(0, &[], false), Ok(Vec::new()));
}
