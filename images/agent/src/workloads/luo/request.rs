//! `luo.*`, malformed requests, which no well-behaved program makes.

use super::{Done, FREE_TOKEN, OTHER, SPARE, extra_is_there, extra_session};
use crate::errno::success_or_errno;
use crate::luo::{Argument, Session, TYPE, into_read_only, number, raw, without_argument};
use crate::workloads::case::Case;
use crate::workloads::context::Context;
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

/// Sends random requests for two seconds.
fn fuzz(context: &mut Context) -> Done {
    let until = std::time::Instant::now() + FUZZ;
    let mut random = Random(context.seed() | 1);
    let mut sessions: Vec<Session> = Vec::new();
    let memfd = context.make_memfd(&OTHER)?;
    let device = context.device()?;
    let mut count = 0_u32;
    while std::time::Instant::now() < until {
        count += 1;
        let size = if random.below(4) == 0 { random.below(Argument::LONGEST as u64) as u32 } else { 72 };
        let mut argument = Argument::new(size);
        for at in 4..Argument::LONGEST as usize {
            // Mostly zeros, so that the kernel gets past its first checks.
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
        // The device has returned a session, which is closed sooner or later.
        if let (Ok(()), 0 | 1, true) = (answer, number, kind == TYPE) {
            sessions.extend(argument.fd().map(Session::from));
        }
        if sessions.len() > 6 {
            sessions.remove(random.below(6) as usize);
        }
    }
    context.check_condition("random requests", "100 or more", count, count >= 100);
    context.check_success("a session after them", device.create_session(&context.session_name("after")));
    Ok(())
}

const FUZZ: std::time::Duration = std::time::Duration::from_secs(2);

/// A pseudorandom generator (xorshift64), so that the seed determines the requests.
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

fn ioctl_foreign(context: &mut Context) -> Done {
    let device = context.device()?;
    let answer = raw(device.as_ref(), TYPE + 1, number::CREATE_SESSION, &mut Argument::new(72).with(8, b"foreign"));
    context.check_refused("command of another type to the device", "ENOTTY", answer);
    if let Ok(session) = context.session("control") {
        let answer = raw(session.as_ref(), TYPE + 1, number::FINISH, &mut Argument::new(8));
        context.check_refused("command of another type to a session", "ENOTTY", answer);
    }
    Ok(())
}

fn ioctl_unknown(context: &mut Context) -> Done {
    let device = context.device()?;
    for number in [0x3f, 0xff] {
        let answer = raw(device.as_ref(), TYPE, number, &mut Argument::new(72));
        context.check_refused(&format!("command {number:#04x} to the device"), "ENOTTY", answer);
    }
    if let Ok(session) = context.session("control") {
        for number in [0x3f, 0x7f] {
            let answer = raw(session.as_ref(), TYPE, number, &mut Argument::new(72));
            context.check_refused(&format!("command {number:#04x} to a session"), "ENOTTY", answer);
        }
    }
    Ok(())
}

fn no_argument(context: &mut Context) -> Done {
    let device = context.device()?;
    for number in [number::CREATE_SESSION, number::RETRIEVE_SESSION] {
        let answer = without_argument(device.as_ref(), number);
        context.check_refused(&format!("no argument for {number:#04x}"), "EFAULT", answer);
    }
    if let Ok(session) = context.session("control") {
        for number in [number::PRESERVE_FD, number::RETRIEVE_FD, number::FINISH] {
            let answer = without_argument(session.as_ref(), number);
            context.check_refused(&format!("no argument for {number:#04x}"), "EFAULT", answer);
        }
    }
    Ok(())
}

fn reserved(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(8).with(4, &[1]));
    context.check_refused("finish with a reserved field of 1", "EINVAL", answer);
    context.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

/// The argument that creates or retrieves the session with that label.
fn by_name(context: &Context, size: u32, label: &str) -> Argument {
    Argument::new(size).with(8, context.session_name(label).as_bytes())
}

/// The argument that retrieves a descriptor.
fn by_token(size: u32, token: u64) -> Argument {
    Argument::new(size).with(8, &token.to_ne_bytes())
}

fn response_create(context: &mut Context) -> Done {
    let answer = into_read_only(context.device()?.as_ref(), number::CREATE_SESSION, &by_name(context, 72, "untold"));
    context.check_refused("create, told to memory that is read-only", "EFAULT", answer);
    let again = context.device()?.create_session(&context.session_name("untold"));
    context.check_success("create the same session again", again);
    Ok(())
}

fn response_create_target(context: &mut Context) -> Done {
    context.check_no_session("untold")
}

fn response_fd(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let answer = into_read_only(session.as_ref(), number::RETRIEVE_FD, &by_token(16, 1));
    context.check_refused("retrieve, told to memory that is read-only", "EFAULT", answer);
    context.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

fn response_session(context: &mut Context) -> Done {
    let answer = into_read_only(context.device()?.as_ref(), number::RETRIEVE_SESSION, &by_name(context, 72, "extra"));
    context.check_refused("retrieve, told to memory that is read-only", "EFAULT", answer);
    extra_is_there(context)
}

/// The length of a structure that is longer than the kernel's, in bytes.
const LONGER: u32 = 128;

fn size_long_source(context: &mut Context) -> Done {
    let mut argument = by_name(context, LONGER, "longer");
    let created =
        raw(context.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut argument).and_then(|()| argument.fd());
    context.check("create with a longer structure", "no error", success_or_errno(&created, "no error"));
    let Ok(session) = created else { return Ok(()) };
    let memfd = context.make_memfd(&SPARE)?;
    let mut argument = by_token(LONGER, 1).with(4, &memfd.as_raw_fd().to_ne_bytes());
    let preserved = raw(&session, TYPE, number::PRESERVE_FD, &mut argument);
    context.check_success("preserve with a longer structure", preserved);
    context.hold("longer", session);
    Ok(())
}

fn size_long(context: &mut Context) -> Done {
    let mut argument = by_name(context, LONGER, "longer");
    let session =
        raw(context.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut argument).and_then(|()| argument.fd());
    context.check(
        "session longer, with a longer structure, retrieve",
        "a session",
        success_or_errno(&session, "a session"),
    );
    let Ok(session) = session else { return Ok(()) };
    let mut argument = by_token(LONGER, 1);
    let memfd = raw(&session, TYPE, number::RETRIEVE_FD, &mut argument).and_then(|()| argument.fd());
    context.check(
        "its memfd, with a longer structure, retrieve",
        "a descriptor",
        success_or_errno(&memfd, "a descriptor"),
    );
    if let Ok(memfd) = memfd {
        context.check_memfd(&SPARE, &File::from(memfd));
    }
    let finished = raw(&session, TYPE, number::FINISH, &mut Argument::new(LONGER));
    context.check_success("finish with a longer structure", finished);
    Ok(())
}

/// The offset of a nonzero byte that no kernel knows.
const BEHIND: usize = 100;

fn size_long_nonzero_source(context: &mut Context) -> Done {
    let mut argument = by_name(context, LONGER, "newer").with(BEHIND, &[1]);
    let answer = raw(context.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut argument);
    context.check_refused("create with something behind it", "E2BIG", answer);
    let session = context.session("control")?;
    let memfd = context.make_memfd(&SPARE)?;
    let mut argument = by_token(LONGER, FREE_TOKEN).with(4, &memfd.as_raw_fd().to_ne_bytes()).with(BEHIND, &[1]);
    let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
    context.check_refused("preserve with something behind it", "E2BIG", answer);
    Ok(())
}

fn size_long_nonzero(context: &mut Context) -> Done {
    context.check_no_session("newer")?;
    let mut argument = by_name(context, LONGER, "control").with(BEHIND, &[1]);
    let answer = raw(context.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut argument);
    context.check_refused("retrieve a session with something behind it", "E2BIG", answer);
    let session = context.session("control")?;
    context.check_refused("the token that was refused", "ENOENT", session.retrieve(FREE_TOKEN));
    let answer = raw(session.as_ref(), TYPE, number::RETRIEVE_FD, &mut by_token(LONGER, 7).with(BEHIND, &[1]));
    context.check_refused("retrieve with something behind it", "E2BIG", answer);
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(LONGER).with(BEHIND, &[1]));
    context.check_refused("finish with something behind it", "E2BIG", answer);
    Ok(())
}

fn size_short_source(context: &mut Context) -> Done {
    for size in [4, 71] {
        let answer =
            raw(context.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut by_name(context, size, "shorter"));
        context.check_refused(&format!("create with {size} bytes"), "EINVAL", answer);
    }
    let session = context.session("control")?;
    let memfd = context.make_memfd(&SPARE)?;
    let mut argument = by_token(15, FREE_TOKEN).with(4, &memfd.as_raw_fd().to_ne_bytes());
    let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
    context.check_refused("preserve with 15 bytes", "EINVAL", answer);
    Ok(())
}

fn size_short(context: &mut Context) -> Done {
    context.check_no_session("shorter")?;
    let answer = raw(context.device()?.as_ref(), TYPE, number::RETRIEVE_SESSION, &mut by_name(context, 71, "control"));
    context.check_refused("retrieve a session with 71 bytes", "EINVAL", answer);
    let session = context.session("control")?;
    context.check_refused("the token that was refused", "ENOENT", session.retrieve(FREE_TOKEN));
    let answer = raw(session.as_ref(), TYPE, number::RETRIEVE_FD, &mut by_token(15, 7));
    context.check_refused("retrieve with 15 bytes", "EINVAL", answer);
    let answer = raw(session.as_ref(), TYPE, number::FINISH, &mut Argument::new(7));
    context.check_refused("finish with 7 bytes", "EINVAL", answer);
    Ok(())
}
