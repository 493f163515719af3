//! `luo.*`, sessions: their names, who may hold them, and how they appear.

use super::{Done, OTHER, SPARE, extra_is_there, extra_session, kept};
use crate::errno::{errno, value_or_errno};
use crate::helper::{Helper, NOBODY};
use crate::luo::{Argument, DEVICE, Device, TYPE, number, raw};
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::stat;

/// Labels that make a session's name of 63 bytes, the longest.
const LONG_NAMES: [&str; 2] =
    ["bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb1", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2"];
const LONGEST_LABEL: &str = "ddddddddddddddddddddddddddddddddddddddddd";
const LONG_LABEL: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccc";

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { source: cloexec_source, target: cloexec_target, ..Case::new("luo.cloexec") },
    Case { target: create_in_target, ..Case::new("luo.create-in-target") },
    Case { source: device_mode, target: device_mode, ..Case::new("luo.device-mode") },
    Case {
        prepare: dirty_memory,
        source: session_empty_source,
        target: session_empty,
        ..Case::new("luo.dirty-memory")
    },
    Case { source: get_name_source, target: get_name_target, ..Case::new("luo.get-name") },
    Case { source: name_duplicate, ..Case::new("luo.name-duplicate") },
    Case { source: name_empty, ..Case::new("luo.name-empty") },
    Case {
        kept: &[kept(LONG_NAMES[0], 1, "first"), kept(LONG_NAMES[1], 1, "second")],
        ..Case::new("luo.name-longest")
    },
    // In this order a name is retrieved both before and after a name of which it is the beginning.
    Case {
        kept: &[kept("ab", 1, "ab"), kept("a", 1, "a"), kept("abc", 1, "abc"), kept("AB", 1, "AB")],
        ..Case::new("luo.name-prefix")
    },
    Case { source: name_unterminated, ..Case::new("luo.name-unterminated") },
    Case { source: recreated_source, target: recreated, ..Case::new("luo.recreated") },
    Case { target: retrieve_twice_session, ..Case::new("luo.retrieve-twice-session") },
    Case { source: second_opener, target: second_opener, ..Case::new("luo.second-opener") },
    Case { source: session_closed_source, target: session_closed, ..Case::new("luo.session-closed") },
    Case { source: session_dup_source, target: extra_is_there, ..Case::new("luo.session-dup") },
    Case { source: session_empty_source, target: session_empty, ..Case::new("luo.session-empty") },
    Case { source: session_link, target: session_link, ..Case::new("luo.session-link") },
    Case { source: session_link_long, ..Case::new("luo.session-link-long") },
    Case { source: session_unknown, target: session_unknown, ..Case::new("luo.session-unknown") },
];

fn check_cloexec(context: &mut Context, name: &str, fd: impl AsFd) {
    let flags = rustix::io::fcntl_getfd(fd).map(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC));
    context.check(name, true, value_or_errno(flags));
}

fn cloexec_source(context: &mut Context) -> Done {
    let session = context.session("control")?;
    check_cloexec(context, "FD_CLOEXEC of a created session", session.as_ref());
    Ok(())
}

fn cloexec_target(context: &mut Context) -> Done {
    if let (Ok(session), Some(memfd)) = (context.session("control"), context.retrieved("control")) {
        check_cloexec(context, "FD_CLOEXEC of a retrieved session", session.as_ref());
        check_cloexec(context, "FD_CLOEXEC of a retrieved memfd", memfd.as_ref());
    }
    Ok(())
}

fn create_in_target(context: &mut Context) -> Done {
    let created = context.device()?.create_session(&context.session_name("control"));
    context.check_success("create a session with the name of an incoming one", created);
    Ok(())
}

fn device_mode(context: &mut Context) -> Done {
    let found = stat(DEVICE).map(|stat| format!("{:o} {}:{}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
    context.check("mode and owner of /dev/liveupdate", "600 0:0", value_or_errno(found));
    context.close_device();
    let helper = Helper::start(NOBODY).map_err(StepError::Agent)?;
    let (opened, _) = helper.ask(&format!("open {DEVICE}"), None).map_err(StepError::Agent)?;
    context.check("open as another user", "EACCES", opened);
    Ok(())
}

/// Fills and frees memory of the kernel's own. Pages of files have another migrate type (mm/page_alloc.c), so this uses the buffers
/// of pipes.
fn dirty_memory(_: &mut Context) -> Done {
    const PIPE: usize = 64 << 10;
    let mut pipes = Vec::new();
    for _ in 0..400 {
        let (reader, writer) = rustix::pipe::pipe().map_err(StepError::agent("pipe"))?;
        rustix::io::write(&writer, &[0xa5; PIPE]).map_err(StepError::agent("a pipe"))?;
        pipes.push((reader, writer));
    }
    Ok(())
}

fn get_name_source(context: &mut Context) -> Done {
    context.create(LONG_LABEL)?;
    get_name(context)
}

fn get_name(context: &mut Context) -> Done {
    let name = context.session(LONG_LABEL)?.get_name();
    context.check("name of the session", context.session_name(LONG_LABEL), value_or_errno(name));
    let session = context.session(LONG_LABEL)?;
    let answer = raw(session.as_ref(), TYPE, number::GET_NAME, &mut Argument::new(72).with(4, &[1]));
    context.check_refused("its name with a reserved field of 1", "EINVAL", answer);
    Ok(())
}

fn get_name_target(context: &mut Context) -> Done {
    if context.retrieve_session(LONG_LABEL)?.is_some() {
        get_name(context)?;
    }
    Ok(())
}

fn name_duplicate(context: &mut Context) -> Done {
    let device = context.device()?;
    let again = device.create_session(&context.session_name("control"));
    context.check_refused("a second session of the same name", "EEXIST", again);
    let first = device.create_session(&context.session_name("free"));
    context.check_success("a session", first);
    let second = device.create_session(&context.session_name("free"));
    context.check_success("another of its name when it is closed", second);
    Ok(())
}

fn name_empty(context: &mut Context) -> Done {
    let created = context.device()?.create_session_of_bytes([0; 64]);
    context.check_refused("a session without a name", "EINVAL", created);
    Ok(())
}

fn name_unterminated(context: &mut Context) -> Done {
    let created = context.device()?.create_session_of_bytes([b'x'; 64]);
    context.check_refused("a name of 64 bytes", "EINVAL", created);
    Ok(())
}

fn recreated_source(context: &mut Context) -> Done {
    let first = context.create("extra")?;
    context.make_and_preserve(&first, &SPARE, 1)?;
    drop(first);
    context.close("extra");
    let second = context.create("extra")?;
    context.make_and_preserve(&second, &OTHER, 1)
}

fn recreated(context: &mut Context) -> Done {
    if let Some(session) = context.retrieve_session("extra")? {
        context.retrieve_memfd(&session, 1, &OTHER);
    }
    Ok(())
}

fn retrieve_twice_session(context: &mut Context) -> Done {
    if context.session("control").is_ok() {
        let again = context.device()?.retrieve_session(&context.session_name("control"));
        context.check_refused("session control, once more", "EINVAL", again);
    }
    Ok(())
}

fn second_opener(context: &mut Context) -> Done {
    let first = context.device()?;
    context.check_refused("open while it is open", "EBUSY", Device::open());
    drop(first);
    context.close_device();
    context.check_success("open when it is closed", Device::open());
    Ok(())
}

fn session_closed_source(context: &mut Context) -> Done {
    extra_session(context)?;
    context.close("extra");
    Ok(())
}

fn session_closed(context: &mut Context) -> Done {
    context.check_no_session("extra")
}

fn session_dup_source(context: &mut Context) -> Done {
    let session = context.create("extra")?;
    context.make_and_preserve(&session, &SPARE, 1)?;
    let copy = rustix::io::dup(session.as_fd()).map_err(StepError::agent("dup"))?;
    context.hold("copy", copy);
    drop(session);
    context.close("extra");
    Ok(())
}

fn session_empty_source(context: &mut Context) -> Done {
    context.create("empty").map(drop)
}

fn session_empty(context: &mut Context) -> Done {
    if let Some(session) = context.retrieve_session("empty")? {
        context.check_refused("token 1 of a session without files", "ENOENT", session.retrieve(1));
        context.check_success("finish of a session without files", session.finish());
    }
    Ok(())
}

fn session_link(context: &mut Context) -> Done {
    link_of(context, "control")
}

fn session_link_long(context: &mut Context) -> Done {
    context.create(LONGEST_LABEL)?;
    link_of(context, LONGEST_LABEL)
}

fn link_of(context: &mut Context, label: &str) -> Done {
    if let Ok(session) = context.session(label) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", session.as_fd().as_raw_fd()));
        let link = link.map(|link| link.display().to_string()).map_err(|error| errno(&error));
        let expected = format!("anon_inode:[luo_session] {}", context.session_name(label));
        context.check("link of a session's descriptor", expected, value_or_errno(link));
    }
    Ok(())
}

fn session_unknown(context: &mut Context) -> Done {
    let lowest = || -> Result<i32, StepError> {
        // dup(2) returns the lowest free number.
        let fd = rustix::io::dup(std::io::stdin()).map_err(StepError::agent("dup"))?;
        Ok(fd.as_raw_fd())
    };
    let device = context.device()?;
    let before = lowest()?;
    let answer = device.retrieve_session(&context.session_name("nobody"));
    context.check_refused("session nobody", "ENOENT", answer);
    context.check("lowest free descriptor after it", before, lowest()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luo::Session;
    use std::fs::File;

    #[test]
    fn long_names_have_the_longest_length() {
        for (case, label) in [
            ("luo.name-longest", LONG_NAMES[0]),
            ("luo.name-longest", LONG_NAMES[1]),
            ("luo.get-name", LONG_LABEL),
            ("luo.session-link-long", LONGEST_LABEL),
        ] {
            let case = CASES.iter().find(|it| it.name == case).unwrap();
            assert_eq!(Context::new(case, 0, 0, None).session_name(label).len(), 63, "{label}");
        }
    }

    #[test]
    fn a_session_is_made_from_any_descriptor() {
        let file = File::open("/dev/null").unwrap();
        assert!(Session::from(rustix::fd::OwnedFd::from(file)).finish().is_err());
    }
}
