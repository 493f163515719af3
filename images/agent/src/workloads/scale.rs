//! `scale.*`: many and much, in a machine of their own: what is counted is all that the kernel has.

use super::{Case, Kept, Scene, StepError};
use crate::memfd::Memfd;
use rustix::fd::AsFd;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::os::unix::fs::FileExt;

const BYTES: Kept = Kept { session: "control", token: 1, memfd: Memfd::new("256m", 256 << 20) };

pub(super) const CASES: &[Case] = &[
    Case { kept: &[BYTES], ..Case::new("scale.bytes-256m") },
    Case {
        source: |scene| files(scene, &[126, 63]),
        target: |scene| files_back(scene, &[126, 63]),
        ..Case::new("scale.files-126")
    },
    Case {
        source: |scene| files(scene, &[127, 64]),
        target: |scene| files_back(scene, &[127, 64]),
        ..Case::new("scale.files-127")
    },
    Case {
        source: |scene| files(scene, &[1000]),
        target: |scene| files_back(scene, &[1000]),
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
];

type Done = Result<(), StepError>;

/// Lets this process have more descriptors than there are by default.
fn raise_limit() -> Done {
    let mut limits = getrlimit(Resource::Nofile);
    let wanted = 20_000;
    if limits.current.is_some_and(|current| current < wanted) {
        limits.current = Some(wanted);
        limits.maximum = limits.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, limits).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    }
    Ok(())
}

/// One session for each count, with as many memfds; each has its number in it.
fn files(scene: &mut Scene, counts: &[u64]) -> Done {
    raise_limit()?;
    for count in counts {
        let session = scene.create(&format!("files-{count}"))?;
        for number in 0..*count {
            let memfd = Memfd::new("numbered", 0).make(0).map_err(StepError::agent("memfd"))?;
            memfd.write_all_at(&tag(scene, *count, number).to_ne_bytes(), 0).map_err(StepError::agent("write"))?;
            scene.hand_over(&session, memfd.as_fd(), number, &format!("{number} of {count}"))?;
        }
    }
    Ok(())
}

fn tag(scene: &Scene, count: u64, number: u64) -> u64 {
    scene.seed() ^ (count << 32 | number)
}

fn files_back(scene: &mut Scene, counts: &[u64]) -> Done {
    raise_limit()?;
    for count in counts {
        let Some(session) = scene.retrieve_session(&format!("files-{count}"))? else { continue };
        let (mut whole, mut wrong) = (0, None);
        for number in 0..*count {
            let expected = tag(scene, *count, number);
            let told = session.retrieve(number).map(File::from).map(|memfd| {
                let mut bytes = [0; 8];
                memfd.read_exact_at(&mut bytes, 0).is_ok_and(|()| u64::from_ne_bytes(bytes) == expected)
            });
            match told {
                Ok(true) => whole += 1,
                other => {
                    wrong.get_or_insert_with(|| format!("; {number}: {}", super::said(&other, "another content")));
                }
            }
        }
        let observed = format!("{whole} whole{}", wrong.unwrap_or_default());
        scene.check(format!("memfds of the session of {count}"), format!("{count} whole"), observed);
        scene.takes(&format!("finish of the session of {count}"), session.finish());
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

fn come_and_go(scene: &mut Scene) -> Done {
    for _ in 0..4 {
        (0..50).try_for_each(|number| scene.create(&number.to_string()).map(drop))?;
        (0..50).for_each(|number| scene.close(&number.to_string()));
    }
    Ok(())
}
