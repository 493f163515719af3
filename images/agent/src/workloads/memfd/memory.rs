//! `memfd.*`, the pages: in large folios, locked, reclaimed, in swap.

use super::{Done, P, agent, kernel, map, numbered, one};
use crate::errno::value_or_errno;
use crate::mapping::{Mapping, PAGE};
use crate::memfd::{Memfd, Page, empty, filled};
use crate::swap::Swap;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::memory;
use crate::writer;
use rustix::fd::AsFd;
use rustix::fs::{FallocateFlags, fallocate, fstat};
use std::fs::File;
use std::os::unix::fs::FileExt;

const HUGE_BYTES: u64 = 2 << 20;
const HUGE: Memfd = Memfd::new("huge", 2 * HUGE_BYTES + 5 * P + 11);
const SPLIT: Memfd = Memfd {
    later: Some(|page| if (5..9).contains(&page) { Page::Hole } else { Page::Filled(0) }),
    ..Memfd::new("split", 2 * HUGE_BYTES)
};

/// Allocated as large folios and never written.
const HUGE_FALLOCATED: Memfd = Memfd { pages: empty, ..Memfd::new("huge", 16 * HUGE_BYTES) };

/// A hole when it is preserved, and written afterwards.
const RECLAIMED: Memfd = Memfd { pages: empty, later: Some(filled), ..Memfd::new("late", 64 * P) };

/// Goes to swap and comes back.
const SWAPPED: Memfd = Memfd::new("swapped", 1024 * P + 13);

/// In the page cache while all free memory is written.
const FILLED: Memfd = Memfd::new("filled", 16 << 20);

pub(in crate::workloads) const CASES: &[Case] = &[
    Case {
        kept: &[one(FILLED), numbered(2, HUGE)],
        prepare: huge,
        target: fill_before_finish,
        finished: fill_after_finish,
        ..Case::new("memfd.free-memory-filled")
    },
    Case { kept: &[one(HUGE)], prepare: huge, target: huge_blocks, ..Case::new("memfd.huge") },
    Case { kept: &[one(HUGE_FALLOCATED)], prepare: huge_fallocated, ..Case::new("memfd.huge-fallocated") },
    Case { kept: &[one(SPLIT)], prepare: split, ..Case::new("memfd.huge-split") },
    Case {
        kept: &[one(Memfd::new("locked", 9 * P))],
        prepare: mlocked,
        target: locked_is_writable,
        ..Case::new("memfd.mlocked")
    },
    Case { source: seen_session, target: reclaimable, ..Case::new("memfd.reclaimable") },
    Case {
        kept: &[one(RECLAIMED), numbered(2, Memfd::new("whole", 64 * P))],
        source: write_late,
        target: reclaimed,
        ..Case::new("memfd.reclaimed")
    },
    Case { kept: &[one(SWAPPED), numbered(2, HUGE)], prepare: huge, target: swapped, ..Case::new("memfd.swapped") },
    Case { source: swapped_before, target: swapped_is_there, ..Case::new("memfd.swapped-before") },
];

/// Makes `spec` of large folios, to replace the memfd that the case holds.
fn make_huge(context: &mut Context, spec: &Memfd) -> Result<File, StepError> {
    with_large_folios(context, spec, |context| context.make_memfd(spec))
}

fn with_large_folios(
    context: &mut Context,
    spec: &Memfd,
    make: impl FnOnce(&mut Context) -> Result<File, StepError>,
) -> Result<File, StepError> {
    let huge_kib = || crate::facts::meminfo("ShmemHugePages").map_err(StepError::Agent);
    context.close_kept(spec.name);
    let before = huge_kib()?;
    let made = crate::memfd::with_large_folios(|| make(context)).map_err(StepError::Missing)??;
    let (made, count) = (made, huge_kib()?.saturating_sub(before) / (HUGE_BYTES >> 10));
    if count < 2 {
        return Err(StepError::Missing(format!("two large folios: the kernel made {count} for {} bytes", spec.size)));
    }
    Ok(made)
}

fn huge(context: &mut Context) -> Done {
    let memfd = make_huge(context, &HUGE)?;
    context.keep(HUGE.name, memfd);
    Ok(())
}

fn huge_blocks(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved(HUGE.name) {
        // The last folio can be larger than the file.
        let blocks = fstat(memfd.as_ref()).map(|stat| stat.st_blocks);
        let held = blocks.is_ok_and(|blocks| blocks as u64 >= HUGE.size / 512);
        context.check_condition(
            "blocks of 512 bytes",
            &format!("{} or more", HUGE.size / 512),
            value_or_errno(blocks),
            held,
        );
    }
    Ok(())
}

fn huge_fallocated(context: &mut Context) -> Done {
    memory::dirty(512 << 20)?;
    let empty = Memfd { size: 0, ..HUGE_FALLOCATED };
    let allocated = |memfd: &File| fallocate(memfd, FallocateFlags::empty(), 0, HUGE_FALLOCATED.size);
    let memfd = with_large_folios(context, &HUGE_FALLOCATED, |context| {
        let memfd = context.make_memfd(&empty)?;
        allocated(&memfd).map_err(StepError::agent("fallocate"))?;
        Ok(memfd)
    })?;
    context.keep(HUGE_FALLOCATED.name, memfd);
    Ok(())
}

fn split(context: &mut Context) -> Done {
    let memfd = make_huge(context, &SPLIT)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&memfd, punch, 5 * P, 4 * P).map_err(StepError::agent("punch a hole"))?;
    context.keep(SPLIT.name, memfd);
    Ok(())
}

fn fill_before_finish(context: &mut Context) -> Done {
    fill_free_memory(context, "before finish")
}

fn fill_after_finish(context: &mut Context) -> Done {
    fill_free_memory(context, "after finish")
}

/// What is left to the other processes, in KiB. MemAvailable leaves the kernel its own reserve (Documentation/filesystems/proc.rst).
const LEFT_KIB: u64 = 16 << 10;

/// Has another process write nearly all memory that is free, and compares what came back. A page that the kernel holds for free too
/// would have that process's content.
fn fill_free_memory(context: &mut Context, when: &str) -> Done {
    let available = crate::facts::meminfo("MemAvailable").map_err(StepError::Agent)?;
    // A large machine keeps more for itself.
    let filled = writer::fill_memory_once(LEFT_KIB.max(available / 64)).map_err(StepError::Agent)?;
    if filled << 10 < FILLED.size || filled < available / 4 * 3 {
        return Err(StepError::Agent(format!(
            "{filled} KiB of {available} KiB of available memory were filled: too little"
        )));
    }
    for spec in [FILLED, HUGE] {
        if let Some(memfd) = context.retrieved(spec.name) {
            context.check_content_as(format!("memfd {} when memory was filled {when}", spec.name), &spec, &memfd);
        }
    }
    Ok(())
}

fn mlocked(context: &mut Context) -> Done {
    let memfd = context.kept("locked")?;
    let mapping = Mapping::of_file(memfd.as_ref(), 9 * PAGE).map_err(agent("mmap"))?;
    mapping.lock().map_err(agent("mlock"))?;
    context.hold_mapping(mapping);
    Ok(())
}

fn locked_is_writable(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved("locked") {
        context.check_success("write", kernel(memfd.write_all_at(b"content", 5)));
        context.check_success("shrink", kernel(memfd.set_len(P)));
    }
    Ok(())
}

fn write_late(context: &mut Context) -> Done {
    let memfd = context.kept("late")?;
    let mut mapping = map(&memfd, &RECLAIMED)?;
    for page in RECLAIMED.all_pages() {
        mapping.write(page as usize * PAGE, RECLAIMED.content(context.seed(), page, 0).as_slice());
    }
    Ok(())
}

/// A memfd that is large enough to be seen in the amount of memory.
const SEEN: Memfd = Memfd::new("seen", 32 << 20);

fn seen_session(context: &mut Context) -> Done {
    let session = context.create("extra")?;
    context.make_and_preserve(&session, &SEEN, 1)
}

fn reclaimable(context: &mut Context) -> Done {
    let read = || -> Result<[u64; 2], StepError> {
        let of = |name: &str| crate::facts::meminfo(name).map_err(StepError::Agent);
        Ok([of("MemTotal")?, of("Active(anon)")? + of("Inactive(anon)")?])
    };
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let before = read()?;
    let memfd = context.retrieve_memfd(&session, 1, &SEEN);
    let after = read()?;
    for (place, name) in ["MemTotal", "pages that reclaim knows"].into_iter().enumerate() {
        let more = after[place].saturating_sub(before[place]);
        // Each processor still has a batch of them that are not on the list yet.
        let held = more >= (SEEN.size >> 10) * 7 / 8;
        context.check_condition(name, "7/8 of 32 MiB more, at least", format!("{more} KiB more"), held);
    }
    drop(memfd);
    Ok(())
}

/// Has the kernel reclaim the first `bytes`. Returns how many of their pages are still in memory.
fn page_out(memfd: &File, bytes: u64) -> Result<usize, StepError> {
    let mapping = Mapping::of_file(memfd, bytes as usize).map_err(agent("mmap"))?;
    // The kernel splits a large folio in two page tables at first, and reclaims it the next time (mm/madvise.c,
    // madvise_cold_or_pageout_pte_range()).
    for _ in 0..2 {
        mapping.touch();
        mapping.page_out().map_err(agent("madvise MADV_PAGEOUT"))?;
    }
    mapping.resident().map_err(agent("mincore"))
}

fn reclaimed(context: &mut Context) -> Done {
    for spec in [RECLAIMED, Memfd::new("whole", 64 * P)] {
        let Some(memfd) = context.retrieved(spec.name) else { continue };
        page_out(&memfd, spec.size)?;
        let after = Memfd { pages: filled, later: None, ..spec };
        context.check_content(&after, &memfd);
    }
    Ok(())
}

/// Turns on swap for one step. It is off again before another workload runs.
fn swap_on() -> Result<Swap, StepError> {
    Swap::on(64 << 20).map_err(StepError::Missing)
}

/// Whether few enough pages are in memory: each processor has a batch of pages that reclaim cannot see yet.
fn is_little(resident: usize, bytes: u64) -> bool {
    resident as u64 <= bytes / P / 8
}

fn swapped(context: &mut Context) -> Done {
    let swap = swap_on()?;
    // A read brings single pages back from swap, swapoff(2) brings all back at once.
    for back_by in ["read", "swapoff"] {
        for spec in [SWAPPED, HUGE] {
            let Some(memfd) = context.retrieved(spec.name) else { continue };
            let (left, name) =
                (page_out(&memfd, spec.size)?, format!("pages of {} in memory before {back_by}", spec.name));
            let expected = format!("{} or fewer", spec.size / P / 8);
            context.check_condition(&name, &expected, left, is_little(left, spec.size));
        }
        if back_by == "swapoff" {
            context.check_success(back_by, swap.off());
        }
        for spec in [SWAPPED, HUGE] {
            if let Some(memfd) = context.retrieved(spec.name) {
                context.check_content(&spec, &memfd);
            }
        }
    }
    Ok(())
}

/// Preserves a memfd whose first half is in swap.
fn swapped_before(context: &mut Context) -> Done {
    let (swap, memfd) = (swap_on()?, context.make_memfd(&SWAPPED)?);
    let left = page_out(&memfd, SWAPPED.size / 2)?;
    if !is_little(left, SWAPPED.size / 2) {
        return Err(StepError::Missing(format!("pages in swap: {left} are in memory")));
    }
    context.preserve_fd(&*context.session("control")?, memfd.as_fd(), 2, SWAPPED.name)?;
    let resident = map(&memfd, &SWAPPED)?.resident();
    context.check("pages in memory when it is preserved", SWAPPED.all_pages().end, value_or_errno(kernel(resident)));
    context.check_success("swapoff", swap.off());
    context.hold(SWAPPED.name, memfd);
    Ok(())
}

fn swapped_is_there(context: &mut Context) -> Done {
    if let Ok(session) = context.session("control") {
        context.retrieve_memfd(&session, 2, &SWAPPED);
    }
    Ok(())
}
