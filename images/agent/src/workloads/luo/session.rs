//! `luo.*`, sessions: their names, who may have them, and what they are when asked.

use super::{Done, OTHER, SPARE, extra_is_there, extra_session, kept};
use crate::luo::{Argument, DEVICE, Device, TYPE, number, raw};
use crate::peer::{NOBODY, Peer};
use crate::workloads::{Case, Scene, StepError, errno, observed};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::stat;

/// 63 bytes with the name of the case before it.
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
    // In this order a name that begins another's is asked for after it, and before it.
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

fn check_cloexec(scene: &mut Scene, name: &str, fd: impl AsFd) {
    let flags = rustix::io::fcntl_getfd(fd).map(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC));
    scene.check(name, true, observed(flags));
}

fn cloexec_source(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    check_cloexec(scene, "FD_CLOEXEC of a created session", session.as_ref());
    Ok(())
}

fn cloexec_target(scene: &mut Scene) -> Done {
    if let (Ok(session), Some(memfd)) = (scene.session("control"), scene.retrieved("control")) {
        check_cloexec(scene, "FD_CLOEXEC of a retrieved session", session.as_ref());
        check_cloexec(scene, "FD_CLOEXEC of a retrieved memfd", memfd.as_ref());
    }
    Ok(())
}

fn create_in_target(scene: &mut Scene) -> Done {
    let created = scene.device()?.create_session(&scene.name_of("control"));
    scene.takes("create a session with the name of an incoming one", created);
    Ok(())
}

fn device_mode(scene: &mut Scene) -> Done {
    let found = stat(DEVICE).map(|stat| format!("{:o} {}:{}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
    scene.check("mode and owner of /dev/liveupdate", "600 0:0", observed(found));
    scene.close_device();
    let peer = Peer::start(NOBODY).map_err(StepError::Agent)?;
    let (opened, _) = peer.ask(&format!("open {DEVICE}"), None).map_err(StepError::Agent)?;
    scene.check("open as another user", "EACCES", opened);
    Ok(())
}

/// Memory of the kernel's own that was in use: what files are made of comes from other places (mm/page_alloc.c, migrate
/// types), so that it is the buffers of pipes which are filled and given back.
fn dirty_memory(_: &mut Scene) -> Done {
    const PIPE: usize = 64 << 10;
    let mut pipes = Vec::new();
    for _ in 0..400 {
        let (reader, writer) = rustix::pipe::pipe().map_err(StepError::agent("pipe"))?;
        rustix::io::write(&writer, &[0xa5; PIPE]).map_err(StepError::agent("a pipe"))?;
        pipes.push((reader, writer));
    }
    Ok(())
}

fn get_name_source(scene: &mut Scene) -> Done {
    scene.create(LONG_LABEL)?;
    get_name(scene)
}

fn get_name(scene: &mut Scene) -> Done {
    let name = scene.session(LONG_LABEL)?.get_name();
    scene.check("name of the session", scene.name_of(LONG_LABEL), observed(name));
    let session = scene.session(LONG_LABEL)?;
    let answer = raw(session.as_ref(), TYPE, number::GET_NAME, &mut Argument::new(72).with(4, &[1]));
    scene.refuses("its name with a reserved field of 1", "EINVAL", answer);
    Ok(())
}

fn get_name_target(scene: &mut Scene) -> Done {
    if scene.retrieve_session(LONG_LABEL)?.is_some() {
        get_name(scene)?;
    }
    Ok(())
}

fn name_duplicate(scene: &mut Scene) -> Done {
    let device = scene.device()?;
    let again = device.create_session(&scene.name_of("control"));
    scene.refuses("a second session of the same name", "EEXIST", again);
    let first = device.create_session(&scene.name_of("free"));
    scene.takes("a session", first);
    let second = device.create_session(&scene.name_of("free"));
    scene.takes("another of its name when it is closed", second);
    Ok(())
}

fn name_empty(scene: &mut Scene) -> Done {
    let created = scene.device()?.create_session_of_bytes([0; 64]);
    scene.refuses("a session without a name", "EINVAL", created);
    Ok(())
}

fn name_unterminated(scene: &mut Scene) -> Done {
    let created = scene.device()?.create_session_of_bytes([b'x'; 64]);
    scene.refuses("a name of 64 bytes", "EINVAL", created);
    Ok(())
}

fn recreated_source(scene: &mut Scene) -> Done {
    let first = scene.create("extra")?;
    scene.hand_over_new(&first, &SPARE, 1)?;
    drop(first);
    scene.close("extra");
    let second = scene.create("extra")?;
    scene.hand_over_new(&second, &OTHER, 1)
}

fn recreated(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("extra")? {
        scene.retrieve_memfd(&session, 1, &OTHER);
    }
    Ok(())
}

fn retrieve_twice_session(scene: &mut Scene) -> Done {
    if scene.session("control").is_ok() {
        let again = scene.device()?.retrieve_session(&scene.name_of("control"));
        scene.refuses("session control, once more", "EINVAL", again);
    }
    Ok(())
}

fn second_opener(scene: &mut Scene) -> Done {
    let first = scene.device()?;
    scene.refuses("open while it is open", "EBUSY", Device::open());
    drop(first);
    scene.close_device();
    scene.takes("open when it is closed", Device::open());
    Ok(())
}

fn session_closed_source(scene: &mut Scene) -> Done {
    extra_session(scene)?;
    scene.close("extra");
    Ok(())
}

fn session_closed(scene: &mut Scene) -> Done {
    scene.has_no_session("extra")
}

fn session_dup_source(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &SPARE, 1)?;
    let copy = rustix::io::dup(session.as_fd()).map_err(StepError::agent("dup"))?;
    scene.hold("copy", copy);
    drop(session);
    scene.close("extra");
    Ok(())
}

fn session_empty_source(scene: &mut Scene) -> Done {
    scene.create("empty").map(drop)
}

fn session_empty(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("empty")? {
        scene.refuses("token 1 of a session without files", "ENOENT", session.retrieve(1));
        scene.takes("finish of a session without files", session.finish());
    }
    Ok(())
}

fn session_link(scene: &mut Scene) -> Done {
    link_of(scene, "control")
}

fn session_link_long(scene: &mut Scene) -> Done {
    scene.create(LONGEST_LABEL)?;
    link_of(scene, LONGEST_LABEL)
}

fn link_of(scene: &mut Scene, label: &str) -> Done {
    if let Ok(session) = scene.session(label) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", session.as_fd().as_raw_fd()));
        let link = link.map(|link| link.display().to_string()).map_err(|error| errno(&error));
        let expected = format!("anon_inode:[luo_session] {}", scene.name_of(label));
        scene.check("link of a session's descriptor", expected, observed(link));
    }
    Ok(())
}

fn session_unknown(scene: &mut Scene) -> Done {
    let lowest = || -> Result<i32, StepError> {
        // The lowest free number is what dup(2) gives.
        let fd = rustix::io::dup(std::io::stdin()).map_err(StepError::agent("dup"))?;
        Ok(fd.as_raw_fd())
    };
    let device = scene.device()?;
    let before = lowest()?;
    let answer = device.retrieve_session(&scene.name_of("nobody"));
    scene.refuses("session nobody", "ENOENT", answer);
    scene.check("lowest free descriptor after it", before, lowest()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luo::Session;
    use std::fs::File;

    #[test]
    fn long_names_are_as_long_as_can_be() {
        for (case, label) in [
            ("luo.name-longest", LONG_NAMES[0]),
            ("luo.name-longest", LONG_NAMES[1]),
            ("luo.get-name", LONG_LABEL),
            ("luo.session-link-long", LONGEST_LABEL),
        ] {
            let case = CASES.iter().find(|it| it.name == case).unwrap();
            assert_eq!(Scene::new(case, 0, 0, None).name_of(label).len(), 63, "{label}");
        }
    }

    #[test]
    fn a_session_is_made_from_any_descriptor() {
        let file = File::open("/dev/null").unwrap();
        assert!(Session::from(rustix::fd::OwnedFd::from(file)).finish().is_err());
    }
}
