//! `luo.race-*`: two threads that ask for the same thing at once.

use super::Done;
use crate::errno::errno_name;
use crate::luo::Session;
use crate::mapping::PAGE;
use crate::memfd::Memfd;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::fstat;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const RACED: Memfd = Memfd::new("raced", 2 * PAGE as u64 + 1);

/// The sessions of a workload, or the memfds of one session.
const MANY: u64 = 32;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { source: many_sessions, target: finish, ..Case::new("luo.race-finish") },
    Case { source: many_memfds, target: retrieve, ..Case::new("luo.race-retrieve") },
    Case { source: many_sessions, target: session, ..Case::new("luo.race-session") },
];

fn many_sessions(context: &mut Context) -> Done {
    for number in 0..MANY {
        let session = context.create(&label(number))?;
        preserve(context, &session, 1, number)?;
    }
    Ok(())
}

fn many_memfds(context: &mut Context) -> Done {
    let session = context.create(RACED.name)?;
    (0..MANY).try_for_each(|token| preserve(context, &session, token, token))
}

/// Preserves a memfd with a content of its own.
fn preserve(context: &mut Context, session: &Session, token: u64, number: u64) -> Done {
    let memfd = RACED.make(seed(context, number)).map_err(StepError::agent("memfd"))?;
    context.preserve_fd(session, memfd.as_fd(), token, RACED.name)
}

fn seed(context: &Context, number: u64) -> u64 {
    context.seed().wrapping_add(number)
}

fn label(number: u64) -> String {
    format!("raced-{number}")
}

/// Runs both on threads that start at the same moment: both spin, since who sleeps comes too late.
fn at_once<A, B: Send>(one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> Result<(A, B), StepError> {
    let there = AtomicU32::new(0);
    let meet = || {
        there.fetch_add(1, Ordering::AcqRel);
        while there.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            meet();
            other()
        });
        meet();
        let one = one();
        other.join().map(|other| (one, other)).map_err(|_| StepError::Agent("a thread panicked".to_owned()))
    })
}

fn is_whole(context: &Context, memfd: OwnedFd, number: u64) -> bool {
    RACED.difference(&File::from(memfd), seed(context, number)) == Ok(None)
}

fn finish(context: &mut Context) -> Done {
    let device = context.device()?;
    let (mut came, mut finished, mut fair) = (0, 0, 0);
    for number in 0..MANY {
        let Ok(session) = device.retrieve_session(&context.session_name(&label(number))) else { continue };
        came += 1;
        let (retrieve, finish) = (|| session.retrieve(1), || session.finish());
        // In turn, since one of the threads may always be the first.
        let (memfd, end) = if number % 2 == 0 {
            at_once(retrieve, finish)?
        } else {
            let (end, memfd) = at_once(finish, retrieve)?;
            (memfd, end)
        };
        finished += u64::from(end.is_ok());
        fair += u64::from(memfd.map_or_else(|errno| errno == Errno::NOENT, |memfd| is_whole(context, memfd, number)));
    }
    context.check("sessions that came back", MANY, came);
    context.check("finishes that succeeded", MANY, finished);
    context.check("memfds that came whole or were gone (ENOENT)", MANY, fair);
    Ok(())
}

fn retrieve(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session(RACED.name)? else { return Ok(()) };
    let session: &Session = &session;
    let all = || (0..MANY).map(|token| session.retrieve(token)).collect::<Vec<_>>();
    let (ours, theirs) = at_once(all, all)?;
    let file = |memfd: &OwnedFd| fstat(memfd).map(|stat| stat.st_ino);
    let is_same = |(ours, theirs): &(&Result<OwnedFd, Errno>, &Result<OwnedFd, Errno>)| match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => file(ours).is_ok() && file(ours) == file(theirs),
        _ => false,
    };
    let same = ours.iter().zip(&theirs).filter(is_same).count();
    let is_whole = |(memfd, token): (Result<OwnedFd, Errno>, u64)| memfd.is_ok_and(|it| is_whole(context, it, token));
    let whole: u64 = ours.into_iter().zip(0..).map(is_whole).map(u64::from).sum();
    context.check("tokens of which both got one file", MANY, same);
    context.check("memfds that came whole", MANY, whole);
    Ok(())
}

fn session(context: &mut Context) -> Done {
    let device = context.device()?;
    let device = &*device;
    let (mut alone, mut whole) = (0, 0);
    let mut refusals = BTreeSet::new();
    for number in 0..MANY {
        let name = context.session_name(&label(number));
        let ask = || device.retrieve_session(&name);
        let (ours, theirs) = at_once(ask, ask)?;
        alone += u64::from(ours.is_ok() != theirs.is_ok());
        for answer in [ours, theirs] {
            match answer.map(|session| session.retrieve(1)) {
                Ok(memfd) => whole += u64::from(memfd.is_ok_and(|memfd| is_whole(context, memfd, number))),
                Err(errno) => _ = refusals.insert(errno_name(errno)),
            }
        }
    }
    context.check("sessions that one alone got", MANY, alone);
    context.check("memfds that came whole", MANY, whole);
    let refusals = refusals.into_iter().collect::<Vec<_>>().join(", ");
    context.check("the answer to the other", "EINVAL", refusals);
    Ok(())
}
