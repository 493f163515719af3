//! `scale.curve-*`: several updates in a row, each with another size, and how long the kernel's calls take for it. Other work, such
//! as making memfds and comparing them, is not measured.

use super::numbered::{numbered, raise_limit, tag, whole};
use crate::errno::success_or_errno;
use crate::luo::Session;
use crate::memfd::Memfd;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::fs::File;
use std::time::{Duration, Instant};

/// The numbers of files and of sessions.
const COUNTS: [u64; 5] = [1, 10, 100, 1000, 10_000];
/// The sizes of memfds. Each has a content of its own, by its name.
const MEMFDS: [Memfd; 5] = [
    Memfd::new("1 MiB", 1 << 20),
    Memfd::new("8 MiB", 8 << 20),
    Memfd::new("64 MiB", 64 << 20),
    Memfd::new("256 MiB", 256 << 20),
    Memfd::new("512 MiB", 512 << 20),
];

type Done = Result<(), StepError>;

/// The size that the kernel after `hop` kexecs preserves.
fn of<T: Copy>(sizes: [T; 5], hop: u32) -> Result<T, StepError> {
    sizes.get(hop as usize).copied().ok_or_else(|| StepError::Agent(format!("there is no size for update {}", hop + 1)))
}

/// The hop of the previous kernel.
fn before(context: &Context) -> u32 {
    context.hop().saturating_sub(1)
}

const PRESERVE: &str = "ioctl LIVEUPDATE_SESSION_PRESERVE_FD";

/// Runs the calls. Returns their result and how long they took.
fn timed<T>(calls: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let came = calls();
    (came, started.elapsed())
}

pub(super) fn files(context: &mut Context) -> Done {
    raise_limit()?;
    let count = of(COUNTS, context.hop())?;
    let tags = (0..count).map(|number| tag(context, context.hop() as usize, number));
    let memfds = tags.map(numbered).collect::<Result<Vec<File>, _>>()?;
    let session = context.create("curve")?;
    let (refused, took) = timed(|| {
        let preserve = |(token, memfd): (u64, &File)| Some((token, session.preserve(memfd.as_fd(), token).err()?));
        (0..).zip(&memfds).find_map(preserve)
    });
    if let Some((token, errno)) = refused {
        return Err(StepError::refused(PRESERVE, format!("memfd {token} of {count}"))(errno));
    }
    context.measure("preserve", (count, "files"), took);
    Ok(())
}

pub(super) fn files_back(context: &mut Context) -> Done {
    raise_limit()?;
    let count = of(COUNTS, before(context))?;
    let Some(session) = context.retrieve_session("curve")? else { return Ok(()) };
    let (back, took) = timed(|| (0..count).map(|token| session.retrieve(token)).collect::<Vec<_>>());
    measure_all(context, "retrieve", (count, "files"), &back, took);
    let tags = (0..count).map(|number| tag(context, before(context) as usize, number));
    let observed = whole(tags.zip(back));
    context.check(format!("{count} memfds of one session"), format!("{count} whole"), observed);
    finish(context, &session, (count, "files"));
    Ok(())
}

pub(super) fn sessions(context: &mut Context) -> Done {
    raise_limit()?;
    let count = of(COUNTS, context.hop())?;
    let labels: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let names: Vec<String> = labels.iter().map(|label| context.session_name(label)).collect();
    let device = context.device()?;
    let mut created = Vec::with_capacity(names.len());
    let (refused, took) =
        timed(|| names.iter().find_map(|name| device.create_session(name).map(|session| created.push(session)).err()));
    if let Some(errno) = refused {
        let about = format!("session {} of {count}", created.len());
        return Err(StepError::refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION", about)(errno));
    }
    context.measure("preserve", (count, "sessions"), took);
    labels.into_iter().zip(created).for_each(|(label, session)| context.keep_session(label, session));
    Ok(())
}

pub(super) fn sessions_back(context: &mut Context) -> Done {
    raise_limit()?;
    let count = of(COUNTS, before(context))?;
    let names: Vec<String> = (0..count).map(|number| context.session_name(&number.to_string())).collect();
    let device = context.device()?;
    let (back, took) = timed(|| names.iter().map(|name| device.retrieve_session(name)).collect::<Vec<_>>());
    measure_all(context, "retrieve", (count, "sessions"), &back, took);
    let there: Vec<Session> = back.into_iter().filter_map(Result::ok).collect();
    context.check(format!("{count} sessions retrieve"), count, there.len());
    let (finished, took) = timed(|| there.iter().map(Session::finish).collect::<Vec<_>>());
    measure_all(context, "finish", (count, "sessions"), &finished, took);
    context.check(format!("{count} sessions finish"), count, finished.iter().filter(|it| it.is_ok()).count());
    Ok(())
}

pub(super) fn bytes(context: &mut Context) -> Done {
    let memfd = of(MEMFDS, context.hop())?;
    let file = context.make_memfd(&memfd)?;
    let session = context.create("curve")?;
    let (preserved, took) = timed(|| session.preserve(file.as_fd(), 0));
    preserved.map_err(StepError::refused(PRESERVE, format!("memfd {}", memfd.name)))?;
    context.measure("preserve", (memfd.size >> 20, "MiB"), took);
    Ok(())
}

pub(super) fn bytes_back(context: &mut Context) -> Done {
    let memfd = of(MEMFDS, before(context))?;
    let mib = memfd.size >> 20;
    let Some(session) = context.retrieve_session("curve")? else { return Ok(()) };
    let (back, took) = timed(|| [session.retrieve(0)]);
    measure_all(context, "retrieve", (mib, "MiB"), &back, took);
    let [back] = back;
    context.check(format!("memfd {} retrieve", memfd.name), "a descriptor", success_or_errno(&back, "a descriptor"));
    if let Ok(file) = back.map(File::from) {
        context.check_memfd(&memfd, &file);
    }
    finish(context, &session, (mib, "MiB"));
    Ok(())
}

/// Finishes and closes the session, whose name the next size uses.
fn finish(context: &mut Context, session: &Session, size: (u64, &str)) {
    let (finished, took) = timed(|| [session.finish()]);
    measure_all(context, "finish", size, &finished, took);
    let [finished] = finished;
    context.check_success(&format!("finish of {} {}", size.0, size.1), finished);
    context.close("curve");
}

/// Reports a time only if all calls succeeded.
fn measure_all<T>(context: &mut Context, what: &str, size: (u64, &str), came: &[Result<T, Errno>], took: Duration) {
    if came.iter().all(Result::is_ok) {
        context.measure(what, size, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::find_workload;

    #[test]
    fn there_is_an_update_for_each_size() {
        for name in ["scale.curve-bytes", "scale.curve-files", "scale.curve-sessions"] {
            let hops = find_workload(name).unwrap().update.hops;
            assert!(of(COUNTS, hops - 1).is_ok() && of(COUNTS, hops).is_err(), "{name}");
        }
        for memfd in MEMFDS {
            assert_eq!(memfd.name, format!("{} MiB", memfd.size >> 20));
        }
    }
}
