//! `memfd.*`: what comes back of a memfd, whatever was done to it before, and after it was preserved.

use super::{CONTROL, Case, Kept, Scene, StepError, errno, observed};
use crate::mapping::{Mapping, PAGE};
use crate::memfd::{Memfd, Page, empty, filled};
use crate::swap::Swap;
use crate::writer;
use luqual_protocol::AGENT;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fchmod, fchown, fcntl_add_seals,
    fcntl_get_seals, fcntl_getfl, fstat, open, seek,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

const P: u64 = PAGE as u64;

const fn one(memfd: Memfd) -> Kept {
    Kept { session: "control", token: 1, memfd }
}

const fn numbered(token: u64, memfd: Memfd) -> Kept {
    Kept { session: "control", token, memfd }
}

/// The sessions of `memfd.basic`.
const SMALL: &str = "small";
const LARGE: &str = "large";

const BASIC: [Kept; 5] = [
    Kept { session: SMALL, token: 0, memfd: Memfd { offset: 3, ..Memfd::new("0", 0) } },
    Kept { session: SMALL, token: 1, memfd: Memfd { offset: 1, ..Memfd::new("1", 1) } },
    Kept { session: SMALL, token: u64::MAX, memfd: Memfd { offset: 17, ..Memfd::new("4k", 4096) } },
    Kept { session: LARGE, token: 1, memfd: Memfd { offset: 1 << 20, ..Memfd::new("1m+1", (1 << 20) + 1) } },
    Kept {
        session: LARGE,
        token: 0x6d65_6d66_6400_0040,
        memfd: Memfd { offset: (64 << 20) + 5, ..Memfd::new("64m", 64 << 20) },
    },
];

/// Made for sealing, without a seal so far.
const SEALABLE: Memfd = Memfd { flags: MemfdFlags::ALLOW_SEALING, ..Memfd::new("sealable", 2 * P + 7) };

/// Named after the seal that it gets.
const fn sealed(token: u64, name: &'static str) -> Kept {
    numbered(token, Memfd { flags: MemfdFlags::ALLOW_SEALING, ..Memfd::new(name, 2 * P) })
}

const SEALED: [Kept; 5] =
    [sealed(1, "seal"), sealed(2, "shrink"), sealed(3, "grow"), sealed(4, "write"), sealed(5, "future-write")];

const SEALS: [(&str, SealFlags); 5] = [
    ("seal", SealFlags::SEAL),
    ("shrink", SealFlags::SHRINK),
    ("grow", SealFlags::GROW),
    ("write", SealFlags::WRITE),
    ("future-write", SealFlags::FUTURE_WRITE),
];

/// Every third page is written, but for holes at both ends.
fn sparse(page: u64) -> Page {
    if page % 3 == 2 && page < 60 { Page::Filled(0) } else { Page::Hole }
}

const SPARSE: Memfd = Memfd { pages: sparse, ..Memfd::new("sparse", 70 * P) };

/// Allocated, and never written.
const FALLOCATED: Memfd = Memfd { pages: empty, ..Memfd::new("fallocated", 512 * P) };

/// Allocated; pages below 8 are written before it is preserved, those up to 16 after it.
const FALLOCATED_WRITTEN: Memfd = Memfd {
    pages: |page| if page < 8 { Page::Filled(0) } else { Page::Hole },
    later: Some(|page| if page < 16 { Page::Filled(0) } else { Page::Hole }),
    ..Memfd::new("fallocated", 24 * P)
};

/// Of each four pages one is written again by write(2), one through an older mapping, one through a newer.
const REWRITTEN: Memfd =
    Memfd { later: Some(|page| Page::Filled((page % 4) as u8)), ..Memfd::new("rewritten", 64 * P) };

/// What two processes wrote besides the third.
const BY_MANY: Memfd = Memfd { later: Some(|page| Page::Filled((page % 3) as u8)), ..Memfd::new("by-many", 30 * P) };

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

/// Filled by the writer of [`writer`], whose pages are not known before.
const LOG: Memfd = Memfd { pages: empty, ..Memfd::new("log", 16 * P) };

const TAIL: Memfd = Memfd::new("tail", P + 5);
const NAMED: Memfd = Memfd::new("a-name-that-is-not-kept", P);
const NOTHING: Memfd = Memfd::new("nothing", 0);

pub(super) const CASES: &[Case] = &[
    Case { prepare: read_only, target: access_mode, ..Case::new("memfd.access-mode") },
    Case { kept: &BASIC, ..Case::new("memfd.basic") },
    Case { kept: &[one(Memfd::new("plain", 33 * P + 1))], target: blocks, ..Case::new("memfd.blocks") },
    Case { kept: &[one(NOTHING)], target: grows, ..Case::new("memfd.empty-grows") },
    Case {
        kept: &[one(Memfd { flags: MemfdFlags::NOEXEC_SEAL, ..Memfd::new("noexec", P + 1) })],
        target: exec_mode,
        ..Case::new("memfd.exec-mode")
    },
    Case { kept: &[one(FALLOCATED)], prepare: allocate_used, ..Case::new("memfd.fallocated") },
    Case {
        kept: &[one(FALLOCATED_WRITTEN)],
        prepare: allocate,
        source: write_allocated,
        ..Case::new("memfd.fallocated-written")
    },
    Case { source: frozen, ..Case::new("memfd.frozen") },
    Case { kept: &[one(HUGE)], prepare: huge, target: huge_blocks, ..Case::new("memfd.huge") },
    Case { kept: &[one(HUGE_FALLOCATED)], prepare: huge_fallocated, ..Case::new("memfd.huge-fallocated") },
    Case { kept: &[one(SPLIT)], prepare: split, ..Case::new("memfd.huge-split") },
    Case { kept: &[one(BY_MANY)], source: mapped_by_many, ..Case::new("memfd.mapped-by-many") },
    Case {
        kept: &[one(Memfd::new("locked", 9 * P))],
        prepare: mlocked,
        target: locked_is_writable,
        ..Case::new("memfd.mlocked")
    },
    Case { kept: &[one(NAMED)], target: name, ..Case::new("memfd.name") },
    Case { source: shared_and_cut, target: whole_or_nothing, ..Case::new("memfd.never-partial") },
    Case {
        kept: &[one(Memfd { offset: 4321, ..Memfd::new("moved", 2 * P) })],
        prepare: offset_before,
        source: offset_after,
        ..Case::new("memfd.offset-after")
    },
    Case { kept: &[one(Memfd { offset: 5 << 32 | 3, ..Memfd::new("far", P) })], ..Case::new("memfd.offset-far") },
    Case { prepare: other_owner, target: owner, ..Case::new("memfd.owner") },
    Case { kept: &[one(Memfd::new("shared", 8 * P))], source: private_copy, ..Case::new("memfd.private-copy") },
    Case {
        kept: &[one(SPARSE), numbered(2, Memfd { pages: sparse, ..Memfd::new("sparse-late", 70 * P) })],
        prepare: read_before,
        source: read_after,
        ..Case::new("memfd.read-faulted")
    },
    Case { source: seen_session, target: reclaimable, ..Case::new("memfd.reclaimable") },
    Case {
        kept: &[one(RECLAIMED), numbered(2, Memfd::new("whole", 64 * P))],
        source: write_late,
        target: reclaimed,
        ..Case::new("memfd.reclaimed")
    },
    Case { kept: &[one(SEALABLE)], source: seal_after, target: sealed_after, ..Case::new("memfd.seal-after") },
    Case {
        kept: &[one(SEALABLE), numbered(2, Memfd::new("unsealable", P))],
        target: sealing_allowed,
        ..Case::new("memfd.sealing-allowed")
    },
    Case { kept: &[one(SEALABLE)], source: seal_exec, ..Case::new("memfd.seal-exec") },
    Case { kept: &SEALED, prepare: seal, target: seals, ..Case::new("memfd.seals") },
    Case { kept: &SEALED, prepare: seal, target: seals_enforced, ..Case::new("memfd.seals-enforced") },
    Case { kept: &[one(SPARSE)], ..Case::new("memfd.sparse") },
    Case { kept: &[one(SWAPPED), numbered(2, HUGE)], prepare: huge, target: swapped, ..Case::new("memfd.swapped") },
    Case { source: swapped_before, target: swapped_is_there, ..Case::new("memfd.swapped-before") },
    Case { kept: &[one(TAIL)], prepare: dirty_memory, target: tail, ..Case::new("memfd.tail") },
    Case { kept: &[one(Memfd::new("unlinked", 3 * P + 3))], prepare: unlinked, ..Case::new("memfd.tmpfs-unlinked") },
    Case { source: too_large, target: cut_to_size, ..Case::new("memfd.too-large") },
    Case { target: used, finished: used, ..Case::new("memfd.used") },
    Case { kept: &[one(REWRITTEN)], prepare: map_before, source: written_after, ..Case::new("memfd.written-after") },
    Case { source: write_until_freeze, target: written_until_freeze, ..Case::new("memfd.written-until-freeze") },
];

type Done = Result<(), StepError>;

fn agent(what: &'static str) -> impl FnOnce(std::io::Error) -> StepError {
    StepError::agent(what)
}

fn kernel<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

/// Replaces the kept memfd by a description of it that can only read.
fn read_only(scene: &mut Scene) -> Done {
    let link = format!("/proc/self/fd/{}", scene.kept("control")?.as_raw_fd());
    let reader = File::open(&link).map_err(StepError::agent(link))?;
    scene.keep("control", reader);
    Ok(())
}

fn access_mode(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved("control") {
        let mode = fcntl_getfl(memfd.as_ref()).map(access);
        scene.check("access mode", "O_RDONLY", observed(mode));
    }
    Ok(())
}

fn access(flags: OFlags) -> &'static str {
    match flags & OFlags::RWMODE {
        OFlags::RDONLY => "O_RDONLY",
        OFlags::WRONLY => "O_WRONLY",
        _ => "O_RDWR",
    }
}

fn blocks(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("plain") else { return Ok(()) };
    let count = |memfd: &File| fstat(memfd).map(|stat| stat.st_blocks);
    scene.check("blocks of 512 bytes of 34 pages", 34 * 8, observed(count(&memfd)));
    scene.takes("cut to nothing", kernel(memfd.set_len(0)));
    scene.check("blocks of nothing", 0, observed(count(&memfd)));
    Ok(())
}

fn grows(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("nothing") else { return Ok(()) };
    scene.takes("grow", kernel(memfd.set_len(3 * P)));
    let zeros = Memfd { pages: empty, ..Memfd::new("nothing, grown,", 3 * P) };
    scene.compare_content(&zeros, &memfd);
    scene.takes("write", kernel(memfd.write_all_at(b"content", 2 * P)));
    Ok(())
}

fn exec_mode(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("noexec") else { return Ok(()) };
    let executable = fstat(memfd.as_ref()).map(|stat| stat.st_mode & 0o111 != 0);
    scene.check("executable", false, observed(executable));
    let seals = fcntl_get_seals(memfd.as_ref()).map(words);
    scene.check("seals", words(SealFlags::EXEC), observed(seals));
    scene.takes("write", kernel(memfd.write_all_at(b"content", 0)));
    Ok(())
}

fn dirty_memory(_: &mut Scene) -> Done {
    super::dirty_memory(32 << 20)
}

fn allocate(scene: &mut Scene) -> Done {
    let memfd = scene.kept("fallocated")?;
    let size = Memfd::size_of(&memfd).map_err(StepError::agent("fstat"))? as u64;
    fallocate(memfd.as_ref(), FallocateFlags::empty(), 0, size).map_err(StepError::agent("fallocate"))
}

fn allocate_used(scene: &mut Scene) -> Done {
    dirty_memory(scene)?;
    allocate(scene)
}

fn write_allocated(scene: &mut Scene) -> Done {
    let memfd = scene.kept("fallocated")?;
    FALLOCATED_WRITTEN.write(&memfd, scene.seed(), 8..12, filled).map_err(agent("write"))?;
    let mut mapping = map(&memfd, &FALLOCATED_WRITTEN)?;
    (12..16).for_each(|page| {
        mapping.write(page as usize * PAGE, FALLOCATED_WRITTEN.content(scene.seed(), page, 0).as_slice());
    });
    Ok(())
}

fn map(memfd: &File, spec: &Memfd) -> Result<Mapping, StepError> {
    Mapping::of_file(memfd, spec.size as usize).map_err(agent("mmap"))
}

fn frozen(scene: &mut Scene) -> Done {
    let memfd = scene.kept("control")?;
    let size = CONTROL[0].memfd.size;
    let content = CONTROL[0].memfd.content(scene.seed(), 0, 0);
    scene.takes("write where it is", kernel(memfd.write_all_at(content.as_slice(), 0)));
    scene.refuses("grow by ftruncate", "EPERM", kernel(memfd.set_len(size + P)));
    scene.refuses("shrink by ftruncate", "EPERM", kernel(memfd.set_len(P)));
    scene.refuses("write behind the end", "EPERM", kernel(memfd.write_at(b"behind", size + 2 * P)).map(drop));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    scene.refuses("punch a hole", "EPERM", fallocate(memfd.as_ref(), punch, 0, P));
    scene.refuses("allocate behind the end", "EPERM", fallocate(memfd.as_ref(), FallocateFlags::empty(), size, P));
    Ok(())
}

/// Where the kernel is told for which memfds it uses large folios (Documentation/admin-guide/mm/transhuge.rst).
const SHMEM_ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Makes `spec` of large folios, in place of the one that is there.
fn make_huge(scene: &mut Scene, spec: &Memfd) -> Result<File, StepError> {
    with_large_folios(scene, spec, |scene| scene.make(spec))
}

fn with_large_folios(
    scene: &mut Scene,
    spec: &Memfd,
    make: impl FnOnce(&mut Scene) -> Result<File, StepError>,
) -> Result<File, StepError> {
    let set = |mode: &str| {
        std::fs::write(SHMEM_ENABLED, mode).map_err(|error| StepError::Missing(format!("{SHMEM_ENABLED}: {error}")))
    };
    let huge_kib = || crate::facts::meminfo("ShmemHugePages").map_err(StepError::Agent);
    scene.let_go(spec.name);
    let before = huge_kib()?;
    set("always")?;
    let made = make(scene);
    set("never")?;
    let (made, count) = (made?, huge_kib()?.saturating_sub(before) / (HUGE_BYTES >> 10));
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
    super::dirty_memory(512 << 20)?;
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

/// Starts a process that has the memfd as its standard input, writes, and stays.
fn start_writer(scene: &mut Scene, memfd: &File, arguments: &[&str]) -> Done {
    let input = memfd.try_clone().map_err(agent("dup"))?;
    let mut command = Command::new(AGENT);
    let command = command.args(arguments).stdin(Stdio::from(input)).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(StepError::agent(AGENT))?;
    writer::wait_ready(&mut child).map_err(StepError::Agent)?;
    scene.hold_child(child);
    Ok(())
}

fn mapped_by_many(scene: &mut Scene) -> Done {
    let (memfd, seed) = (scene.kept("by-many")?, scene.seed().to_string());
    for generation in ["1", "2"] {
        let arguments = ["write-pages", BY_MANY.name, &BY_MANY.size.to_string(), &seed, generation];
        start_writer(scene, &memfd, &arguments)?;
    }
    Ok(())
}

fn write_until_freeze(scene: &mut Scene) -> Done {
    let log = scene.make(&LOG)?;
    scene.hand_over(&*scene.session("control")?, log.as_fd(), 2, LOG.name)?;
    start_writer(scene, &log, &["write-log", &LOG.size.to_string()])?;
    scene.hold(LOG.name, log);
    Ok(())
}

fn written_until_freeze(scene: &mut Scene) -> Done {
    let Ok(session) = scene.session("control") else { return Ok(()) };
    let Some(log) = scene.retrieve_file(&session, 2, LOG.name) else { return Ok(()) };
    let mut bytes = vec![0; LOG.size as usize];
    log.read_exact_at(&mut bytes, 0).map_err(agent("the log"))?;
    let pass = writer::last_pass(&bytes);
    let held = pass.as_ref().is_ok_and(|pass| *pass >= writer::PASSES);
    let told = pass.map_or_else(|why| why, |pass| format!("pass {pass}"));
    scene.check_that("order of what was written", &format!("pass {} or later", writer::PASSES), told, held);
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

fn name(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved(NAMED.name) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", memfd.as_raw_fd()));
        let link = kernel(link).map(|link| link.display().to_string());
        scene.check("link of the descriptor", "/memfd: (deleted)", observed(link));
    }
    Ok(())
}

/// What two sessions preserve where a kernel lets them.
const SHARED: Memfd = Memfd::new("shared", 2 * P);

fn shared_and_cut(scene: &mut Scene) -> Done {
    let memfd = scene.make(&SHARED)?;
    let first = scene.create("first")?;
    scene.hand_over(&first, memfd.as_fd(), 1, SHARED.name)?;
    let second = scene.create("second")?;
    if second.preserve(memfd.as_fd(), 1).is_ok() {
        // Its pages are given back with the second, though the first has them too.
        drop(second);
        scene.close("second");
        memfd.set_len(P).map_err(agent("ftruncate"))?;
        let third = scene.create("third")?;
        scene.hand_over(&third, memfd.as_fd(), 1, SHARED.name)?;
    }
    scene.hold(SHARED.name, memfd);
    Ok(())
}

fn whole_or_nothing(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("first")? else { return Ok(()) };
    match session.retrieve(1).map(File::from) {
        Ok(memfd) => scene.compare(&SHARED, &memfd),
        Err(errno) => scene.check_that("memfd shared", "whole, or an error", super::errno_name(errno), true),
    }
    Ok(())
}

fn offset_before(scene: &mut Scene) -> Done {
    let memfd = scene.kept("moved")?;
    seek(memfd.as_ref(), SeekFrom::Start(1)).map(drop).map_err(StepError::agent("seek"))
}

fn offset_after(scene: &mut Scene) -> Done {
    let memfd = scene.kept("moved")?;
    seek(memfd.as_ref(), SeekFrom::Start(4321)).map(drop).map_err(StepError::agent("seek"))
}

fn other_owner(scene: &mut Scene) -> Done {
    use rustix::process::{Gid, Uid};
    let memfd = scene.kept("control")?;
    fchmod(memfd.as_ref(), Mode::from_raw_mode(0o640)).map_err(StepError::agent("fchmod"))?;
    fchown(memfd.as_ref(), Some(Uid::from_raw(1234)), Some(Gid::from_raw(1234))).map_err(StepError::agent("fchown"))
}

fn owner(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved("control") {
        let found = fstat(memfd.as_ref()).map(|it| format!("{:o} {}:{}", it.st_mode & 0o7777, it.st_uid, it.st_gid));
        scene.check("mode and owner", "777 0:0", observed(found));
    }
    Ok(())
}

fn private_copy(scene: &mut Scene) -> Done {
    let memfd = scene.kept("shared")?;
    let mut mapping = Mapping::private_of_file(memfd.as_ref(), 8 * PAGE).map_err(agent("mmap"))?;
    (0..8).for_each(|page| mapping.write(page * PAGE + 5, b"private"));
    scene.hold_mapping(mapping);
    Ok(())
}

fn read_all(scene: &mut Scene, name: &str) -> Done {
    let memfd = scene.kept(name)?;
    let mapping = map(&memfd, &SPARSE)?;
    mapping.touch();
    scene.hold_mapping(mapping);
    Ok(())
}

fn read_before(scene: &mut Scene) -> Done {
    read_all(scene, "sparse")
}

fn read_after(scene: &mut Scene) -> Done {
    read_all(scene, "sparse-late")
}

fn add(memfd: &File, seals: SealFlags) -> Result<(), StepError> {
    fcntl_add_seals(memfd, seals).map_err(StepError::agent("F_ADD_SEALS"))
}

fn words(seals: SealFlags) -> String {
    let mut names: Vec<&str> = SEALS.iter().filter(|(_, seal)| seals.contains(*seal)).map(|(name, _)| *name).collect();
    if seals.contains(SealFlags::EXEC) {
        names.push("exec");
    }
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
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

fn seal_exec(scene: &mut Scene) -> Done {
    let sealed = fcntl_add_seals(scene.kept("sealable")?.as_ref(), SealFlags::EXEC);
    scene.refuses("F_SEAL_EXEC", "EBUSY", sealed);
    Ok(())
}

fn seal_after(scene: &mut Scene) -> Done {
    // A kernel that refuses it keeps its word too: then there is no such seal.
    let added = fcntl_add_seals(scene.kept("sealable")?.as_ref(), SealFlags::GROW);
    scene.check_that(
        "add a seal to a preserved memfd",
        "taken, or refused with EPERM or EBUSY",
        super::said(&added, "taken"),
        matches!(added, Ok(()) | Err(Errno::PERM | Errno::BUSY)),
    );
    let told = words(fcntl_get_seals(scene.kept("sealable")?.as_ref()).map_err(StepError::agent("F_GET_SEALS"))?);
    // What was promised here has to be known there.
    let session = scene.session("control")?;
    let note = Memfd::new("note", 64).make(0).map_err(agent("memfd"))?;
    note.write_all_at(format!("{told:<64}").as_bytes(), 0).map_err(agent("write"))?;
    scene.hand_over(&session, note.as_fd(), 2, "note")?;
    scene.hold("note", note);
    Ok(())
}

fn sealed_after(scene: &mut Scene) -> Done {
    let (Some(memfd), Ok(session)) = (scene.retrieved("sealable"), scene.session("control")) else { return Ok(()) };
    let Some(note) = scene.retrieve_file(&session, 2, "note") else { return Ok(()) };
    let mut told = [0; 64];
    note.read_exact_at(&mut told, 0).map_err(agent("the note"))?;
    let told = String::from_utf8_lossy(&told).trim_end().to_owned();
    scene.check("seals", told, observed(fcntl_get_seals(memfd.as_ref()).map(words)));
    Ok(())
}

fn sealing_allowed(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved("sealable") {
        scene.takes("seal the one that can be", fcntl_add_seals(memfd.as_ref(), SealFlags::SHRINK));
    }
    if let Some(memfd) = scene.retrieved("unsealable") {
        let sealed = fcntl_add_seals(memfd.as_ref(), SealFlags::SHRINK);
        scene.refuses("seal the one that cannot be", "EPERM", sealed);
    }
    Ok(())
}

fn seal(scene: &mut Scene) -> Done {
    SEALS.iter().try_for_each(|(name, seals)| add(&*scene.kept(name)?, *seals))
}

fn seals(scene: &mut Scene) -> Done {
    for (name, expected) in SEALS {
        if let Some(memfd) = scene.retrieved(name) {
            scene.check(
                format!("seals of {name}"),
                words(expected),
                observed(fcntl_get_seals(memfd.as_ref()).map(words)),
            );
        }
    }
    Ok(())
}

fn seals_enforced(scene: &mut Scene) -> Done {
    // What each seal forbids; the others are done, the writing last.
    let forbids: [(&str, &[&str]); 5] = [
        ("seal", &["seal"]),
        ("shrink", &["shrink"]),
        ("grow", &["grow"]),
        ("write", &["write"]),
        ("future-write", &["write"]),
    ];
    for (name, forbidden) in forbids {
        let Some(memfd) = scene.retrieved(name) else { continue };
        let deeds: [(&str, Result<(), Errno>); 4] = [
            ("grow", kernel(memfd.set_len(3 * P))),
            ("shrink", kernel(memfd.set_len(P))),
            ("write", kernel(memfd.write_all_at(b"content", 0))),
            ("seal", fcntl_add_seals(memfd.as_ref(), SealFlags::SEAL)),
        ];
        for (deed, result) in deeds {
            let expected = if forbidden.contains(&deed) { "EPERM" } else { "no error" };
            scene.check(format!("{deed} the one that is sealed by {name}"), expected, super::said(&result, "no error"));
        }
    }
    Ok(())
}

fn tail(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("tail") else { return Ok(()) };
    scene.takes("grow", kernel(memfd.set_len(2 * P)));
    let mut behind = vec![0xff; (2 * P - TAIL.size) as usize];
    let read = kernel(memfd.read_exact_at(&mut behind, TAIL.size));
    let first = read.map(|()| behind.iter().position(|byte| *byte != 0));
    let told = first.map(|first| first.map_or("zeros".to_owned(), |at| format!("{:#04x} at {at}", behind[at])));
    scene.check("behind the end", "zeros", observed(told));
    Ok(())
}

/// More pages than 32 bits count.
const TOO_LARGE: u64 = (1 << 44) + 4096;
const CUT: Memfd = Memfd { pages: empty, ..Memfd::new("cut", 3 * P) };

fn too_large(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    let memfd = scene.make(&CUT)?;
    memfd.set_len(TOO_LARGE).map_err(agent("ftruncate"))?;
    let answer = session.preserve(memfd.as_fd(), 2);
    let taken = answer.is_ok();
    scene.refuses("a memfd of 16 TiB and a page", "EFBIG", answer);
    if !taken {
        scene.takes("cut it", kernel(memfd.set_len(CUT.size)));
        scene.hand_over(&session, memfd.as_fd(), 2, CUT.name)?;
    }
    scene.hold(CUT.name, memfd);
    Ok(())
}

fn cut_to_size(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        scene.retrieve_memfd(&session, 2, &CUT);
    }
    Ok(())
}

fn unlinked(scene: &mut Scene) -> Done {
    let spec = Memfd::new("unlinked", 3 * P + 3);
    let path = "/run/luqual/unlinked";
    let file = open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(StepError::agent(path))?;
    std::fs::remove_file(path).map_err(StepError::agent(path))?;
    spec.fill(&file, scene.seed()).map_err(StepError::agent(path))?;
    scene.keep("unlinked", file);
    Ok(())
}

fn used(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("control") else { return Ok(()) };
    let spec = &CONTROL[0].memfd;
    let whole = spec.size.next_multiple_of(P) as usize;
    scene.takes("write", kernel(memfd.write_all_at(b"through a descriptor", 100)));
    let mut mapping = Mapping::of_file(memfd.as_ref(), whole).map_err(agent("mmap"))?;
    mapping.write(PAGE + 200, b"through a mapping");
    let mut read = [0; 20];
    let same = kernel(memfd.read_exact_at(&mut read[..17], P + 200)).map(|()| read.starts_with(b"through a mapping"));
    scene.check("what was written through a mapping is read", true, observed(same));
    scene.takes("grow", kernel(memfd.set_len(spec.size + 4 * P)));
    scene.takes("write where it grew", kernel(memfd.write_all_at(b"grown", spec.size + 3 * P)));
    scene.takes("shrink", kernel(memfd.set_len(spec.size)));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    scene.takes("punch a hole", fallocate(memfd.as_ref(), punch, 0, P));
    let mut first = [1];
    let hole = kernel(memfd.read_exact_at(&mut first, 100)).map(|()| first[0]);
    scene.check("first byte of the hole", 0, observed(hole));
    Ok(())
}

fn map_before(scene: &mut Scene) -> Done {
    let memfd = scene.kept("rewritten")?;
    let mapping = map(&memfd, &REWRITTEN)?;
    mapping.touch();
    scene.hold_mapping(mapping);
    Ok(())
}

fn written_after(scene: &mut Scene) -> Done {
    let (memfd, seed) = (scene.kept("rewritten")?, scene.seed());
    let mut newer = map(&memfd, &REWRITTEN)?;
    let older = scene.held_mapping().ok_or_else(|| StepError::Agent("the older mapping is gone".to_owned()))?;
    for page in REWRITTEN.all_pages() {
        let (at, content) = (page * P, REWRITTEN.content(seed, page, (page % 4) as u8));
        match page % 4 {
            1 => memfd.write_all_at(content.as_slice(), at).map_err(agent("write"))?,
            2 => older.write(at as usize, content.as_slice()),
            3 => newer.write(at as usize, content.as_slice()),
            _ => {}
        }
    }
    Ok(())
}
