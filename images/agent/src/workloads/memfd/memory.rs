//! `memfd.*`, where its pages are: in large folios, locked, reclaimed, in swap.

use super::{Done, P, agent, kernel, map, numbered, one};
use crate::mapping::{Mapping, PAGE};
use crate::memfd::{Memfd, Page, empty, filled};
use crate::swap::Swap;
use crate::workloads::{Case, Scene, StepError, observed};
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

/// Allocated as large folios, and never written.
const HUGE_FALLOCATED: Memfd = Memfd { pages: empty, ..Memfd::new("huge", 16 * HUGE_BYTES) };

/// A hole when it is preserved, in which something is written after it.
const RECLAIMED: Memfd = Memfd { pages: empty, later: Some(filled), ..Memfd::new("late", 64 * P) };

/// Goes into swap and comes out of it.
const SWAPPED: Memfd = Memfd::new("swapped", 1024 * P + 13);

pub(in crate::workloads) const CASES: &[Case] = &[
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

/// Makes `spec` of large folios, in place of the one that is there.
fn make_huge(scene: &mut Scene, spec: &Memfd) -> Result<File, StepError> {
    with_large_folios(scene, spec, |scene| scene.make(spec))
}

fn with_large_folios(
    scene: &mut Scene,
    spec: &Memfd,
    make: impl FnOnce(&mut Scene) -> Result<File, StepError>,
) -> Result<File, StepError> {
    let huge_kib = || crate::facts::meminfo("ShmemHugePages").map_err(StepError::Agent);
    scene.let_go(spec.name);
    let before = huge_kib()?;
    let made = crate::memfd::with_large_folios(|| make(scene)).map_err(StepError::Missing)??;
    let (made, count) = (made, huge_kib()?.saturating_sub(before) / (HUGE_BYTES >> 10));
    if count < 2 {
        return Err(StepError::Missing(format!("two large folios: the kernel made {count} for {} bytes", spec.size)));
    }
    Ok(made)
}

fn huge(scene: &mut Scene) -> Done {
    let memfd = make_huge(scene, &HUGE)?;
    scene.keep(HUGE.name, memfd);
    Ok(())
}

fn huge_blocks(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved(HUGE.name) {
        // The last folio is as large as the kernel made it.
        let blocks = fstat(memfd.as_ref()).map(|stat| stat.st_blocks);
        let held = blocks.is_ok_and(|blocks| blocks as u64 >= HUGE.size / 512);
        scene.check_that("blocks of 512 bytes", &format!("{} or more", HUGE.size / 512), observed(blocks), held);
    }
    Ok(())
}

fn huge_fallocated(scene: &mut Scene) -> Done {
    crate::workloads::dirty_memory(512 << 20)?;
    let empty = Memfd { size: 0, ..HUGE_FALLOCATED };
    let allocated = |memfd: &File| fallocate(memfd, FallocateFlags::empty(), 0, HUGE_FALLOCATED.size);
    let memfd = with_large_folios(scene, &HUGE_FALLOCATED, |scene| {
        let memfd = scene.make(&empty)?;
        allocated(&memfd).map_err(StepError::agent("fallocate"))?;
        Ok(memfd)
    })?;
    scene.keep(HUGE_FALLOCATED.name, memfd);
    Ok(())
}

fn split(scene: &mut Scene) -> Done {
    let memfd = make_huge(scene, &SPLIT)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&memfd, punch, 5 * P, 4 * P).map_err(StepError::agent("punch a hole"))?;
    scene.keep(SPLIT.name, memfd);
    Ok(())
}

fn mlocked(scene: &mut Scene) -> Done {
    let memfd = scene.kept("locked")?;
    let mapping = Mapping::of_file(memfd.as_ref(), 9 * PAGE).map_err(agent("mmap"))?;
    mapping.lock().map_err(agent("mlock"))?;
    scene.hold_mapping(mapping);
    Ok(())
}

fn locked_is_writable(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved("locked") {
        scene.takes("write", kernel(memfd.write_all_at(b"content", 5)));
        scene.takes("shrink", kernel(memfd.set_len(P)));
    }
    Ok(())
}

fn write_late(scene: &mut Scene) -> Done {
    let memfd = scene.kept("late")?;
    let mut mapping = map(&memfd, &RECLAIMED)?;
    for page in RECLAIMED.all_pages() {
        mapping.write(page as usize * PAGE, RECLAIMED.content(scene.seed(), page, 0).as_slice());
    }
    Ok(())
}

/// One that is seen in the amount of memory.
const SEEN: Memfd = Memfd::new("seen", 32 << 20);

fn seen_session(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &SEEN, 1)
}

fn reclaimable(scene: &mut Scene) -> Done {
    let read = || -> Result<[u64; 2], StepError> {
        let of = |name: &str| crate::facts::meminfo(name).map_err(StepError::Agent);
        Ok([of("MemTotal")?, of("Active(anon)")? + of("Inactive(anon)")?])
    };
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let before = read()?;
    let memfd = scene.retrieve_memfd(&session, 1, &SEEN);
    let after = read()?;
    for (place, name) in ["MemTotal", "pages that reclaim knows"].into_iter().enumerate() {
        let more = after[place].saturating_sub(before[place]);
        // Some of them are on their way to the list, a batch for each processor.
        let held = more >= (SEEN.size >> 10) * 7 / 8;
        scene.check_that(name, "7/8 of 32 MiB more, at least", format!("{more} KiB more"), held);
    }
    drop(memfd);
    Ok(())
}

/// Takes the first `bytes` out of memory, and says how many of their pages are left in it.
fn page_out(memfd: &File, bytes: u64) -> Result<usize, StepError> {
    let mapping = Mapping::of_file(memfd, bytes as usize).map_err(agent("mmap"))?;
    // A large folio that lies in two page tables is split at first, and taken when it is seen again (mm/madvise.c,
    // madvise_cold_or_pageout_pte_range()).
    for _ in 0..2 {
        mapping.touch();
        mapping.page_out().map_err(agent("madvise MADV_PAGEOUT"))?;
    }
    mapping.resident().map_err(agent("mincore"))
}

fn reclaimed(scene: &mut Scene) -> Done {
    for spec in [RECLAIMED, Memfd::new("whole", 64 * P)] {
        let Some(memfd) = scene.retrieved(spec.name) else { continue };
        page_out(&memfd, spec.size)?;
        let after = Memfd { pages: filled, later: None, ..spec };
        scene.compare_content(&after, &memfd);
    }
    Ok(())
}

/// Swap that is there for a step: it is off again before another workload has its turn.
fn swap_on() -> Result<Swap, StepError> {
    Swap::on(64 << 20).map_err(StepError::Missing)
}

/// Some pages are on their way to the lists from which reclaim takes, a batch for each processor.
fn is_little(resident: usize, bytes: u64) -> bool {
    resident as u64 <= bytes / P / 8
}

fn swapped(scene: &mut Scene) -> Done {
    let swap = swap_on()?;
    // What is in swap comes back a page at a time when it is read, and all at once when there is no more swap.
    for back_by in ["read", "swapoff"] {
        for spec in [SWAPPED, HUGE] {
            let Some(memfd) = scene.retrieved(spec.name) else { continue };
            let (left, name) =
                (page_out(&memfd, spec.size)?, format!("pages of {} in memory before {back_by}", spec.name));
            let expected = format!("{} or fewer", spec.size / P / 8);
            scene.check_that(&name, &expected, left, is_little(left, spec.size));
        }
        if back_by == "swapoff" {
            scene.takes(back_by, swap.off());
        }
        for spec in [SWAPPED, HUGE] {
            if let Some(memfd) = scene.retrieved(spec.name) {
                scene.compare_content(&spec, &memfd);
            }
        }
    }
    Ok(())
}

/// The first half of it is in swap when it is preserved.
fn swapped_before(scene: &mut Scene) -> Done {
    let (swap, memfd) = (swap_on()?, scene.make(&SWAPPED)?);
    let left = page_out(&memfd, SWAPPED.size / 2)?;
    if !is_little(left, SWAPPED.size / 2) {
        return Err(StepError::Missing(format!("pages in swap: {left} are in memory")));
    }
    scene.hand_over(&*scene.session("control")?, memfd.as_fd(), 2, SWAPPED.name)?;
    let resident = map(&memfd, &SWAPPED)?.resident();
    scene.check("pages in memory when it is preserved", SWAPPED.all_pages().end, observed(kernel(resident)));
    scene.takes("swapoff", swap.off());
    scene.hold(SWAPPED.name, memfd);
    Ok(())
}

fn swapped_is_there(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        scene.retrieve_memfd(&session, 2, &SWAPPED);
    }
    Ok(())
}
