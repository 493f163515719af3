//! `scale.curve-*`: a size for each of several updates in a row, and how long the kernel's own calls take for it. What a
//! workload does besides, such as making its memfds and comparing them, is not measured.

use super::scale::{numbered, raise_limit, tag, whole};
use super::{Scene, StepError};
use crate::luo::Session;
use crate::memfd::Memfd;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::fs::File;
use std::time::{Duration, Instant};

/// Of files and of sessions.
const COUNTS: [u64; 5] = [1, 10, 100, 1000, 10_000];
/// Each has a content of its own, by its name.
const MEMFDS: [Memfd; 5] = [
    Memfd::new("1 MiB", 1 << 20),
    Memfd::new("8 MiB", 8 << 20),
    Memfd::new("64 MiB", 64 << 20),
    Memfd::new("256 MiB", 256 << 20),
    Memfd::new("512 MiB", 512 << 20),
];

type Done = Result<(), StepError>;

/// What is handed on by the kernel that runs after so many kexecs.
fn of<T: Copy>(sizes: [T; 5], hop: u32) -> Result<T, StepError> {
    sizes.get(hop as usize).copied().ok_or_else(|| StepError::Agent(format!("there is no size for update {}", hop + 1)))
}

/// The last kernel's place among the sizes.
fn before(scene: &Scene) -> u32 {
    scene.hop().saturating_sub(1)
}

const PRESERVE: &str = "ioctl LIVEUPDATE_SESSION_PRESERVE_FD";

/// What came of it, and how long it took.
fn timed<T>(calls: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let came = calls();
    (came, started.elapsed())
}

pub(super) fn files(scene: &mut Scene) -> Done {
    raise_limit()?;
    let count = of(COUNTS, scene.hop())?;
    let tags = (0..count).map(|number| tag(scene, scene.hop() as usize, number));
    let memfds = tags.map(numbered).collect::<Result<Vec<File>, _>>()?;
    let session = scene.create("curve")?;
    let (refused, took) = timed(|| {
        let preserve = |(token, memfd): (u64, &File)| Some((token, session.preserve(memfd.as_fd(), token).err()?));
        (0..).zip(&memfds).find_map(preserve)
    });
    if let Some((token, errno)) = refused {
        return Err(StepError::refused(PRESERVE, format!("memfd {token} of {count}"))(errno));
    }
    scene.measure("preserve", (count, "files"), took);
    Ok(())
}

pub(super) fn files_back(scene: &mut Scene) -> Done {
    raise_limit()?;
    let count = of(COUNTS, before(scene))?;
    let Some(session) = scene.retrieve_session("curve")? else { return Ok(()) };
    let (back, took) = timed(|| (0..count).map(|token| session.retrieve(token)).collect::<Vec<_>>());
    measure_all(scene, "retrieve", (count, "files"), &back, took);
    let tags = (0..count).map(|number| tag(scene, before(scene) as usize, number));
    let observed = whole(tags.zip(back));
    scene.check(format!("{count} memfds of one session"), format!("{count} whole"), observed);
    finish(scene, &session, (count, "files"));
    Ok(())
}

pub(super) fn sessions(scene: &mut Scene) -> Done {
    raise_limit()?;
    let count = of(COUNTS, scene.hop())?;
    let labels: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let names: Vec<String> = labels.iter().map(|label| scene.name_of(label)).collect();
    let device = scene.device()?;
    let mut created = Vec::with_capacity(names.len());
    let (refused, took) =
        timed(|| names.iter().find_map(|name| device.create_session(name).map(|session| created.push(session)).err()));
    if let Some(errno) = refused {
        let about = format!("session {} of {count}", created.len());
        return Err(StepError::refused("ioctl LIVEUPDATE_IOCTL_CREATE_SESSION", about)(errno));
    }
    scene.measure("preserve", (count, "sessions"), took);
    labels.into_iter().zip(created).for_each(|(label, session)| scene.keep_session(label, session));
    Ok(())
}

pub(super) fn sessions_back(scene: &mut Scene) -> Done {
    raise_limit()?;
    let count = of(COUNTS, before(scene))?;
    let names: Vec<String> = (0..count).map(|number| scene.name_of(&number.to_string())).collect();
    let device = scene.device()?;
    let (back, took) = timed(|| names.iter().map(|name| device.retrieve_session(name)).collect::<Vec<_>>());
    measure_all(scene, "retrieve", (count, "sessions"), &back, took);
    let there: Vec<Session> = back.into_iter().filter_map(Result::ok).collect();
    scene.check(format!("{count} sessions retrieve"), count, there.len());
    let (finished, took) = timed(|| there.iter().map(Session::finish).collect::<Vec<_>>());
    measure_all(scene, "finish", (count, "sessions"), &finished, took);
    scene.check(format!("{count} sessions finish"), count, finished.iter().filter(|it| it.is_ok()).count());
    Ok(())
}

pub(super) fn bytes(scene: &mut Scene) -> Done {
    let memfd = of(MEMFDS, scene.hop())?;
    let file = scene.make(&memfd)?;
    let session = scene.create("curve")?;
    let (preserved, took) = timed(|| session.preserve(file.as_fd(), 0));
    preserved.map_err(StepError::refused(PRESERVE, format!("memfd {}", memfd.name)))?;
    scene.measure("preserve", (memfd.size >> 20, "MiB"), took);
    Ok(())
}

pub(super) fn bytes_back(scene: &mut Scene) -> Done {
    let memfd = of(MEMFDS, before(scene))?;
    let mib = memfd.size >> 20;
    let Some(session) = scene.retrieve_session("curve")? else { return Ok(()) };
    let (back, took) = timed(|| [session.retrieve(0)]);
    measure_all(scene, "retrieve", (mib, "MiB"), &back, took);
    let [back] = back;
    scene.check(format!("memfd {} retrieve", memfd.name), "a descriptor", super::said(&back, "a descriptor"));
    if let Ok(file) = back.map(File::from) {
        scene.compare(&memfd, &file);
    }
    finish(scene, &session, (mib, "MiB"));
    Ok(())
}

/// Finishes the session, and closes it: its name is the next size's.
fn finish(scene: &mut Scene, session: &Session, size: (u64, &str)) {
    let (finished, took) = timed(|| [session.finish()]);
    measure_all(scene, "finish", size, &finished, took);
    let [finished] = finished;
    scene.takes(&format!("finish of {} {}", size.0, size.1), finished);
    scene.close("curve");
}

/// A time of calls of which some failed is none of so many.
fn measure_all<T>(scene: &mut Scene, what: &str, size: (u64, &str), came: &[Result<T, Errno>], took: Duration) {
    if came.iter().all(Result::is_ok) {
        scene.measure(what, size, took);
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
