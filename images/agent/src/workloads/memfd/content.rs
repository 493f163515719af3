//! `memfd.*`, the content: written at any time and in any way.

use super::{Done, P, agent, kernel, map, numbered, one};
use crate::errno::{errno_name, value_or_errno};
use crate::mapping::{Mapping, PAGE};
use crate::memfd::{Memfd, Page, empty, filled};
use crate::own;
use crate::workloads::case::{CONTROL, Case, PreservedMemfd};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::memory;
use crate::writer;
use luqual_protocol::AGENT;
use rustix::fd::AsFd;
use rustix::fs::{FallocateFlags, fallocate, fstat};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// The sessions of `memfd.basic`.
const SMALL: &str = "small";
const LARGE: &str = "large";

const BASIC: [PreservedMemfd; 5] = [
    PreservedMemfd { session: SMALL, token: 0, memfd: Memfd { offset: 3, ..Memfd::new("0", 0) } },
    PreservedMemfd { session: SMALL, token: 1, memfd: Memfd { offset: 1, ..Memfd::new("1", 1) } },
    PreservedMemfd { session: SMALL, token: u64::MAX, memfd: Memfd { offset: 17, ..Memfd::new("4k", 4096) } },
    PreservedMemfd { session: LARGE, token: 1, memfd: Memfd { offset: 1 << 20, ..Memfd::new("1m+1", (1 << 20) + 1) } },
    PreservedMemfd {
        session: LARGE,
        token: 0x6d65_6d66_6400_0040,
        memfd: Memfd { offset: (64 << 20) + 5, ..Memfd::new("64m", 64 << 20) },
    },
];

/// Every third page is written, except for holes at both ends.
fn sparse(page: u64) -> Page {
    if page % 3 == 2 && page < 60 { Page::Filled(0) } else { Page::Hole }
}

const SPARSE: Memfd = Memfd { pages: sparse, ..Memfd::new("sparse", 70 * P) };

/// Allocated and never written.
const FALLOCATED: Memfd = Memfd { pages: empty, ..Memfd::new("fallocated", 512 * P) };

/// Allocated. Of the first 16 pages, 8 are written before the preservation; all 16 have to come back.
const FALLOCATED_WRITTEN: Memfd = Memfd {
    pages: |page| if page < 8 { Page::Filled(0) } else { Page::Hole },
    later: Some(|page| if page < 16 { Page::Filled(0) } else { Page::Hole }),
    ..Memfd::new("fallocated", 24 * P)
};

/// Of every four pages one is written again by write(2), one through an older mapping, one through a newer mapping.
const REWRITTEN: Memfd =
    Memfd { later: Some(|page| Page::Filled((page % 4) as u8)), ..Memfd::new("rewritten", 64 * P) };

/// Written by two more processes.
const BY_MANY: Memfd = Memfd { later: Some(|page| Page::Filled((page % 3) as u8)), ..Memfd::new("by-many", 30 * P) };

/// Written by a process of [`writer`] until the kexec.
const LOG: Memfd = Memfd { pages: empty, ..Memfd::new("log", 16 * P) };

const TAIL: Memfd = Memfd::new("tail", P + 5);
const NOTHING: Memfd = Memfd::new("nothing", 0);

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { kept: &BASIC, ..Case::new("memfd.basic") },
    Case { kept: &[one(Memfd::new("plain", 33 * P + 1))], target: blocks, ..Case::new("memfd.blocks") },
    Case { kept: &[one(NOTHING)], target: grows, ..Case::new("memfd.empty-grows") },
    Case { kept: &[one(FALLOCATED)], prepare: allocate_used, ..Case::new("memfd.fallocated") },
    Case {
        kept: &[one(FALLOCATED_WRITTEN)],
        prepare: allocate,
        source: write_allocated,
        ..Case::new("memfd.fallocated-written")
    },
    Case { source: frozen, ..Case::new("memfd.frozen") },
    Case { kept: &[one(BY_MANY)], source: mapped_by_many, ..Case::new("memfd.mapped-by-many") },
    Case { source: shared_and_cut, target: whole_or_nothing, ..Case::new("memfd.never-partial") },
    Case { kept: &[one(Memfd::new("shared", 8 * P))], source: private_copy, ..Case::new("memfd.private-copy") },
    Case {
        kept: &[one(SPARSE), numbered(2, Memfd { pages: sparse, ..Memfd::new("sparse-late", 70 * P) })],
        prepare: read_before,
        source: read_after,
        ..Case::new("memfd.read-faulted")
    },
    Case { kept: &[one(SPARSE)], ..Case::new("memfd.sparse") },
    Case { kept: &[one(TAIL)], prepare: dirty_memory, target: tail, ..Case::new("memfd.tail") },
    Case { source: too_large, target: cut_to_size, ..Case::new("memfd.too-large") },
    Case { target: used, finished: used, ..Case::new("memfd.used") },
    Case { kept: &[one(REWRITTEN)], prepare: map_before, source: written_after, ..Case::new("memfd.written-after") },
    Case { source: write_until_freeze, target: written_until_freeze, ..Case::new("memfd.written-until-freeze") },
];

fn blocks(context: &mut Context) -> Done {
    let memfd = context.kept("plain")?;
    let count = |memfd: &File| fstat(memfd).map(|stat| stat.st_blocks);
    context.check("blocks of 512 bytes of 34 pages", 34 * 8, value_or_errno(count(&memfd)));
    context.check_success("cut to nothing", kernel(memfd.set_len(0)));
    context.check("blocks of nothing", 0, value_or_errno(count(&memfd)));
    Ok(())
}

fn dirty_memory(_: &mut Context) -> Done {
    memory::dirty(32 << 20)
}

fn grows(context: &mut Context) -> Done {
    let memfd = context.kept("nothing")?;
    context.check_success("grow", kernel(memfd.set_len(3 * P)));
    let zeros = Memfd { pages: empty, ..Memfd::new("nothing, grown,", 3 * P) };
    context.check_content(&zeros, &memfd);
    context.check_success("write", kernel(memfd.write_all_at(b"content", 2 * P)));
    Ok(())
}

fn allocate(context: &mut Context) -> Done {
    let memfd = context.kept("fallocated")?;
    let size = Memfd::size_of(&memfd).map_err(StepError::agent("fstat"))? as u64;
    fallocate(memfd.as_ref(), FallocateFlags::empty(), 0, size).map_err(StepError::agent("fallocate"))
}

fn allocate_used(context: &mut Context) -> Done {
    dirty_memory(context)?;
    allocate(context)
}

fn write_allocated(context: &mut Context) -> Done {
    let memfd = context.kept("fallocated")?;
    FALLOCATED_WRITTEN.write(&memfd, context.seed(), 8..12, filled).map_err(agent("write"))?;
    let mut mapping = map(&memfd, &FALLOCATED_WRITTEN)?;
    (12..16).for_each(|page| {
        mapping.write(page as usize * PAGE, FALLOCATED_WRITTEN.content(context.seed(), page, 0).as_slice());
    });
    Ok(())
}

fn frozen(context: &mut Context) -> Done {
    let memfd = context.kept("control")?;
    let size = CONTROL[0].memfd.size;
    let content = CONTROL[0].memfd.content(context.seed(), 0, 0);
    context.check_success("write where it is", kernel(memfd.write_all_at(content.as_slice(), 0)));
    context.check_refused("grow by ftruncate", "EPERM", kernel(memfd.set_len(size + P)));
    context.check_refused("shrink by ftruncate", "EPERM", kernel(memfd.set_len(P)));
    context.check_refused("write behind the end", "EPERM", kernel(memfd.write_at(b"behind", size + 2 * P)).map(drop));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    context.check_refused("punch a hole", "EPERM", fallocate(memfd.as_ref(), punch, 0, P));
    context.check_refused(
        "allocate behind the end",
        "EPERM",
        fallocate(memfd.as_ref(), FallocateFlags::empty(), size, P),
    );
    Ok(())
}

/// Starts a process that writes into the memfd and stays.
fn start_writer(context: &mut Context, memfd: &File, arguments: &[&str]) -> Done {
    let input = memfd.try_clone().map_err(agent("dup"))?;
    let mut command = own::command();
    let command = command.args(arguments).stdin(Stdio::from(input)).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(StepError::agent(AGENT))?;
    writer::wait_ready(&mut child).map_err(StepError::Agent)?;
    context.hold_child(child);
    Ok(())
}

fn mapped_by_many(context: &mut Context) -> Done {
    let (memfd, seed) = (context.kept("by-many")?, context.seed().to_string());
    for generation in ["1", "2"] {
        let arguments = ["write-pages", BY_MANY.name, &BY_MANY.size.to_string(), &seed, generation];
        start_writer(context, &memfd, &arguments)?;
    }
    Ok(())
}

fn write_until_freeze(context: &mut Context) -> Done {
    let log = context.make_memfd(&LOG)?;
    context.preserve_fd(&*context.session("control")?, log.as_fd(), 2, LOG.name)?;
    start_writer(context, &log, &["write-log", &LOG.size.to_string()])?;
    context.hold(LOG.name, log);
    Ok(())
}

fn written_until_freeze(context: &mut Context) -> Done {
    let session = context.session("control")?;
    let Some(log) = context.retrieve_file(&session, 2, LOG.name) else { return Ok(()) };
    let mut bytes = vec![0; LOG.size as usize];
    log.read_exact_at(&mut bytes, 0).map_err(agent("the log"))?;
    let pass = writer::last_pass(&bytes);
    let held = pass.as_ref().is_ok_and(|pass| *pass >= writer::PASSES);
    let told = pass.map_or_else(|why| why, |pass| format!("pass {pass}"));
    context.check_condition("order of what was written", &format!("pass {} or later", writer::PASSES), told, held);
    Ok(())
}

/// A memfd that two sessions preserve if the kernel lets them.
const SHARED: Memfd = Memfd::new("shared", 2 * P);

fn shared_and_cut(context: &mut Context) -> Done {
    let memfd = context.make_memfd(&SHARED)?;
    let first = context.create("first")?;
    context.preserve_fd(&first, memfd.as_fd(), 1, SHARED.name)?;
    let second = context.create("second")?;
    if second.preserve(memfd.as_fd(), 1).is_ok() {
        // Closing the second session unpreserves its pages, though the first session has them too.
        drop(second);
        context.close("second");
        memfd.set_len(P).map_err(agent("ftruncate"))?;
        let third = context.create("third")?;
        context.preserve_fd(&third, memfd.as_fd(), 1, SHARED.name)?;
    }
    context.hold(SHARED.name, memfd);
    Ok(())
}

fn whole_or_nothing(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("first")? else { return Ok(()) };
    // The third session was made only where two could preserve the memfd, and so a page was given back.
    // It stays open here: closing it would give its pages back.
    let third = context.session_name("third");
    let third = context.device()?.retrieve_session(&third);
    let was_cut = third.is_ok();
    match session.retrieve(1).map(File::from) {
        Ok(memfd) => context.check_memfd(&SHARED, &memfd),
        Err(errno) => {
            let expected = if was_cut { "whole, or an error" } else { "whole" };
            context.check_condition("memfd shared", expected, errno_name(errno), was_cut);
        }
    }
    Ok(())
}

fn private_copy(context: &mut Context) -> Done {
    let memfd = context.kept("shared")?;
    let mut mapping = Mapping::private_of_file(memfd.as_ref(), 8 * PAGE).map_err(agent("mmap"))?;
    (0..8).for_each(|page| mapping.write(page * PAGE + 5, b"private"));
    context.hold_mapping(mapping);
    Ok(())
}

fn read_all(context: &mut Context, name: &str) -> Done {
    let memfd = context.kept(name)?;
    let mapping = map(&memfd, &SPARSE)?;
    mapping.touch();
    context.hold_mapping(mapping);
    Ok(())
}

fn read_before(context: &mut Context) -> Done {
    read_all(context, "sparse")
}

fn read_after(context: &mut Context) -> Done {
    read_all(context, "sparse-late")
}

fn tail(context: &mut Context) -> Done {
    let memfd = context.kept("tail")?;
    context.check_success("grow", kernel(memfd.set_len(2 * P)));
    let mut behind = vec![0xff; (2 * P - TAIL.size) as usize];
    let read = kernel(memfd.read_exact_at(&mut behind, TAIL.size));
    let first = read.map(|()| behind.iter().position(|byte| *byte != 0));
    let told = first.map(|first| first.map_or("zeros".to_owned(), |at| format!("{:#04x} at {at}", behind[at])));
    context.check("behind the end", "zeros", value_or_errno(told));
    Ok(())
}

/// A size with more pages than 32 bits can count.
const TOO_LARGE: u64 = (1 << 44) + 4096;
const CUT: Memfd = Memfd { pages: empty, ..Memfd::new("cut", 3 * P) };

fn too_large(context: &mut Context) -> Done {
    let session = context.session("control")?;
    let memfd = context.make_memfd(&CUT)?;
    memfd.set_len(TOO_LARGE).map_err(agent("ftruncate"))?;
    let answer = session.preserve(memfd.as_fd(), 2);
    let taken = answer.is_ok();
    context.check_refused("a memfd of 16 TiB and a page", "EFBIG", answer);
    if !taken {
        context.check_success("cut it", kernel(memfd.set_len(CUT.size)));
        context.preserve_fd(&session, memfd.as_fd(), 2, CUT.name)?;
    }
    context.hold(CUT.name, memfd);
    Ok(())
}

fn cut_to_size(context: &mut Context) -> Done {
    if let Ok(session) = context.session("control") {
        context.retrieve_memfd(&session, 2, &CUT);
    }
    Ok(())
}

fn used(context: &mut Context) -> Done {
    let memfd = context.kept("control")?;
    let spec = &CONTROL[0].memfd;
    let whole = spec.size.next_multiple_of(P) as usize;
    context.check_success("write", kernel(memfd.write_all_at(b"through a descriptor", 100)));
    let mut mapping = Mapping::of_file(memfd.as_ref(), whole).map_err(agent("mmap"))?;
    mapping.write(PAGE + 200, b"through a mapping");
    let mut read = [0; 20];
    let same = kernel(memfd.read_exact_at(&mut read[..17], P + 200)).map(|()| read.starts_with(b"through a mapping"));
    context.check("what was written through a mapping is read", true, value_or_errno(same));
    context.check_success("grow", kernel(memfd.set_len(spec.size + 4 * P)));
    context.check_success("write where it grew", kernel(memfd.write_all_at(b"grown", spec.size + 3 * P)));
    context.check_success("shrink", kernel(memfd.set_len(spec.size)));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    context.check_success("punch a hole", fallocate(memfd.as_ref(), punch, 0, P));
    let mut first = [1];
    let hole = kernel(memfd.read_exact_at(&mut first, 100)).map(|()| first[0]);
    context.check("first byte of the hole", 0, value_or_errno(hole));
    Ok(())
}

fn map_before(context: &mut Context) -> Done {
    let memfd = context.kept("rewritten")?;
    let mapping = map(&memfd, &REWRITTEN)?;
    mapping.touch();
    context.hold_mapping(mapping);
    Ok(())
}

fn written_after(context: &mut Context) -> Done {
    let (memfd, seed) = (context.kept("rewritten")?, context.seed());
    let mut newer = map(&memfd, &REWRITTEN)?;
    let older = context.held_mapping().ok_or_else(|| StepError::Agent("the older mapping is gone".to_owned()))?;
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
