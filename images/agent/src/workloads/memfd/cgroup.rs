//! `memfd.cgroup-*`: memory control groups.

use super::Done;
use crate::cgroup::MemoryGroup;
use crate::channel::DONE;
use crate::helper::{Helper, SAME};
use crate::luo::Session;
use crate::memfd::Memfd;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::AsFd;

/// Retrieved by a process in a memory control group.
const MEMFD: Memfd = Memfd::new("limited", 16 << 20);
const WHOLE_KIB: u64 = MEMFD.size >> 10;
const TOKEN: u64 = 1;

/// Less than the memfd, and enough for the process.
const TOO_SMALL: &str = "4M";

/// What a group may be charged for that has nothing of the memfd, in KiB: the process and the kernel's memory for it.
const NOTHING_KIB: u64 = 2 << 10;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { source: preserve, target: charged, ..Case::new("memfd.cgroup-charged") },
    Case { source: preserve, target: too_small, ..Case::new("memfd.cgroup-too-small") },
];

fn preserve(context: &mut Context) -> Done {
    let session = context.create("limited")?;
    context.make_and_preserve(&session, &MEMFD, TOKEN)
}

fn charged(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("limited")? else { return Ok(()) };
    let group = MemoryGroup::new("charged").map_err(StepError::Agent)?;
    let process = process_in(&group, &session)?;
    let before = group.charged_kib().map_err(StepError::Agent)?;
    retrieve_whole(context, &process)?;
    let charged = group.charged_kib().map_err(StepError::Agent)?.saturating_sub(before);
    let expected = format!("{WHOLE_KIB} KiB or more");
    context.check_condition("charge of who retrieved it", &expected, format!("{charged} KiB"), charged >= WHOLE_KIB);
    Ok(())
}

fn too_small(context: &mut Context) -> Done {
    let total = || crate::facts::meminfo("MemTotal").map_err(StepError::Agent);
    let Some(session) = context.retrieve_session("limited")? else { return Ok(()) };
    let group = MemoryGroup::new("too-small").map_err(StepError::Agent)?;
    group.limit(TOO_SMALL).map_err(StepError::Agent)?;
    let before = total()?;
    let process = process_in(&group, &session)?;
    // The process may be killed before it hears the answer.
    let answer = retrieve(&process);
    context.check_condition("retrieve under a limit that is too small", "an error", &answer, answer != DONE);
    drop(process);
    let charged = group.charged_kib().map_err(StepError::Agent)?;
    let expected = format!("{NOTHING_KIB} KiB or less");
    let name = "charge that the failed retrieve leaves";
    context.check_condition(name, &expected, format!("{charged} KiB"), charged <= NOTHING_KIB);
    group.limit("max").map_err(StepError::Agent)?;
    let answer = retrieve(&process_in(&group, &session)?);
    context.check("retrieve when the limit was raised", "ENOMEM", answer);
    let grown = total()?.saturating_sub(before);
    let expected = format!("{WHOLE_KIB} KiB more or above");
    context.check_condition("MemTotal after both", &expected, format!("{grown} KiB more"), grown >= WHOLE_KIB);
    Ok(())
}

/// A process in the group that has the session.
fn process_in(group: &MemoryGroup, session: &Session) -> Result<Helper, StepError> {
    let process = Helper::start(0).map_err(StepError::Agent)?;
    group.add(process.id()).map_err(StepError::Agent)?;
    process.tell("take session", Some(session.as_fd())).map_err(StepError::Agent)?;
    Ok(process)
}

/// What the process says of its retrieve. One that exceeds its limit is killed.
fn retrieve(process: &Helper) -> String {
    let name = MEMFD.name;
    process.ask(&format!("retrieve session {name} {TOKEN}"), None).map_or_else(|why| why, |(answer, _)| answer)
}

/// Has the process retrieve the memfd and compare it.
fn retrieve_whole(context: &mut Context, process: &Helper) -> Done {
    let name = MEMFD.name;
    let answer = retrieve(process);
    let is_there = answer == DONE;
    context.check(format!("memfd {name} retrieve"), DONE, answer);
    if is_there {
        let words = format!("compare {name} {} {}", MEMFD.size, context.seed());
        let (content, _) = process.ask(&words, None).map_err(StepError::Agent)?;
        context.check(format!("memfd {name} content"), SAME, content);
    }
    Ok(())
}
