//! `memfd.*`, what it is beside its content: modes, names, offsets, owners, seals.

use super::{Done, P, agent, kernel, numbered, one};
use crate::memfd::Memfd;
use crate::workloads::{Case, Kept, Scene, StepError, observed};
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

fn exec_mode(scene: &mut Scene) -> Done {
    let Some(memfd) = scene.retrieved("noexec") else { return Ok(()) };
    let executable = fstat(memfd.as_ref()).map(|stat| stat.st_mode & 0o111 != 0);
    scene.check("executable", false, observed(executable));
    let seals = fcntl_get_seals(memfd.as_ref()).map(words);
    scene.check("seals", words(SealFlags::EXEC), observed(seals));
    scene.takes("write", kernel(memfd.write_all_at(b"content", 0)));
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
        crate::workloads::said(&added, "taken"),
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
            scene.check(
                format!("{deed} the one that is sealed by {name}"),
                expected,
                crate::workloads::said(&result, "no error"),
            );
        }
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
