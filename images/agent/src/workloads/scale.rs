//! `scale.*`: many and much, in a machine of their own: what is counted is all that the kernel has.

use super::{Case, Kept, Scene, StepError, curve, said};
use crate::memfd::Memfd;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::os::unix::fs::FileExt;

const BYTES: Kept = Kept { session: "control", token: 1, memfd: Memfd::new("528m", 528 << 20) };

pub(super) const CASES: &[Case] = &[
    Case { kept: &[BYTES], ..Case::new("scale.bytes-528m") },
    Case { source: curve::bytes, target: curve::bytes_back, ..Case::new("scale.curve-bytes") },
    Case { source: curve::files, target: curve::files_back, ..Case::new("scale.curve-files") },
    Case { source: curve::sessions, target: curve::sessions_back, ..Case::new("scale.curve-sessions") },
    Case {
        source: |scene| files(scene, &FULL),
        target: |scene| files_back(scene, &FULL),
        ..Case::new("scale.files-126")
    },
    Case {
        source: |scene| files(scene, &ONE_MORE),
        target: |scene| files_back(scene, &ONE_MORE),
        ..Case::new("scale.files-127")
    },
    Case {
        source: |scene| files(scene, &MANY),
        target: |scene| files_back(scene, &MANY),
        ..Case::new("scale.files-1000")
    },
    Case {
        source: |scene| sessions(scene, 51),
        target: |scene| sessions_back(scene, 51),
        ..Case::new("scale.sessions-51")
    },
    Case { source: duplicate, target: |scene| sessions_back(scene, 51), ..Case::new("scale.sessions-51-duplicate") },
    Case {
        source: |scene| sessions(scene, 52),
        target: |scene| sessions_back(scene, 52),
        ..Case::new("scale.sessions-52")
    },
    Case {
        source: |scene| sessions(scene, 800),
        target: |scene| sessions_back(scene, 800),
        ..Case::new("scale.sessions-800")
    },
    Case { source: come_and_go, ..Case::new("scale.sessions-closed") },
    Case { source: shrunk, target: |scene| sessions_back(scene, 51), ..Case::new("scale.sessions-shrunk") },
];

type Done = Result<(), StepError>;

/// Lets this process have more descriptors than there are by default.
pub(super) fn raise_limit() -> Done {
    let mut limits = getrlimit(Resource::Nofile);
    let wanted = 20_000;
    if limits.current.is_some_and(|current| current < wanted) {
        limits.current = Some(wanted);
        limits.maximum = limits.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, limits).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    }
    Ok(())
}

/// How many memfds there are in each session.
const FULL: [u64; 2] = [126, 63];
const ONE_MORE: [u64; 9] = [127, 64, 64, 64, 64, 64, 64, 64, 64];
const MANY: [u64; 1] = [1000];

/// One session for each count, with as many memfds; each has its number in it.
fn files(scene: &mut Scene, counts: &[u64]) -> Done {
    raise_limit()?;
    for (place, count) in counts.iter().enumerate() {
        let session = scene.create(&place.to_string())?;
        for number in 0..*count {
            let memfd = numbered(tag(scene, place, number))?;
            scene.hand_over(&session, memfd.as_fd(), number, &format!("{number} of {count}"))?;
        }
        let (pipe, _) = rustix::pipe::pipe().map_err(StepError::agent("pipe"))?;
        scene.refuses(&format!("a pipe besides the {count}"), "ENOENT", session.preserve(pipe.as_fd(), *count));
    }
    Ok(())
}

pub(super) fn tag(scene: &Scene, place: usize, number: u64) -> u64 {
    scene.seed() ^ ((place as u64) << 32 | number)
}

/// A memfd with a number in it.
pub(super) fn numbered(tag: u64) -> Result<File, StepError> {
    let memfd = Memfd::new("numbered", 0).make(0).map_err(StepError::agent("memfd"))?;
    memfd.write_all_at(&tag.to_ne_bytes(), 0).map_err(StepError::agent("write"))?;
    Ok(memfd)
}

/// How many of them came back with their numbers, and what became of the first that did not.
pub(super) fn whole(back: impl Iterator<Item = (u64, Result<OwnedFd, Errno>)>) -> String {
    let mut first_wrong = String::new();
    let mut whole = 0;
    for (place, (expected, memfd)) in back.enumerate() {
        let told = memfd.map(File::from).map(|memfd| {
            let mut bytes = [0; 8];
            memfd.read_exact_at(&mut bytes, 0).is_ok_and(|()| u64::from_ne_bytes(bytes) == expected)
        });
        match told {
            Ok(true) => whole += 1,
            other if first_wrong.is_empty() => first_wrong = format!("; {place}: {}", said(&other, "another content")),
            _ => {}
        }
    }
    format!("{whole} whole{first_wrong}")
}

fn files_back(scene: &mut Scene, counts: &[u64]) -> Done {
    raise_limit()?;
    for (place, count) in counts.iter().enumerate() {
        let Some(session) = scene.retrieve_session(&place.to_string())? else { continue };
        let back = (0..*count).map(|number| (tag(scene, place, number), session.retrieve(number)));
        let observed = whole(back);
        scene.check(format!("memfds of session {place}"), format!("{count} whole"), observed);
        scene.takes(&format!("finish of session {place}"), session.finish());
    }
    Ok(())
}

/// As many sessions in all; one is the case's own.
fn sessions(scene: &mut Scene, count: u32) -> Done {
    raise_limit()?;
    (1..count).try_for_each(|number| scene.create(&number.to_string()).map(drop))
}

fn sessions_back(scene: &mut Scene, count: u32) -> Done {
    raise_limit()?;
    let device = scene.device()?;
    let (mut back, mut wrong) = (0, None);
    for number in 1..count {
        match device.retrieve_session(&scene.name_of(&number.to_string())).and_then(|session| session.finish()) {
            Ok(()) => back += 1,
            Err(errno) => {
                wrong.get_or_insert_with(|| format!("; {number}: {}", super::errno_name(errno)));
            }
        }
    }
    let observed = format!("{back}{}", wrong.unwrap_or_default());
    scene.check("sessions beside the one that is kept", count - 1, observed);
    Ok(())
}

fn duplicate(scene: &mut Scene) -> Done {
    sessions(scene, 51)?;
    let answer = scene.device()?.create_session(&scene.name_of("1"));
    scene.refuses("a session whose name is taken", "EEXIST", answer);
    Ok(())
}

fn shrunk(scene: &mut Scene) -> Done {
    sessions(scene, 52)?;
    scene.close("51");
    Ok(())
}

fn come_and_go(scene: &mut Scene) -> Done {
    for _ in 0..4 {
        (0..50).try_for_each(|number| scene.create(&number.to_string()).map(drop))?;
        (0..50).for_each(|number| scene.close(&number.to_string()));
    }
    Ok(())
}
