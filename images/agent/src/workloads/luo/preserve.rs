//! `luo.*`, what a session takes and does not take, by which token, and what it leaves of it.

use super::{Done, FREE_TOKEN, LARGE, OTHER, SPARE, THIRD, gives_memory_back, kept};
use crate::devices;
use crate::luo::{Argument, TYPE, number, raw};
use crate::memfd::Memfd;
use crate::workloads::{Case, Kept, Scene, StepError, errno, errno_name};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use std::fs::File;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case {
        kept: &[Kept { session: "control", token: 7, memfd: Memfd { offset: 77, ..Memfd::new("closed", 5 * 4096) } }],
        source: fd_closed,
        ..Case::new("luo.fd-closed")
    },
    Case { source: memory_released, ..Case::new("luo.memory-released") },
    Case { source: preserve_after_close, target: spare_of_second, ..Case::new("luo.preserve-after-close") },
    Case { source: preserve_bad_fd, target: spare_of_control, ..Case::new("luo.preserve-bad-fd") },
    Case { source: preserve_elsewhere, target: nothing_in_second, ..Case::new("luo.preserve-elsewhere") },
    Case { target: preserve_in_target, ..Case::new("luo.preserve-in-target") },
    Case { source: preserve_reopened, target: no_second_token, ..Case::new("luo.preserve-reopened") },
    Case { target: preserve_unfinished, finished: preserve_finished, ..Case::new("luo.preserve-retrieved") },
    Case { source: preserve_twice, target: no_second_token, ..Case::new("luo.preserve-twice") },
    Case { source: released, ..Case::new("luo.released") },
    Case {
        kept: &[
            kept("control", 5, "plain"),
            kept("control", 1 << 32 | 5, "bit-32"),
            kept("control", 1 << 63 | 5, "bit-63"),
        ],
        ..Case::new("luo.token-64-bit")
    },
    Case { source: token_duplicate, target: spare_of_control, ..Case::new("luo.token-duplicate") },
    Case { source: unpreservable, target: spare_of_control, ..Case::new("luo.unpreservable") },
    Case { source: unpreservable_hugetlb, target: spare_of_control, ..Case::new("luo.unpreservable-hugetlb") },
    Case { source: unpreservable_iommufd, target: spare_of_control, ..Case::new("luo.unpreservable-iommufd") },
    Case { source: unpreservable_kvm, target: spare_of_control, ..Case::new("luo.unpreservable-kvm") },
    Case { source: unpreservable_vfio, target: spare_of_control, ..Case::new("luo.unpreservable-vfio") },
];

fn fd_closed(scene: &mut Scene) -> Done {
    scene.let_go("closed");
    // Where the kernel has forgotten the file, one of these is in its place, with another offset.
    for number in 0..64 {
        let file = Memfd { offset: 1, ..OTHER };
        let file = scene.make(&file)?;
        scene.hold(format!("after {number}"), file);
    }
    Ok(())
}

fn memory_released(scene: &mut Scene) -> Done {
    let memfd = scene.make(&LARGE)?;
    let session = scene.create("released")?;
    scene.hand_over(&session, memfd.as_fd(), 1, LARGE.name)?;
    drop(session);
    scene.close("released");
    gives_memory_back(scene, |_| drop(memfd))
}

fn preserve_after_close(scene: &mut Scene) -> Done {
    let memfd = scene.make(&SPARE)?;
    for label in ["first", "second"] {
        let session = scene.create(label)?;
        scene.hand_over(&session, memfd.as_fd(), 1, SPARE.name)?;
        if label == "first" {
            drop(session);
            scene.close(label);
        }
    }
    Ok(())
}

fn spare_of_second(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("second")? {
        scene.retrieve_memfd(&session, 1, &SPARE);
    }
    scene.has_no_session("first")
}

fn spare_of_control(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        scene.retrieve_memfd(&session, FREE_TOKEN, &SPARE);
    }
    Ok(())
}

fn preserve_bad_fd(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    for fd in [-1, 999_999] {
        let mut argument = Argument::new(16).with(4, &i32::to_ne_bytes(fd)).with(8, &FREE_TOKEN.to_ne_bytes());
        let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
        scene.refuses(&format!("descriptor {fd}"), "EBADF", answer);
    }
    scene.hand_over_new(&session, &SPARE, FREE_TOKEN)
}

const SECOND_TOKEN: u64 = 8;

fn preserve_elsewhere(scene: &mut Scene) -> Done {
    let second = scene.create("second")?;
    let answer = second.preserve(scene.kept("control")?.as_fd(), SECOND_TOKEN);
    scene.refuses("a memfd that another session preserves", "EBUSY", answer);
    Ok(())
}

fn nothing_in_second(scene: &mut Scene) -> Done {
    if let Some(second) = scene.retrieve_session("second")? {
        let answer = second.retrieve(SECOND_TOKEN);
        scene.refuses("its token", "ENOENT", answer);
    }
    Ok(())
}

fn no_second_token(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        let answer = session.retrieve(SECOND_TOKEN);
        scene.refuses("the second token", "ENOENT", answer);
    }
    Ok(())
}

fn preserve_in_target(scene: &mut Scene) -> Done {
    let memfd = scene.make(&OTHER)?;
    if let Ok(session) = scene.session("control") {
        let answer = session.preserve(memfd.as_fd(), SECOND_TOKEN);
        scene.refuses("preserve in an incoming session", "EINVAL", answer);
    }
    Ok(())
}

fn preserve_reopened(scene: &mut Scene) -> Done {
    let link = format!("/proc/self/fd/{}", scene.kept("control")?.as_raw_fd());
    let again = File::options().read(true).write(true).open(&link).map_err(StepError::agent(link))?;
    let answer = scene.session("control")?.preserve(again.as_fd(), SECOND_TOKEN);
    scene.refuses("the memfd, opened again", "EBUSY", answer);
    Ok(())
}

fn preserve_unfinished(scene: &mut Scene) -> Done {
    if let Some(memfd) = scene.retrieved("control") {
        let answer = scene.create("next")?.preserve(memfd.as_fd(), 1);
        scene.refuses("preserve it before its session is finished", "EBUSY", answer);
    }
    Ok(())
}

fn preserve_finished(scene: &mut Scene) -> Done {
    if let (Some(memfd), Ok(session)) = (scene.retrieved("control"), scene.session("next")) {
        scene.takes("preserve it when its session is finished", session.preserve(memfd.as_fd(), 1));
    }
    Ok(())
}

fn preserve_twice(scene: &mut Scene) -> Done {
    let answer = scene.session("control")?.preserve(scene.kept("control")?.as_fd(), SECOND_TOKEN);
    scene.refuses("the memfd by a second token", "EBUSY", answer);
    Ok(())
}

fn released(scene: &mut Scene) -> Done {
    let specs = [SPARE, OTHER, THIRD];
    let memfds = specs.iter().map(|spec| scene.make(spec)).collect::<Result<Vec<File>, StepError>>()?;
    let session = scene.create("released")?;
    for (token, (spec, memfd)) in (1..).zip(specs.iter().zip(&memfds)) {
        scene.hand_over(&session, memfd.as_fd(), token, spec.name)?;
    }
    drop(session);
    scene.close("released");
    for (spec, memfd) in specs.iter().zip(&memfds) {
        scene.compare_content(spec, memfd);
        let grown = memfd.set_len(spec.size + 4096).map_err(|error| errno(&error));
        scene.takes(&format!("grow {} after the session is closed", spec.name), grown);
        let shrunk = memfd.set_len(spec.size).map_err(|error| errno(&error));
        scene.takes(&format!("shrink {} after the session is closed", spec.name), shrunk);
        scene.compare_content(spec, memfd);
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(memfd, flags, 0, 4096);
        scene.takes(&format!("punch {} after the session is closed", spec.name), punched);
    }
    Ok(())
}

fn token_duplicate(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    let memfd = scene.make(&SPARE)?;
    scene.refuses("a second memfd with the same token", "EEXIST", session.preserve(memfd.as_fd(), 7));
    scene.hand_over(&session, memfd.as_fd(), FREE_TOKEN, SPARE.name)
}

/// Asks a session to preserve what no kernel up to 7.3 can, and then by the same token a memfd.
fn refuses_and_goes_on(scene: &mut Scene, things: &[(&str, BorrowedFd<'_>)]) -> Done {
    let session = scene.session("control")?;
    for (name, fd) in things {
        let answer = session.preserve(*fd, FREE_TOKEN);
        let taken = answer.is_ok();
        scene.refuses(name, "ENOENT", answer);
        if taken {
            // A kernel that has learned it: the token is used up.
            return Ok(());
        }
    }
    scene.hand_over_new(&session, &SPARE, FREE_TOKEN)
}

fn unpreservable(scene: &mut Scene) -> Done {
    let made = |what: &'static str| StepError::agent::<Errno>(what);
    let (pipe, _writer) = rustix::pipe::pipe().map_err(made("pipe"))?;
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
        .map_err(made("socket"))?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(made("epoll"))?;
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(made("eventfd"))?;
    let at = |path: &str, flags: OFlags| {
        open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).map_err(StepError::agent(path.to_owned()))
    };
    let folder = at("/run", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let null = at("/dev/null", OFlags::RDWR)?;
    let linked = at("/run/luqual/linked", OFlags::RDWR | OFlags::CREATE)?;
    let proc = at("/proc/self/status", OFlags::RDONLY)?;
    let (session, device) = (scene.session("control")?, scene.device()?);
    refuses_and_goes_on(
        scene,
        &[
            ("pipe", pipe.as_fd()),
            ("socket", socket.as_fd()),
            ("epoll", poll.as_fd()),
            ("eventfd", event.as_fd()),
            ("directory", folder.as_fd()),
            ("character device", null.as_fd()),
            ("file in tmpfs", linked.as_fd()),
            ("file in procfs", proc.as_fd()),
            ("session", session.as_fd()),
            ("/dev/liveupdate", device.as_fd()),
        ],
    )
}

fn unpreservable_hugetlb(scene: &mut Scene) -> Done {
    let huge = memfd_create("huge", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB)
        .map_err(|errno| StepError::Missing(format!("a memfd of huge pages ({})", errno_name(errno))))?;
    refuses_and_goes_on(scene, &[("memfd of huge pages", huge.as_fd())])
}

fn unpreservable_iommufd(scene: &mut Scene) -> Done {
    let iommufd = devices::iommufd().map_err(StepError::Missing)?;
    refuses_and_goes_on(scene, &[("iommufd", iommufd.as_fd())])
}

fn unpreservable_kvm(scene: &mut Scene) -> Done {
    let machine = devices::virtual_machine().map_err(StepError::Missing)?;
    refuses_and_goes_on(scene, &[("virtual machine", machine.as_fd())])
}

fn unpreservable_vfio(scene: &mut Scene) -> Done {
    let device = devices::vfio_edu().map_err(StepError::Missing)?;
    refuses_and_goes_on(scene, &[("VFIO device", device.as_fd())])
}
