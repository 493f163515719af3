//! `memfd.*`, properties beside the content: modes, names, offsets, owners, seals.

use super::{Done, P, agent, kernel, numbered, one};
use crate::errno::{success_or_errno, value_or_errno};
use crate::memfd::Memfd;
use crate::workloads::case::{Case, PreservedMemfd};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fchmod, fchown, fcntl_add_seals, fcntl_get_seals, fcntl_getfl,
    fstat, open, seek,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Made for sealing, without a seal so far.
const SEALABLE: Memfd = Memfd { flags: MemfdFlags::ALLOW_SEALING, ..Memfd::new("sealable", 2 * P + 7) };

/// A kept memfd that is named after its seal.
const fn sealed(token: u64, name: &'static str) -> PreservedMemfd {
    numbered(token, Memfd { flags: MemfdFlags::ALLOW_SEALING, ..Memfd::new(name, 2 * P) })
}

const SEALED: [PreservedMemfd; 5] =
    [sealed(1, "seal"), sealed(2, "shrink"), sealed(3, "grow"), sealed(4, "write"), sealed(5, "future-write")];

const SEALS: [(&str, SealFlags); 5] = [
    ("seal", SealFlags::SEAL),
    ("shrink", SealFlags::SHRINK),
    ("grow", SealFlags::GROW),
    ("write", SealFlags::WRITE),
    ("future-write", SealFlags::FUTURE_WRITE),
];

const NAMED: Memfd = Memfd::new("a-name-that-is-not-kept", P);

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { prepare: read_only, target: access_mode, ..Case::new("memfd.access-mode") },
    Case {
        kept: &[one(Memfd { flags: MemfdFlags::NOEXEC_SEAL, ..Memfd::new("noexec", P + 1) })],
        target: exec_mode,
        ..Case::new("memfd.exec-mode")
    },
    Case { kept: &[one(NAMED)], target: name, ..Case::new("memfd.name") },
    Case {
        kept: &[one(Memfd { offset: 4321, ..Memfd::new("moved", 2 * P) })],
        prepare: offset_before,
        source: offset_after,
        ..Case::new("memfd.offset-after")
    },
    Case { kept: &[one(Memfd { offset: 5 << 32 | 3, ..Memfd::new("far", P) })], ..Case::new("memfd.offset-far") },
    Case { prepare: other_owner, target: owner, ..Case::new("memfd.owner") },
    Case { kept: &[one(SEALABLE)], source: seal_after, target: sealed_after, ..Case::new("memfd.seal-after") },
    Case { kept: &[one(SEALABLE)], source: seal_exec, ..Case::new("memfd.seal-exec") },
    Case {
        kept: &[one(SEALABLE), numbered(2, Memfd::new("unsealable", P))],
        target: sealing_allowed,
        ..Case::new("memfd.sealing-allowed")
    },
    Case { kept: &SEALED, prepare: seal, target: seals, ..Case::new("memfd.seals") },
    Case { kept: &SEALED, prepare: seal, target: seals_enforced, ..Case::new("memfd.seals-enforced") },
    Case { kept: &[one(Memfd::new("unlinked", 3 * P + 3))], prepare: unlinked, ..Case::new("memfd.tmpfs-unlinked") },
];

/// Replaces the kept memfd by a read-only open file description of it.
fn read_only(context: &mut Context) -> Done {
    let link = format!("/proc/self/fd/{}", context.kept("control")?.as_raw_fd());
    let reader = File::open(&link).map_err(StepError::agent(link))?;
    context.keep("control", reader);
    Ok(())
}

fn access_mode(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved("control") {
        let mode = fcntl_getfl(memfd.as_ref()).map(access);
        context.check("access mode", "O_RDONLY", value_or_errno(mode));
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

fn exec_mode(context: &mut Context) -> Done {
    let memfd = context.kept("noexec")?;
    let executable = fstat(memfd.as_ref()).map(|stat| stat.st_mode & 0o111 != 0);
    context.check("executable", false, value_or_errno(executable));
    let seals = fcntl_get_seals(memfd.as_ref()).map(words);
    context.check("seals", words(SealFlags::EXEC), value_or_errno(seals));
    context.check_success("write", kernel(memfd.write_all_at(b"content", 0)));
    Ok(())
}

fn name(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved(NAMED.name) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", memfd.as_raw_fd()));
        let link = kernel(link).map(|link| link.display().to_string());
        context.check("link of the descriptor", "/memfd: (deleted)", value_or_errno(link));
    }
    Ok(())
}

fn offset_before(context: &mut Context) -> Done {
    let memfd = context.kept("moved")?;
    seek(memfd.as_ref(), SeekFrom::Start(1)).map(drop).map_err(StepError::agent("seek"))
}

fn offset_after(context: &mut Context) -> Done {
    let memfd = context.kept("moved")?;
    seek(memfd.as_ref(), SeekFrom::Start(4321)).map(drop).map_err(StepError::agent("seek"))
}

fn other_owner(context: &mut Context) -> Done {
    use rustix::process::{Gid, Uid};
    let memfd = context.kept("control")?;
    fchmod(memfd.as_ref(), Mode::from_raw_mode(0o640)).map_err(StepError::agent("fchmod"))?;
    fchown(memfd.as_ref(), Some(Uid::from_raw(1234)), Some(Gid::from_raw(1234))).map_err(StepError::agent("fchown"))
}

fn owner(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved("control") {
        let found = fstat(memfd.as_ref()).map(|it| format!("{:o} {}:{}", it.st_mode & 0o7777, it.st_uid, it.st_gid));
        context.check("mode and owner", "777 0:0", value_or_errno(found));
    }
    Ok(())
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

fn seal_exec(context: &mut Context) -> Done {
    let sealed = fcntl_add_seals(context.kept("sealable")?.as_ref(), SealFlags::EXEC);
    context.check_refused("F_SEAL_EXEC", "EBUSY", sealed);
    Ok(())
}

fn seal_after(context: &mut Context) -> Done {
    // A kernel may also refuse the seal. Then the target must not have it.
    let added = fcntl_add_seals(context.kept("sealable")?.as_ref(), SealFlags::GROW);
    context.check_condition(
        "add a seal to a preserved memfd",
        "taken, or refused with EPERM or EBUSY",
        success_or_errno(&added, "taken"),
        matches!(added, Ok(()) | Err(Errno::PERM | Errno::BUSY)),
    );
    let told = words(fcntl_get_seals(context.kept("sealable")?.as_ref()).map_err(StepError::agent("F_GET_SEALS"))?);
    // The target has to have the seals that are set here.
    let session = context.session("control")?;
    let note = Memfd::new("note", 64).make(0).map_err(agent("memfd"))?;
    note.write_all_at(format!("{told:<64}").as_bytes(), 0).map_err(agent("write"))?;
    context.preserve_fd(&session, note.as_fd(), 2, "note")?;
    context.hold("note", note);
    Ok(())
}

fn sealed_after(context: &mut Context) -> Done {
    let (memfd, session) = (context.kept("sealable")?, context.session("control")?);
    let Some(note) = context.retrieve_file(&session, 2, "note") else { return Ok(()) };
    let mut told = [0; 64];
    note.read_exact_at(&mut told, 0).map_err(agent("the note"))?;
    let told = String::from_utf8_lossy(&told).trim_end().to_owned();
    context.check("seals", told, value_or_errno(fcntl_get_seals(memfd.as_ref()).map(words)));
    Ok(())
}

fn sealing_allowed(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved("sealable") {
        context.check_success("seal the one that can be", fcntl_add_seals(memfd.as_ref(), SealFlags::SHRINK));
    }
    if let Some(memfd) = context.retrieved("unsealable") {
        let sealed = fcntl_add_seals(memfd.as_ref(), SealFlags::SHRINK);
        context.check_refused("seal the one that cannot be", "EPERM", sealed);
    }
    Ok(())
}

fn seal(context: &mut Context) -> Done {
    SEALS.iter().try_for_each(|(name, seals)| add(&*context.kept(name)?, *seals))
}

fn seals(context: &mut Context) -> Done {
    for (name, expected) in SEALS {
        if let Some(memfd) = context.retrieved(name) {
            context.check(
                format!("seals of {name}"),
                words(expected),
                value_or_errno(fcntl_get_seals(memfd.as_ref()).map(words)),
            );
        }
    }
    Ok(())
}

fn seals_enforced(context: &mut Context) -> Done {
    // What each seal forbids. All other operations have to succeed.
    let forbids: [(&str, &[&str]); 5] = [
        ("seal", &["seal"]),
        ("shrink", &["shrink"]),
        ("grow", &["grow"]),
        ("write", &["write"]),
        ("future-write", &["write"]),
    ];
    for (name, forbidden) in forbids {
        let Some(memfd) = context.retrieved(name) else { continue };
        let deeds: [(&str, Result<(), Errno>); 4] = [
            ("grow", kernel(memfd.set_len(3 * P))),
            ("shrink", kernel(memfd.set_len(P))),
            ("write", kernel(memfd.write_all_at(b"content", 0))),
            ("seal", fcntl_add_seals(memfd.as_ref(), SealFlags::SEAL)),
        ];
        for (deed, result) in deeds {
            let expected = if forbidden.contains(&deed) { "EPERM" } else { "no error" };
            context.check(
                format!("{deed} the one that is sealed by {name}"),
                expected,
                success_or_errno(&result, "no error"),
            );
        }
    }
    Ok(())
}

fn unlinked(context: &mut Context) -> Done {
    let spec = Memfd::new("unlinked", 3 * P + 3);
    let path = "/run/luqual/unlinked";
    let file = open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(StepError::agent(path))?;
    std::fs::remove_file(path).map_err(StepError::agent(path))?;
    spec.fill(&file, context.seed()).map_err(StepError::agent(path))?;
    context.keep("unlinked", file);
    Ok(())
}
