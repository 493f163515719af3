//! `luo.*`, requests that no well-behaved program makes.

use super::{Done, FREE_TOKEN, OTHER, SPARE, extra_is_there, extra_session};
use crate::luo::{Argument, Session, TYPE, into_read_only, number, raw, without_argument};
use crate::workloads::{Case, Scene, said};
use rustix::fd::AsRawFd;
use std::fs::File;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { prepare: fuzz, target: fuzz, ..Case::new("luo.fuzz") },
    Case { source: ioctl_foreign, target: ioctl_foreign, ..Case::new("luo.ioctl-foreign") },
    Case { source: ioctl_unknown, target: ioctl_unknown, ..Case::new("luo.ioctl-unknown") },
    Case { source: no_argument, target: no_argument, ..Case::new("luo.no-argument") },
    Case { source: extra_session, target: reserved, ..Case::new("luo.reserved") },
    Case { source: response_create, target: response_create_target, ..Case::new("luo.response-create") },
    Case { source: extra_session, target: response_fd, ..Case::new("luo.response-fd") },
    Case { source: extra_session, target: response_session, ..Case::new("luo.response-session") },
    Case { source: size_long_source, target: size_long, ..Case::new("luo.size-long") },
    Case { source: size_long_nonzero_source, target: size_long_nonzero, ..Case::new("luo.size-long-nonzero") },
    Case { source: size_short_source, target: size_short, ..Case::new("luo.size-short") },
];

/// What the kernel gets for two seconds: anything, of anybody.
fn fuzz(scene: &mut Scene) -> Done {
    let until = std::time::Instant::now() + FUZZ;
    let mut random = Random(scene.seed() | 1);
    let mut sessions: Vec<Session> = Vec::new();
    let memfd = scene.make(&OTHER)?;
    let device = scene.device()?;
    let mut count = 0_u32;
    while std::time::Instant::now() < until {
        count += 1;
        let size = if random.below(4) == 0 { random.below(Argument::LONGEST as u64) as u32 } else { 72 };
        let mut argument = Argument::new(size);
        for at in 4..Argument::LONGEST as usize {
            // Mostly zeros: what is not, is looked at.
            if random.below(8) == 0 {
                argument = argument.with(at, &[random.next() as u8]);
            }
        }
        if random.below(2) == 0 {
            argument = argument.with(4, &memfd.as_raw_fd().to_ne_bytes());
        }
        let kind = if random.below(16) == 0 { random.next() as u8 } else { TYPE };
        let base = if random.below(2) == 0 { 0 } else { 0x40 };
        let number = base + random.below(5) as u8;
        let answer = match sessions.get(random.below(8) as usize) {
            Some(session) => raw(session, kind, number, &mut argument),
            None => raw(device.as_ref(), kind, number, &mut argument),
        };
        // What it was given for it is a session if it came from the device; it is closed sooner or later.
        if let (Ok(()), 0 | 1, true) = (answer, number, kind == TYPE) {
            sessions.extend(argument.fd().map(Session::from));
        }
        if sessions.len() > 6 {
            sessions.remove(random.below(6) as usize);
        }
    }
    scene.check_that("random requests", "100 or more", count, count >= 100);
    scene.takes("a session after them", device.create_session(&scene.name_of("after")));
    Ok(())
}

const FUZZ: std::time::Duration = std::time::Duration::from_secs(2);

/// xorshift64: what chance there is comes from the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

fn ioctl_foreign(scene: &mut Scene) -> Done {
    let device = scene.device()?;
    let answer = raw(device.as_ref(), TYPE + 1, number::CREATE_SESSION, &mut Argument::new(72).with(8, b"foreign"));
    scene.refuses("command of another type to the device", "ENOTTY", answer);
    if let Ok(session) = scene.session("control") {
        let answer = raw(session.as_ref(), TYPE + 1, number::FINISH, &mut Argument::new(8));
        scene.refuses("command of another type to a session", "ENOTTY", answer);
    }
    Ok(())
}

fn ioctl_unknown(scene: &mut Scene) -> Done {
    let device = scene.device()?;
    for number in [0x3f, 0xff] {
        let answer = raw(device.as_ref(), TYPE, number, &mut Argument::new(72));
        scene.refuses(&format!("command {number:#04x} to the device"), "ENOTTY", answer);
    }
    if let Ok(session) = scene.session("control") {
        for number in [0x3f, 0x7f] {
            let answer = raw(session.as_ref(), TYPE, number, &mut Argument::new(72));
            scene.refuses(&format!("command {number:#04x} to a session"), "ENOTTY", answer);
        }
    }
    Ok(())
}

fn no_argument(scene: &mut Scene) -> Done {
    let device = scene.device()?;
    for number in [number::CREATE_SESSION, number::RETRIEVE_SESSION] {
        let answer = without_argument(device.as_ref(), number);
        scene.refuses(&format!("no argument for {number:#04x}"), "EFAULT", answer);
    }
    if let Ok(session) = scene.session("control") {
        for number in [number::PRESERVE_FD, number::RETRIEVE_FD, number::FINISH] {
            let answer = without_argument(session.as_ref(), number);
            scene.refuses(&format!("no argument for {number:#04x}"), "EFAULT", answer);
        }
    }
    Ok(())
}

fn reserved(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(8).with(4, &[1]));
    scene.refuses("finish with a reserved field of 1", "EINVAL", answer);
    scene.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

/// The argument that creates or retrieves the session with that label.
fn by_name(scene: &Scene, size: u32, label: &str) -> Argument {
    Argument::new(size).with(8, scene.name_of(label).as_bytes())
}

/// The argument that retrieves a descriptor.
fn by_token(size: u32, token: u64) -> Argument {
    Argument::new(size).with(8, &token.to_ne_bytes())
}

fn response_create(scene: &mut Scene) -> Done {
    let answer = into_read_only(scene.device()?.as_ref(), number::CREATE_SESSION, &by_name(scene, 72, "untold"));
    scene.refuses("create, told to memory that is read-only", "EFAULT", answer);
    let again = scene.device()?.create_session(&scene.name_of("untold"));
    scene.takes("create the same session again", again);
    Ok(())
}

fn response_create_target(scene: &mut Scene) -> Done {
    scene.has_no_session("untold")
}

fn response_fd(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let answer = into_read_only(session.as_ref(), number::RETRIEVE_FD, &by_token(16, 1));
    scene.refuses("retrieve, told to memory that is read-only", "EFAULT", answer);
    scene.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

fn response_session(scene: &mut Scene) -> Done {
    let answer = into_read_only(scene.device()?.as_ref(), number::RETRIEVE_SESSION, &by_name(scene, 72, "extra"));
    scene.refuses("retrieve, told to memory that is read-only", "EFAULT", answer);
    extra_is_there(scene)
}

/// How many bytes longer structures have.
const LONGER: u32 = 128;

fn size_long_source(scene: &mut Scene) -> Done {
    let mut argument = by_name(scene, LONGER, "longer");
    let created =
        raw(scene.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut argument).and_then(|()| argument.fd());
    scene.check("create with a longer structure", "no error", said(&created, "no error"));
    let Ok(session) = created else { return Ok(()) };
    let memfd = scene.make(&SPARE)?;
    let mut argument = by_token(LONGER, 1).with(4, &memfd.as_raw_fd().to_ne_bytes());
    let preserved = raw(&session, TYPE, number::PRESERVE_FD, &mut argument);
    scene.takes("preserve with a longer structure", preserved);
    scene.hold("longer", session);
    Ok(())
}

fn size_long(scene: &mut Scene) -> Done {
    let mut argument = by_name(scene, LONGER, "longer");
    let session =
        raw(scene.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut argument).and_then(|()| argument.fd());
    scene.check("session longer, with a longer structure, retrieve", "a session", said(&session, "a session"));
    let Ok(session) = session else { return Ok(()) };
    let mut argument = by_token(LONGER, 1);
    let memfd = raw(&session, TYPE, number::RETRIEVE_FD, &mut argument).and_then(|()| argument.fd());
    scene.check("its memfd, with a longer structure, retrieve", "a descriptor", said(&memfd, "a descriptor"));
    if let Ok(memfd) = memfd {
        scene.compare(&SPARE, &File::from(memfd));
    }
    let finished = raw(&session, TYPE, number::FINISH, &mut Argument::new(LONGER));
    scene.takes("finish with a longer structure", finished);
    Ok(())
}

/// Where something stands that no kernel understands.
const BEHIND: usize = 100;

fn size_long_nonzero_source(scene: &mut Scene) -> Done {
    let mut argument = by_name(scene, LONGER, "newer").with(BEHIND, &[1]);
    let answer = raw(scene.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut argument);
    scene.refuses("create with something behind it", "E2BIG", answer);
    let session = scene.session("control")?;
    let memfd = scene.make(&SPARE)?;
    let mut argument = by_token(LONGER, FREE_TOKEN).with(4, &memfd.as_raw_fd().to_ne_bytes()).with(BEHIND, &[1]);
    let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
    scene.refuses("preserve with something behind it", "E2BIG", answer);
    Ok(())
}

fn size_long_nonzero(scene: &mut Scene) -> Done {
    scene.has_no_session("newer")?;
    let mut argument = by_name(scene, LONGER, "control").with(BEHIND, &[1]);
    let answer = raw(scene.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut argument);
    scene.refuses("retrieve a session with something behind it", "E2BIG", answer);
    let Ok(session) = scene.session("control") else { return Ok(()) };
    scene.refuses("the token that was refused", "ENOENT", session.retrieve(FREE_TOKEN));
    let answer = raw(session.as_ref(), TYPE, number::RETRIEVE_FD, &mut by_token(LONGER, 7).with(BEHIND, &[1]));
    scene.refuses("retrieve with something behind it", "E2BIG", answer);
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(LONGER).with(BEHIND, &[1]));
    scene.refuses("finish with something behind it", "E2BIG", answer);
    Ok(())
}

fn size_short_source(scene: &mut Scene) -> Done {
    for size in [4, 71] {
        let answer = raw(scene.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut by_name(scene, size, "shorter"));
        scene.refuses(&format!("create with {size} bytes"), "EINVAL", answer);
    }
    let session = scene.session("control")?;
    let memfd = scene.make(&SPARE)?;
    let mut argument = by_token(15, FREE_TOKEN).with(4, &memfd.as_raw_fd().to_ne_bytes());
    let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
    scene.refuses("preserve with 15 bytes", "EINVAL", answer);
    Ok(())
}

fn size_short(scene: &mut Scene) -> Done {
    scene.has_no_session("shorter")?;
    let answer = raw(scene.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut by_name(scene, 71, "control"));
    scene.refuses("retrieve a session with 71 bytes", "EINVAL", answer);
    let Ok(session) = scene.session("control") else { return Ok(()) };
    scene.refuses("the token that was refused", "ENOENT", session.retrieve(FREE_TOKEN));
    let answer = raw(session.as_ref(), TYPE, number::RETRIEVE_FD, &mut by_token(15, 7));
    scene.refuses("retrieve with 15 bytes", "EINVAL", answer);
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(7));
    scene.refuses("finish with 7 bytes", "EINVAL", answer);
    Ok(())
}
