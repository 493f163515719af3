//! `lifecycle.*`: which process ends when. Virtual machine monitors and brokers are processes of their own ([`Helper`]).

use crate::channel::DONE;
use crate::errno::errno;
use crate::facts::{mem_free_kib, meminfo, scratch_kib};
use crate::helper::{Helper, NOBODY};
use crate::memfd::{Memfd, Page};
use crate::workloads::case::{CONTROL, Case, PreservedMemfd};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The memfd that another process makes.
const THEIRS: Memfd = Memfd::new("theirs", 5 * 4096 + 77);
const TOKEN: u64 = 1;

/// A memfd that is large enough to be seen in the amount of memory.
const LARGE: Memfd = Memfd::new("large", 96 << 20);

/// The memfds that are preserved again and again: whole, sparse, empty.
const HANDED_ON: [PreservedMemfd; 4] = [
    CONTROL[0],
    PreservedMemfd { session: "control", token: 8, memfd: Memfd::new("1m", (1 << 20) + 17) },
    PreservedMemfd {
        session: "second",
        token: 8,
        memfd: Memfd {
            pages: |page| if page % 2 == 0 { Page::Filled(0) } else { Page::Hole },
            ..Memfd::new("sparse", 33 * 4096)
        },
    },
    PreservedMemfd { session: "second", token: 9, memfd: Memfd { offset: 5, ..Memfd::new("empty", 0) } },
];

pub(super) const CASES: &[Case] = &[
    Case { source: broker_hands_over, target: theirs_is_there, ..Case::new("lifecycle.broker-hands-over") },
    Case { source: broker_killed, target: nothing_there, ..Case::new("lifecycle.broker-killed") },
    Case {
        kept: &HANDED_ON,
        prepare: figures_are_there,
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

fn start(user: u32) -> Result<Helper, StepError> {
    Helper::start(user).map_err(StepError::Agent)
}

/// Has a process make its memfd. Returns a copy of the descriptor.
fn made_by(helper: &Helper, seed: u64) -> Result<OwnedFd, StepError> {
    let make = format!("make {} {} {seed}", THEIRS.name, THEIRS.size);
    helper.tell(&make, None).map_err(StepError::Agent)?;
    helper.get_fd(THEIRS.name).map_err(StepError::Agent)
}

/// Creates a session with the memfd of another process.
fn session_of_theirs(context: &mut Context, helper: &Helper) -> Done {
    let theirs = made_by(helper, context.seed())?;
    let session = context.create("theirs")?;
    context.preserve_fd(&session, theirs.as_fd(), TOKEN, THEIRS.name)
}

fn theirs_is_there(context: &mut Context) -> Done {
    if let Some(session) = context.retrieve_session("theirs")? {
        context.retrieve_memfd(&session, TOKEN, &THEIRS);
    }
    Ok(())
}

fn nothing_there(context: &mut Context) -> Done {
    context.check_no_session("theirs")
}

/// Gives the only copy of a session to a process.
fn give_session(context: &mut Context, helper: &Helper, label: &str) -> Done {
    helper.tell("take session", Some(context.session(label)?.as_fd())).map_err(StepError::Agent)?;
    context.close(label);
    Ok(())
}

fn broker_hands_over(context: &mut Context) -> Done {
    let (broker, successor) = (start(0)?, start(0)?);
    session_of_theirs(context, &broker)?;
    give_session(context, &broker, "theirs")?;
    let session = broker.get_fd("session").map_err(StepError::Agent)?;
    successor.tell("take session", Some(session.as_fd())).map_err(StepError::Agent)?;
    drop(session);
    broker.kill().map_err(StepError::Agent)?;
    context.hold_helper(successor);
    Ok(())
}

fn broker_killed(context: &mut Context) -> Done {
    let (broker, machine) = (start(0)?, start(NOBODY)?);
    let theirs = File::from(made_by(&machine, context.seed())?);
    let session = context.create("theirs")?;
    context.preserve_fd(&session, theirs.as_fd(), TOKEN, THEIRS.name)?;
    drop(session);
    give_session(context, &broker, "theirs")?;
    let grow = |size: u64| theirs.set_len(size).map_err(|error| errno(&error));
    context.check_refused("grow while it is preserved", "EPERM", grow(THEIRS.size + 4096));
    broker.kill().map_err(StepError::Agent)?;
    context.check_success("grow when the broker is dead", grow(THEIRS.size + 4096));
    context.check_content(&THEIRS, &theirs);
    context.hold_helper(machine);
    Ok(())
}

fn vmm_exits(context: &mut Context) -> Done {
    let machine = start(NOBODY)?;
    context.create("theirs").map(drop)?;
    give_session(context, &machine, "theirs")?;
    drop(made_by(&machine, context.seed())?);
    let (answer, _) =
        machine.ask(&format!("preserve session {} {TOKEN}", THEIRS.name), None).map_err(StepError::Agent)?;
    context.check("preserve by another process", DONE, answer);
    machine.kill().map_err(StepError::Agent)
}

fn vmm_killed(context: &mut Context) -> Done {
    let machine = start(NOBODY)?;
    session_of_theirs(context, &machine)?;
    machine.kill().map_err(StepError::Agent)
}

/// Notes how much memory this kernel has, for the next kernel.
fn note_memory(context: &mut Context) -> Done {
    let total = meminfo("MemTotal").map_err(StepError::Agent)?;
    let note = context.make_memfd(&Memfd::new("note", 8))?;
    note.write_all_at(&total.to_ne_bytes(), 0).map_err(StepError::agent("write"))?;
    context.preserve_fd(&*context.session("control")?, note.as_fd(), NOTE, "note")?;
    context.hold("note", note);
    Ok(())
}

const NOTE: u64 = 99;

/// A figure that the kernel does not tell would be compared with nothing.
fn figures_are_there(_: &mut Context) -> Done {
    for figure in &FIGURES {
        (figure.read)().map_err(|error| StepError::Missing(format!("{}: {error}", figure.what)))?;
    }
    Ok(())
}

/// Preserves the note of a hundred updates again: only a live update can tell a late kernel what an early one had.
fn note_goes_on(context: &mut Context) -> Done {
    if context.hop() == 0 {
        let note = context.make_memfd(&Memfd::new("note", 0))?;
        context.hold("note", note);
    }
    hand_on_note(context)
}

/// Preserves the note that is held for the next kernel.
fn hand_on_note(context: &mut Context) -> Done {
    let session = context.session("control")?;
    let note = context.held("note").ok_or_else(|| StepError::NotHeld("the note".to_owned()))?;
    context.preserve_fd(&session, note, NOTE, "note")
}

fn note_comes_back(context: &mut Context) -> Done {
    let session = context.session("control")?;
    if let Some(note) = context.retrieve_file(&session, NOTE, "note") {
        context.hold("note", note);
    }
    Ok(())
}

/// The first hop back to the source's kernel. What any single update loses is lost by then.
const EARLY: u32 = 2;

/// How many hops are left at the last hop at which the guest carries the same kernels.
const LATE_LEFT: u32 = 2;

/// Compares two boots of the same kernel at the same point: everything is finished, and nothing is preserved again.
fn nothing_leaks(context: &mut Context) -> Done {
    if context.hop() != EARLY && context.hops_left() != LATE_LEFT {
        return Ok(());
    }
    let Some(note) = context.held("note") else { return Ok(()) };
    let note = File::from(note.try_clone_to_owned().map_err(StepError::agent("the note"))?);
    for (place, figure) in FIGURES.iter().enumerate() {
        let (at, now) = (place as u64 * 8, (figure.read)().map_err(StepError::Agent)?);
        if context.hop() == EARLY {
            note.write_all_at(&now.to_ne_bytes(), at).map_err(StepError::agent("write the note"))?;
            continue;
        }
        let mut then = [0; 8];
        note.read_exact_at(&mut then, at).map_err(StepError::agent("the note"))?;
        let (name, then) = (format!("{} after {} updates", figure.what, context.hop()), u64::from_ne_bytes(then));
        let expected = format!("{then} KiB, as after {EARLY}, or {} KiB less at most", figure.slack_kib);
        context.check_condition(&name, &expected, format!("{now} KiB"), now + figure.slack_kib >= then);
    }
    Ok(())
}

/// A figure that shows memory which is lost little by little.
struct Figure {
    what: &'static str,
    read: fn() -> Result<u64, String>,
    /// By how much two boots of one kernel may differ, in KiB. Measured: MemTotal not at all, free memory by 300 KiB. One page for
    /// each of 96 updates is 384 KiB.
    slack_kib: u64,
}

const FIGURES: [Figure; 3] = [
    // It lacks preserved memory that nobody has retrieved, and memory that a kernel reserves.
    Figure { what: "MemTotal", read: || meminfo("MemTotal"), slack_kib: 64 },
    // It lacks allocated memory, also memory without a user.
    Figure { what: "free memory", read: mem_free_kib, slack_kib: 2 << 10 },
    // Every kernel boots in the areas that the first one reserved. If they shrank, a later kernel would not boot.
    Figure { what: "KHO's scratch areas", read: scratch_kib, slack_kib: 0 },
];

/// By how much the memory of two different kernels may differ, in KiB, beside what is still preserved.
const SLACK_KIB: u64 = 32 << 10;

/// How much memory the kernel had that made the note, in KiB, if the note came back.
fn noted_memory(context: &mut Context) -> Result<Option<u64>, StepError> {
    let session = context.session("control")?;
    let Some(note) = context.retrieve_file(&session, NOTE, "note") else { return Ok(None) };
    let mut then = [0; 8];
    note.read_exact_at(&mut then, 0).map_err(StepError::agent("the note"))?;
    context.hold("note", note);
    Ok(Some(u64::from_ne_bytes(then)))
}

fn memory_is_there(context: &mut Context) -> Done {
    let Some(then) = noted_memory(context)? else { return Ok(()) };
    let now = meminfo("MemTotal").map_err(StepError::Agent)?;
    let expected = format!("{} KiB or more, as the source had", then.saturating_sub(SLACK_KIB));
    context.check_condition("MemTotal", &expected, format!("{now} KiB"), now + SLACK_KIB >= then);
    Ok(())
}

fn unpreserved(context: &mut Context) -> Done {
    note_memory(context)?;
    let memfd = context.make_memfd(&LARGE)?;
    let session = context.create("released")?;
    context.preserve_fd(&session, memfd.as_fd(), 1, LARGE.name)?;
    drop(session);
    context.close("released");
    Ok(())
}

fn unclaimed_source(context: &mut Context) -> Done {
    if context.hop() > 0 {
        return hand_on_note(context);
    }
    note_memory(context)?;
    let session = context.create("theirs")?;
    context.make_and_preserve(&session, &LARGE, 1)
}

/// In the first target nobody retrieves the session. In the second it is gone, and no memory is missing. MemTotal shows
/// it on every kernel, since preserved memory does not count in it.
fn unclaimed(context: &mut Context) -> Done {
    let Some(then) = noted_memory(context)? else { return Ok(()) };
    let total = meminfo("MemTotal").map_err(StepError::Agent)?;
    if context.hop() == 1 {
        let at_most = (then + SLACK_KIB).saturating_sub(LARGE.size >> 10);
        let expected = format!("{at_most} KiB or less: the source had {then} KiB");
        context.check_condition("MemTotal while nobody asks", &expected, format!("{total} KiB"), total <= at_most);
        return Ok(());
    }
    context.check_no_session("theirs")?;
    // The first kernel again: it has as much as before.
    let at_least = then.saturating_sub(SAME_KIB);
    let expected = format!("{at_least} KiB or more: it had {then} KiB in its first life");
    context.check_condition("MemTotal two updates later", &expected, format!("{total} KiB"), total >= at_least);
    Ok(())
}

/// By how much the memory of two boots of one kernel may differ, in KiB. Measured: not at all.
const SAME_KIB: u64 = 1 << 10;
