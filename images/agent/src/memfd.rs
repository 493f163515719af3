//! memfds with known content: how they are made, and how they are compared with what they were.

use crate::mapping::{Mapping, PAGE};
use luqual_protocol::content::{fill_page, generation_seed, memfd_number};
use luqual_protocol::{MemfdPages, PageContent, PagePlace};
use rustix::fs::{MemfdFlags, SeekFrom, fstat, memfd_create, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// The description of a memfd.
#[derive(Clone, Copy)]
pub(crate) struct Memfd {
    /// Its name for memfd_create(2), and in probes.
    pub(crate) name: &'static str,
    /// In bytes.
    pub(crate) size: u64,
    /// The file offset.
    pub(crate) offset: u64,
    /// Flags for memfd_create(2) in addition to MFD_CLOEXEC.
    pub(crate) flags: MemfdFlags,
    /// The content of each page when the memfd is preserved.
    pub(crate) pages: fn(u64) -> Page,
    /// The content of each page when the memfd comes back, if that differs.
    pub(crate) later: Option<fn(u64) -> Page>,
}

/// The content of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// A hole, which reads as zeros.
    Hole,
    /// The output of [`fill_page`] for the seed, the memfd's name, the page's number and this generation.
    Filled(u8),
}

/// Every page is filled.
pub(crate) fn filled(_: u64) -> Page {
    Page::Filled(0)
}

/// Every page is a hole.
pub(crate) fn empty(_: u64) -> Page {
    Page::Hole
}

impl Memfd {
    /// A memfd that is filled to its end, with the offset at 0.
    pub(crate) const fn new(name: &'static str, size: u64) -> Self {
        Self { name, size, offset: 0, flags: MemfdFlags::empty(), pages: filled, later: None }
    }

    /// A memfd that is one hole.
    pub(crate) const fn blank(name: &'static str, size: u64) -> Self {
        Self { pages: empty, ..Self::new(name, size) }
    }

    /// Makes the memfd, with its size, its content and its offset.
    pub(crate) fn make(&self, seed: u64) -> io::Result<File> {
        let file = File::from(memfd_create(self.name, self.flags | MemfdFlags::CLOEXEC)?);
        self.fill(&file, seed)?;
        Ok(file)
    }

    /// Gives a new file its size, its content and its offset.
    pub(crate) fn fill(&self, file: &File, seed: u64) -> io::Result<()> {
        file.set_len(self.size)?;
        self.write(file, seed, self.all_pages(), self.pages)?;
        seek(file, SeekFrom::Start(self.offset))?;
        Ok(())
    }

    /// The numbers of all pages.
    pub(crate) fn all_pages(&self) -> Range<u64> {
        0..self.size.div_ceil(PAGE as u64)
    }

    /// The content of a filled page of this generation.
    pub(crate) fn content(&self, seed: u64, page: u64, generation: u8) -> Box<[u8; PAGE]> {
        let mut bytes = Box::new([0; PAGE]);
        self.fill_page(seed, page, Page::Filled(generation), &mut bytes);
        bytes
    }

    fn fill_page(&self, seed: u64, number: u64, page: Page, bytes: &mut [u8; PAGE]) {
        match page {
            Page::Hole => bytes.fill(0),
            Page::Filled(generation) => {
                fill_page(generation_seed(seed, generation), memfd_number(self.name), number, bytes)
            }
        }
    }

    /// Writes those of `pages` that are filled according to `what`, by write(2).
    pub(crate) fn write(&self, file: &File, seed: u64, pages: Range<u64>, what: fn(u64) -> Page) -> io::Result<()> {
        let mut chunk = vec![[0; PAGE]; CHUNK_PAGES];
        let mut next = pages.start;
        while next < pages.end {
            let run = (next..pages.end).take_while(|page| what(*page) != Page::Hole).take(CHUNK_PAGES).count() as u64;
            if run == 0 {
                next += 1;
                continue;
            }
            for (page, bytes) in (next..next + run).zip(&mut chunk) {
                self.fill_page(seed, page, what(page), bytes);
            }
            let at = next * PAGE as u64;
            let length = self.size.saturating_sub(at).min(run * PAGE as u64) as usize;
            file.write_all_at(&chunk.as_flattened()[..length], at)?;
            next += run;
        }
        Ok(())
    }

    /// The first difference between `file` and its description, as it has to come back. A file that is too short reads as zeros
    /// behind its end.
    pub(crate) fn difference(&self, file: &File, seed: u64) -> rustix::io::Result<Option<Difference>> {
        let what = self.later.unwrap_or(self.pages);
        let mut found: Option<Difference> = None;
        let mut chunk = vec![[0; PAGE]; CHUNK_PAGES];
        let mut expected = [0; PAGE];
        for start in self.all_pages().step_by(CHUNK_PAGES) {
            let at = start * PAGE as u64;
            let length = (self.size - at).min((CHUNK_PAGES * PAGE) as u64) as usize;
            read_or_zero(file, &mut chunk.as_flattened_mut()[..length], at)?;
            for (page, observed) in (start..self.all_pages().end).zip(&chunk) {
                self.fill_page(seed, page, what(page), &mut expected);
                let bytes = (self.size - page * PAGE as u64).min(PAGE as u64) as usize;
                if observed[..bytes] == expected[..bytes] {
                    continue;
                }
                let offset = observed.iter().zip(&expected).position(|(o, e)| o != e).unwrap_or_default();
                let first = found.get_or_insert(Difference {
                    page,
                    offset,
                    expected: expected[offset],
                    observed: observed[offset],
                    pages: 0,
                });
                first.pages += 1;
            }
        }
        Ok(found)
    }

    /// Where the pages of `file` are in memory, and what they have to contain when it comes back. No page is allocated for this, and
    /// neither the file nor its offset changes.
    pub(crate) fn locate(&self, file: &File) -> io::Result<MemfdPages> {
        let what = self.later.unwrap_or(self.pages);
        let there = self.size.min(file.metadata()?.len());
        let mut places = match there {
            0 => Vec::new(),
            _ => Mapping::view_of_file(file, there as usize)?.physical_addresses()?,
        };
        places.resize(self.all_pages().count(), None);
        let place = |(page, address): (u64, Option<u64>)| {
            Ok::<_, io::Error>(match address {
                Some(address) => PagePlace::Memory(address),
                None if page * (PAGE as u64) < there && has_data(file, page)? => PagePlace::Swap,
                None => PagePlace::Nowhere,
            })
        };
        let content = |page| match what(page) {
            Page::Hole => PageContent::Zeros,
            Page::Filled(generation) => PageContent::Filled(generation),
        };
        let places: Vec<PagePlace> = self.all_pages().zip(places).map(place).collect::<io::Result<_>>()?;
        Ok(MemfdPages::new(self.name, self.size, places.into_iter().zip(self.all_pages().map(content))))
    }

    /// The size of `file`, in bytes.
    pub(crate) fn size_of(file: &File) -> rustix::io::Result<i64> {
        fstat(file).map(|stat| stat.st_size)
    }
}

/// The file that says whether the kernel makes memfds of large folios (Documentation/admin-guide/mm/transhuge.rst).
const SHMEM_ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Calls `make` while the kernel makes memfds of folios of 2 MiB, as long as it has free ones.
pub(crate) fn with_large_folios<T>(make: impl FnOnce() -> T) -> Result<T, String> {
    let set = |mode: &str| std::fs::write(SHMEM_ENABLED, mode).map_err(|error| format!("{SHMEM_ENABLED}: {error}"));
    set("always")?;
    let made = make();
    set("never")?;
    Ok(made)
}

/// How many pages are written or read at a time.
const CHUNK_PAGES: usize = 64;

/// The first difference of a memfd, and how many pages differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    page: u64,
    /// In bytes from the start of the page.
    offset: usize,
    expected: u8,
    observed: u8,
    /// The number of pages that differ.
    pages: u64,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { page, offset, expected, observed, pages } = self;
        write!(f, "page {page} offset {offset} is {observed:#04x}, was {expected:#04x} (differing pages: {pages})")
    }
}

/// Whether a page that is not in memory has content. The file is opened again, since a search changes the offset.
fn has_data(file: &File, page: u64) -> io::Result<bool> {
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let at = page * PAGE as u64;
    match seek(&again, SeekFrom::Data(at)) {
        Ok(found) => Ok(found < at + PAGE as u64),
        Err(Errno::NXIO) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn read_or_zero(file: &File, mut bytes: &mut [u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let length = rustix::io::pread(file, &mut *bytes, at)?;
        if length == 0 {
            bytes.fill(0);
            break;
        }
        bytes = &mut bytes[length..];
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_memfd_has_no_difference() {
        for size in [0, 1, 4096, (1 << 20) + 1] {
            let spec = Memfd { offset: size + 3, ..Memfd::new("a", size) };
            let file = spec.make(42).unwrap();
            assert_eq!(Memfd::size_of(&file).unwrap() as u64, size);
            assert_eq!(seek(&file, SeekFrom::Current(0)).unwrap(), size + 3);
            assert_eq!(spec.difference(&file, 42).unwrap(), None, "{size}");
        }
    }

    #[test]
    fn one_byte_is_found_with_its_page_and_offset() {
        let spec = Memfd::new("a", (1 << 20) + 1);
        for (at, page, offset) in [(0, 0, 0), (1 << 20, 256, 0), (4096 * 3 + 17, 3, 17), ((1 << 20) - 1, 255, 4095)] {
            let file = spec.make(42).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let found = spec.difference(&file, 42).unwrap().unwrap();
            assert_eq!((found.page, found.offset, found.pages), (page, offset, 1));
            assert_eq!(found.observed, found.expected ^ 1);
        }
    }

    #[test]
    fn swapped_pages_another_seed_name_or_generation_and_a_short_file_are_found() {
        let spec = Memfd::new("a", (1 << 20) + 1);
        let file = spec.make(42).unwrap();
        let (mut first, mut second) = ([0; PAGE], [0; PAGE]);
        file.read_exact_at(&mut first, 0).unwrap();
        file.read_exact_at(&mut second, PAGE as u64).unwrap();
        file.write_all_at(&second, 0).unwrap();
        file.write_all_at(&first, PAGE as u64).unwrap();
        assert_eq!(spec.difference(&file, 42).unwrap().unwrap().pages, 2);

        let small = Memfd::new("b", 4096);
        let file = small.make(42).unwrap();
        assert!(small.difference(&file, 43).unwrap().is_some());
        assert!(Memfd::new("c", 4096).difference(&file, 42).unwrap().is_some());
        let other = Memfd { later: Some(|_| Page::Filled(1)), ..Memfd::new("b", 4096) };
        assert!(other.difference(&file, 42).unwrap().is_some());
        file.set_len(100).unwrap();
        assert_eq!(small.difference(&file, 42).unwrap().unwrap().offset, 100);
    }

    #[test]
    fn holes_are_zeros_and_stay_unallocated_until_they_are_written() {
        fn odd(page: u64) -> Page {
            if page % 2 == 1 { Page::Filled(0) } else { Page::Hole }
        }
        let spec = Memfd { pages: odd, ..Memfd::new("a", 9 * PAGE as u64) };
        let file = spec.make(1).unwrap();
        assert_eq!(fstat(&file).unwrap().st_blocks, 4 * 8);
        assert_eq!(spec.difference(&file, 1).unwrap(), None);
        file.write_all_at(&[1], 0).unwrap();
        assert_eq!(spec.difference(&file, 1).unwrap().unwrap().page, 0);
        spec.write(&file, 1, 2..3, filled).unwrap();
        assert_eq!(spec.difference(&file, 1).unwrap().unwrap().pages, 2);
    }

    #[test]
    fn a_search_for_pages_allocates_none_and_leaves_the_offset() {
        let spec = Memfd {
            pages: |page| if page == 1 { Page::Filled(3) } else { Page::Hole },
            ..Memfd::new("a", 4096 * 3 + 1)
        };
        let spec = Memfd { offset: 77, ..spec };
        let file = spec.make(1).unwrap();
        // Only root is shown the addresses.
        let Ok(told) = spec.locate(&file) else { return };
        let places: Vec<PagePlace> = told.places().collect();
        assert!(matches!(
            places[..],
            [PagePlace::Nowhere, PagePlace::Memory(_), PagePlace::Nowhere, PagePlace::Nowhere]
        ));
        assert_eq!(told.runs.iter().map(|run| run.content).collect::<Vec<_>>()[1], PageContent::Filled(3));
        assert!(told.is_whole());
        assert_eq!((fstat(&file).unwrap().st_blocks, seek(&file, SeekFrom::Current(0)).unwrap()), (8, 77));
        // A file that lost its end.
        file.set_len(4096).unwrap();
        assert!(spec.locate(&file).unwrap().places().all(|place| place == PagePlace::Nowhere));
    }
}
