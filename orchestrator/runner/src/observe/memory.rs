//! The host as a witness of preserved memory. The guest says where the pages of each memfd that a workload keeps are,
//! and the host reads them in the RAM file: just before the kexec, and when the next kernel has proved itself, before
//! its agent touches them. The host knows the content by itself, from the seed that it has sent, so that a guest whose
//! comparison is wrong hides nothing. The pages of a memfd that was retrieved have to be where they were: nothing was
//! copied.
//!
//! Not watched: memfds that a workload makes beside those that it keeps, since processes and devices may write them
//! until the kexec, and all memory of a guest without a connection, which goes on while the host reads.

use crate::judge::Stop;
use luqual_model::Probe;
use luqual_protocol::content::{PAGE, fill_page, generation_seed, memfd_number};
use luqual_protocol::{MemfdPages, PageContent, PagePlace};
use luqual_vm::Ram;
use std::fmt;
use std::io;

/// When the host looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The source is about to be left.
    BeforeKexec,
    /// The next kernel runs, and nothing was retrieved.
    AfterKexec,
}

/// The memory of the memfds that each part of a boot keeps.
pub(crate) struct Memory {
    /// By part; empty unless the part waits for its next kernel.
    parts: Vec<Vec<Kept>>,
    /// Whether the host can read at a moment that it chooses.
    is_watched: bool,
}

/// A memfd that was preserved.
struct Kept {
    seed: u64,
    told: MemfdPages,
    /// What was found after the kexec, once the host has looked.
    after: Option<Found>,
}

/// How the memory of a memfd differs from its content; `None` if it does not.
type Found = Option<Difference>;

/// The first page that differs, and how many do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    page: u64,
    what: Differs,
    pages: u64,
}

/// How a page differs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Differs {
    /// The byte at this offset.
    Byte { offset: usize, expected: u8, observed: u8 },
    /// A page with content is not in memory.
    Absent(PagePlace),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, what, pages } = self;
        match what {
            Differs::Byte { offset, expected, observed } => {
                write!(f, "page {page} offset {offset} is {observed:#04x}, was {expected:#04x}")?;
            }
            Differs::Absent(PagePlace::Swap) => write!(f, "page {page} is in swap")?,
            Differs::Absent(_) => write!(f, "page {page} is not in memory")?,
        }
        write!(f, " (differing pages: {pages})")
    }
}

impl Memory {
    pub(crate) fn of(parts: usize, is_watched: bool) -> Self {
        Self { parts: (0..parts).map(|_| Vec::new()).collect(), is_watched }
    }

    /// Takes what a part said of its memory after it was preserved. An error says what the agent did wrong: a
    /// workload that the host cannot watch is never taken for one that was watched.
    pub(crate) fn preserved(
        &mut self,
        part: usize,
        seed: u64,
        told: Vec<MemfdPages>,
        memory_bytes: u64,
    ) -> Result<(), String> {
        if !self.is_watched {
            return Ok(());
        }
        if told.is_empty() {
            return Err("the agent did not say where the preserved memory is".to_owned());
        }
        check_told(&told)?;
        self.parts[part] = told.into_iter().map(|told| Kept { seed, told, after: None }).collect();
        let pages: u64 = self.parts.iter().flatten().map(|kept| kept.told.count()).sum();
        if pages > memory_bytes / PAGE as u64 {
            return Err(format!("the agent names {pages} preserved pages, which is more than the machine has"));
        }
        Ok(())
    }

    /// Compares all preserved memory with its content. Returns the probes of each part, for the moment before the
    /// kexec; what is found after it counts for what is retrieved.
    pub(crate) async fn look(&mut self, moment: Look, ram: &Ram) -> Result<Vec<(usize, Vec<Probe>)>, Stop> {
        let mut parts = std::mem::take(&mut self.parts);
        let ram = ram.clone();
        // It can be hundreds of megabytes: do not block the event loop that watches other machines.
        let looked = tokio::task::spawn_blocking(move || {
            let mut probes = Vec::new();
            for (part, memfds) in parts.iter_mut().enumerate().filter(|(_, memfds)| !memfds.is_empty()) {
                let mut of_part = Vec::new();
                for kept in memfds {
                    let found = compare(&ram, kept.seed, &kept.told)?;
                    match moment {
                        Look::BeforeKexec => of_part.push(content_probe(&kept.told.name, moment, found.as_ref())),
                        Look::AfterKexec => kept.after = Some(found),
                    }
                }
                probes.push((part, of_part));
            }
            Ok::<_, io::Error>((parts, probes))
        });
        let (parts, probes) =
            looked.await.map_err(Stop::host("the preserved memory"))?.map_err(Stop::host("the RAM file"))?;
        self.parts = parts;
        Ok(probes)
    }

    /// The host's probes of what a part has retrieved, and `told` now. `has_failed` is whether the guest found a
    /// fault itself, such as a memfd that did not come back. An error says what the agent did wrong.
    pub(crate) fn retrieved(
        &mut self,
        part: usize,
        told: &[MemfdPages],
        has_failed: bool,
    ) -> Result<Vec<Probe>, String> {
        if !self.is_watched {
            return Ok(Vec::new());
        }
        check_told(told)?;
        probes_of(&std::mem::take(&mut self.parts[part]), told, has_failed)
    }
}

/// Whether each memfd is told once, with each of its pages.
fn check_told(told: &[MemfdPages]) -> Result<(), String> {
    for (at, memfd) in told.iter().enumerate() {
        if !memfd.is_whole() || told[..at].iter().any(|other| other.name == memfd.name) {
            return Err(format!("the agent did not tell each page of memfd {} once", memfd.name));
        }
    }
    Ok(())
}

/// Judges what was retrieved. Pure.
fn probes_of(kept: &[Kept], told: &[MemfdPages], has_failed: bool) -> Result<Vec<Probe>, String> {
    let mut probes = Vec::new();
    for Kept { told: before, after, .. } in kept {
        let name = &before.name;
        let Some(now) = told.iter().find(|now| now.name == *name) else {
            // Memory that was not retrieved is not anybody's, and can have any content.
            if has_failed {
                continue;
            }
            return Err(format!("the agent did not say where the pages of memfd {name} are after the kexec"));
        };
        let Some(after) = after else { return Err(format!("nobody looked at memfd {name} after the kexec")) };
        probes.push(content_probe(name, Look::AfterKexec, after.as_ref()));
        probes.push(place_probe(before, now));
    }
    Ok(probes)
}

fn content_probe(name: &str, moment: Look, found: Option<&Difference>) -> Probe {
    let when = match moment {
        Look::BeforeKexec => "before",
        Look::AfterKexec => "after",
    };
    let observed = found.map_or_else(|| SAME.to_owned(), Difference::to_string);
    Probe::compare(format!("memfd host: pages of {name} {when} the kexec"), SAME, observed)
}

/// Whether the pages are where they were: the memory was handed over, not copied.
fn place_probe(before: &MemfdPages, now: &MemfdPages) -> Probe {
    let mut places = before.places().zip(now.places()).enumerate().filter(|(_, (was, is))| was != is);
    let first = places.next();
    let moved = places.count() + 1;
    let observed = match first {
        None if before.count() == now.count() => UNMOVED.to_owned(),
        None => format!("{} pages, were {}", now.count(), before.count()),
        Some((page, (was, is))) => {
            format!("page {page} is {}, was {} (moved pages: {moved})", place_in_words(is), place_in_words(was))
        }
    };
    Probe::compare(format!("memfd host: places of {}", before.name), UNMOVED, observed)
}

fn place_in_words(place: PagePlace) -> String {
    match place {
        PagePlace::Memory(address) | PagePlace::Downwards(address) => format!("at {address:#x}"),
        PagePlace::Swap => "in swap".to_owned(),
        PagePlace::Nowhere => "not in memory".to_owned(),
    }
}

const SAME: &str = "every byte as it was";
const UNMOVED: &str = "where they were";

/// How many pages are read at a time.
const CHUNK_PAGES: u64 = 64;

/// Compares the memory of a memfd with its content.
fn compare(ram: &Ram, seed: u64, memfd: &MemfdPages) -> io::Result<Found> {
    let mut found: Option<Difference> = None;
    let mut differs = |page, what| match &mut found {
        None => found = Some(Difference { page, what, pages: 1 }),
        Some(first) => first.pages += 1,
    };
    let number = memfd_number(&memfd.name);
    let mut chunk = vec![[0; PAGE]; CHUNK_PAGES as usize];
    let mut expected = [0; PAGE];
    let mut start = 0;
    for run in &memfd.runs {
        for first in (0..run.count).step_by(CHUNK_PAGES as usize) {
            let pages = start + first..start + run.count.min(first + CHUNK_PAGES);
            let chunk = &mut chunk[..(pages.end - pages.start) as usize];
            if !read(ram, run.place.further(first), chunk)? {
                // A hole has no memory, and reads as zeros.
                if run.content != PageContent::Zeros {
                    pages.for_each(|page| differs(page, Differs::Absent(run.place)));
                }
                continue;
            }
            for (page, observed) in pages.zip(&*chunk) {
                match run.content {
                    PageContent::Zeros => expected.fill(0),
                    PageContent::Filled(generation) => {
                        fill_page(generation_seed(seed, generation), number, page, &mut expected);
                    }
                }
                let length = (memfd.size - page * PAGE as u64).min(PAGE as u64) as usize;
                if observed[..length] != expected[..length] {
                    let offset = observed.iter().zip(&expected).position(|(is, was)| is != was).unwrap_or_default();
                    let (expected, observed) = (expected[offset], observed[offset]);
                    differs(page, Differs::Byte { offset, expected, observed });
                }
            }
        }
        start += run.count;
    }
    Ok(found)
}

/// Reads pages in their order in the memfd. Returns false if they are not in memory.
fn read(ram: &Ram, place: PagePlace, pages: &mut [[u8; PAGE]]) -> io::Result<bool> {
    match place {
        PagePlace::Memory(address) => ram.read(address, pages.as_flattened_mut())?,
        PagePlace::Downwards(address) => {
            let before = (pages.len() as u64 - 1) * PAGE as u64;
            let outside = || io::Error::other(format!("{address:#x} has not {before:#x} bytes before it"));
            ram.read(address.checked_sub(before).ok_or_else(outside)?, pages.as_flattened_mut())?;
            pages.reverse();
        }
        PagePlace::Swap | PagePlace::Nowhere => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
