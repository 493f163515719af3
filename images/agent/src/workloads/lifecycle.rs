//! `lifecycle.*`: who dies when. Virtual machine monitors and brokers are processes of their own ([`Peer`]).

use super::{CONTROL, Case, Kept, Scene, StepError, errno};
use crate::facts::{mem_free_kib, meminfo, scratch_kib};
use crate::memfd::{Memfd, Page};
use crate::peer::{DONE, NOBODY, Peer};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the other process makes.
const THEIRS: Memfd = Memfd::new("theirs", 5 * 4096 + 77);
const TOKEN: u64 = 1;

/// Memory that is missed.
const LARGE: Memfd = Memfd::new("large", 96 << 20);

/// What is handed on again and again: whole, sparse, empty.
const HANDED_ON: [Kept; 4] = [
    CONTROL[0],
    Kept { session: "control", token: 8, memfd: Memfd::new("1m", (1 << 20) + 17) },
    Kept {
        session: "second",
        token: 8,
        memfd: Memfd {
            pages: |page| if page % 2 == 0 { Page::Filled(0) } else { Page::Hole },
            ..Memfd::new("sparse", 33 * 4096)
        },
    },
    Kept { session: "second", token: 9, memfd: Memfd { offset: 5, ..Memfd::new("empty", 0) } },
];

pub(super) const CASES: &[Case] = &[
    Case { source: broker_hands_over, target: theirs_is_there, ..Case::new("lifecycle.broker-hands-over") },
    Case { source: broker_killed, target: nothing_there, ..Case::new("lifecycle.broker-killed") },
    Case {
        kept: &HANDED_ON,
        source: note_goes_on,
        target: note_comes_back,
        finished: nothing_leaks,
        ..Case::new("lifecycle.hundred")
    },
    Case { kept: &HANDED_ON, ..Case::new("lifecycle.ten-times") },
    Case { kept: &HANDED_ON, ..Case::new("lifecycle.there-and-back") },
    Case { source: unclaimed_source, target: unclaimed, ..Case::new("lifecycle.unclaimed") },
    Case { source: unpreserved, target: memory_is_there, ..Case::new("lifecycle.unpreserved-is-free") },
    Case { source: vmm_exits, target: nothing_there, ..Case::new("lifecycle.vmm-exits") },
    Case { source: vmm_killed, target: theirs_is_there, ..Case::new("lifecycle.vmm-killed") },
];

type Done = Result<(), StepError>;

fn start(user: u32) -> Result<Peer, StepError> {
    Peer::start(user).map_err(StepError::Agent)
}

/// Tells a process to make its memfd, and takes a copy of it.
fn made_by(peer: &Peer, seed: u64) -> Result<OwnedFd, StepError> {
    let make = format!("make {} {} {seed}", THEIRS.name, THEIRS.size);
    peer.tell(&make, None).map_err(StepError::Agent)?;
    peer.give(THEIRS.name).map_err(StepError::Agent)
}

/// A session with a memfd of another process in it.
fn session_of_theirs(scene: &mut Scene, peer: &Peer) -> Done {
    let theirs = made_by(peer, scene.seed())?;
    let session = scene.create("theirs")?;
    scene.hand_over(&session, theirs.as_fd(), TOKEN, THEIRS.name)
}

fn theirs_is_there(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("theirs")? {
        scene.retrieve_memfd(&session, TOKEN, &THEIRS);
    }
    Ok(())
}

fn nothing_there(scene: &mut Scene) -> Done {
    scene.has_no_session("theirs")
}

/// Gives our only copy of a session to a process.
fn give_session(scene: &mut Scene, peer: &Peer, label: &str) -> Done {
    peer.tell("take session", Some(scene.session(label)?.as_fd())).map_err(StepError::Agent)?;
    scene.close(label);
    Ok(())
}

fn broker_hands_over(scene: &mut Scene) -> Done {
    let (broker, successor) = (start(0)?, start(0)?);
    session_of_theirs(scene, &broker)?;
    give_session(scene, &broker, "theirs")?;
    let session = broker.give("session").map_err(StepError::Agent)?;
    successor.tell("take session", Some(session.as_fd())).map_err(StepError::Agent)?;
    drop(session);
    broker.kill().map_err(StepError::Agent)?;
    scene.hold_peer(successor);
    Ok(())
}

fn broker_killed(scene: &mut Scene) -> Done {
    let (broker, machine) = (start(0)?, start(NOBODY)?);
    let theirs = File::from(made_by(&machine, scene.seed())?);
    let session = scene.create("theirs")?;
    scene.hand_over(&session, theirs.as_fd(), TOKEN, THEIRS.name)?;
    drop(session);
    give_session(scene, &broker, "theirs")?;
    let grow = |size: u64| theirs.set_len(size).map_err(|error| errno(&error));
    scene.refuses("grow while it is preserved", "EPERM", grow(THEIRS.size + 4096));
    broker.kill().map_err(StepError::Agent)?;
    scene.takes("grow when the broker is dead", grow(THEIRS.size + 4096));
    scene.compare_content(&THEIRS, &theirs);
    scene.hold_peer(machine);
    Ok(())
}

fn vmm_exits(scene: &mut Scene) -> Done {
    let machine = start(NOBODY)?;
    scene.create("theirs").map(drop)?;
    give_session(scene, &machine, "theirs")?;
    drop(made_by(&machine, scene.seed())?);
    let (answer, _) =
        machine.ask(&format!("preserve session {} {TOKEN}", THEIRS.name), None).map_err(StepError::Agent)?;
    scene.check("preserve by another process", DONE, answer);
    machine.kill().map_err(StepError::Agent)
}

fn vmm_killed(scene: &mut Scene) -> Done {
    let machine = start(NOBODY)?;
    session_of_theirs(scene, &machine)?;
    machine.kill().map_err(StepError::Agent)
}

/// Writes down how much memory this kernel has, for the one that comes.
fn note_memory(scene: &mut Scene) -> Done {
    let total = meminfo("MemTotal").map_err(StepError::Agent)?;
    let note = scene.make(&Memfd::new("note", 8))?;
    note.write_all_at(&total.to_ne_bytes(), 0).map_err(StepError::agent("write"))?;
    scene.hand_over(&*scene.session("control")?, note.as_fd(), NOTE, "note")?;
    scene.hold("note", note);
    Ok(())
}

const NOTE: u64 = 99;

/// The note of a hundred updates is handed on with what is kept: what an early kernel had, only a live update can tell a late
/// one.
fn note_goes_on(scene: &mut Scene) -> Done {
    if scene.hop() == 0 {
        let note = scene.make(&Memfd::new("note", 0))?;
        scene.hold("note", note);
    }
    let session = scene.session("control")?;
    let note = scene.held("note").ok_or_else(|| StepError::Agent("the note is not held".to_owned()))?;
    scene.hand_over(&session, note, NOTE, "note")
}

fn note_comes_back(scene: &mut Scene) -> Done {
    let Ok(session) = scene.session("control") else { return Ok(()) };
    if let Some(note) = scene.retrieve_file(&session, NOTE, "note") {
        scene.hold("note", note);
    }
    Ok(())
}

/// The first hop back into the source's kernel: what is lost once, by any update, is lost by then.
const EARLY: u32 = 2;

/// The last hop of which the guest still carries the same kernels.
const LATE_LEFT: u32 = 2;

/// Compared in the same place of two lives of the same kernel: all is retrieved and finished, nothing preserved again.
fn nothing_leaks(scene: &mut Scene) -> Done {
    if scene.hop() != EARLY && scene.hops_left() != LATE_LEFT {
        return Ok(());
    }
    let Some(note) = scene.held("note") else { return Ok(()) };
    let note = File::from(note.try_clone_to_owned().map_err(StepError::agent("the note"))?);
    for (place, figure) in FIGURES.iter().enumerate() {
        let (at, now) = (place as u64 * 8, (figure.read)().map_err(StepError::Agent)?);
        if scene.hop() == EARLY {
            note.write_all_at(&now.to_ne_bytes(), at).map_err(StepError::agent("write the note"))?;
            continue;
        }
        let mut then = [0; 8];
        note.read_exact_at(&mut then, at).map_err(StepError::agent("the note"))?;
        let (name, then) = (format!("{} after {} updates", figure.what, scene.hop()), u64::from_ne_bytes(then));
        let expected = format!("{then} KiB, as after {EARLY}, or {} KiB less at most", figure.slack_kib);
        scene.check_that(&name, &expected, format!("{now} KiB"), now + figure.slack_kib >= then);
    }
    Ok(())
}

/// What would tell of memory that is lost a little at a time.
struct Figure {
    what: &'static str,
    read: fn() -> Result<u64, String>,
    /// By how much two lives of one kernel differ, in KiB, whatever came between. Measured: MemTotal not at all, free memory by
    /// 300 KiB; a page that each of 96 updates loses is 384 KiB.
    slack_kib: u64,
}

const FIGURES: [Figure; 3] = [
    // What is preserved and was given to nobody is missing in it, and what a kernel keeps back for another.
    Figure { what: "MemTotal", read: || meminfo("MemTotal"), slack_kib: 64 },
    // What is allocated, and not used by anybody.
    Figure { what: "free memory", read: mem_free_kib, slack_kib: 2 << 10 },
    // Each kernel boots in what the first one set aside: if it shrank, a later one would not.
    Figure { what: "KHO's scratch areas", read: scratch_kib, slack_kib: 0 },
];

/// Two kernels differ by this, in KiB, and by what one of them still has preserved.
const SLACK_KIB: u64 = 32 << 10;

fn memory_is_there(scene: &mut Scene) -> Done {
    let Ok(session) = scene.session("control") else { return Ok(()) };
    let Some(note) = scene.retrieve_file(&session, NOTE, "note") else { return Ok(()) };
    let mut then = [0; 8];
    note.read_exact_at(&mut then, 0).map_err(StepError::agent("the note"))?;
    let (then, now) = (u64::from_ne_bytes(then), meminfo("MemTotal").map_err(StepError::Agent)?);
    let expected = format!("{} KiB or more, as the source had", then.saturating_sub(SLACK_KIB));
    scene.check_that("MemTotal", &expected, format!("{now} KiB"), now + SLACK_KIB >= then);
    Ok(())
}

fn unpreserved(scene: &mut Scene) -> Done {
    note_memory(scene)?;
    let memfd = scene.make(&LARGE)?;
    let session = scene.create("released")?;
    scene.hand_over(&session, memfd.as_fd(), 1, LARGE.name)?;
    drop(session);
    scene.close("released");
    Ok(())
}

fn unclaimed_source(scene: &mut Scene) -> Done {
    if scene.hop() > 0 {
        return Ok(());
    }
    let session = scene.create("theirs")?;
    scene.hand_over_new(&session, &LARGE, 1)
}

/// In the first target nobody asks. In the second the session is gone, and nothing is missing.
fn unclaimed(scene: &mut Scene) -> Done {
    // debugfs or not: which of both this is, MemTotal says, since what is preserved does not count in it.
    let total = meminfo("MemTotal").map_err(StepError::Agent)?;
    if scene.hop() == 1 {
        let expected = format!("{} KiB or less", UNCLAIMED_KIB);
        scene.check_that("MemTotal while nobody asks", &expected, format!("{total} KiB"), total <= UNCLAIMED_KIB);
        return Ok(());
    }
    scene.has_no_session("theirs")?;
    let expected = format!("{} KiB or more", UNCLAIMED_KIB);
    scene.check_that("MemTotal two updates later", &expected, format!("{total} KiB"), total >= UNCLAIMED_KIB);
    Ok(())
}

/// Between what a machine of 1 GiB has with [`LARGE`] and without it; measured: 986 to 1000 MiB without.
const UNCLAIMED_KIB: u64 = 940 << 10;
