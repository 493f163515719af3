//! `luo.*`, preserving: what a session takes or refuses, with which token, and what remains of it afterwards.

use super::{Done, FREE_TOKEN, LARGE, OTHER, SPARE, THIRD, gives_memory_back, kept};
use crate::errno::{errno, errno_name};
use crate::hypervisor_fds;
use crate::luo::{Argument, TYPE, number, raw};
use crate::memfd::Memfd;
use crate::workloads::case::{Case, PreservedMemfd};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use std::fs::File;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case {
        kept: &[PreservedMemfd { session: "control", token: 7, memfd: CLOSED }],
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

const CLOSED: Memfd = Memfd { offset: 77, ..Memfd::new("closed", 5 * 4096) };

fn fd_closed(context: &mut Context) -> Done {
    context.report_pages_of(&CLOSED)?;
    context.close_kept(CLOSED.name);
    // If the kernel had dropped the file, one of these would have its place, with another offset.
    for number in 0..64 {
        let file = Memfd { offset: 1, ..OTHER };
        let file = context.make_memfd(&file)?;
        context.hold(format!("after {number}"), file);
    }
    Ok(())
}

fn memory_released(context: &mut Context) -> Done {
    let memfd = context.make_memfd(&LARGE)?;
    let session = context.create("released")?;
    context.preserve_fd(&session, memfd.as_fd(), 1, LARGE.name)?;
    drop(session);
    context.close("released");
    gives_memory_back(context, |_| drop(memfd))
}

fn preserve_after_close(context: &mut Context) -> Done {
    let memfd = context.make_memfd(&SPARE)?;
    for label in ["first", "second"] {
        let session = context.create(label)?;
        context.preserve_fd(&session, memfd.as_fd(), 1, SPARE.name)?;
        if label == "first" {
            drop(session);
            context.close(label);
        }
    }
    Ok(())
}

fn spare_of_second(context: &mut Context) -> Done {
    if let Some(session) = context.retrieve_session("second")? {
        context.retrieve_memfd(&session, 1, &SPARE);
    }
    context.check_no_session("first")
}

fn spare_of_control(context: &mut Context) -> Done {
    if let Ok(session) = context.session("control") {
        context.retrieve_memfd(&session, FREE_TOKEN, &SPARE);
    }
    Ok(())
}

fn preserve_bad_fd(context: &mut Context) -> Done {
    let session = context.session("control")?;
    for fd in [-1, 999_999] {
        let mut argument = Argument::new(16).with(4, &i32::to_ne_bytes(fd)).with(8, &FREE_TOKEN.to_ne_bytes());
        let answer = raw(session.as_ref(), TYPE, number::PRESERVE_FD, &mut argument);
        context.check_refused(&format!("descriptor {fd}"), "EBADF", answer);
    }
    context.make_and_preserve(&session, &SPARE, FREE_TOKEN)
}

const SECOND_TOKEN: u64 = 8;

fn preserve_elsewhere(context: &mut Context) -> Done {
    let second = context.create("second")?;
    let answer = second.preserve(context.kept("control")?.as_fd(), SECOND_TOKEN);
    context.check_refused("a memfd that another session preserves", "EBUSY", answer);
    Ok(())
}

fn nothing_in_second(context: &mut Context) -> Done {
    if let Some(second) = context.retrieve_session("second")? {
        let answer = second.retrieve(SECOND_TOKEN);
        context.check_refused("its token", "ENOENT", answer);
    }
    Ok(())
}

fn no_second_token(context: &mut Context) -> Done {
    if let Ok(session) = context.session("control") {
        let answer = session.retrieve(SECOND_TOKEN);
        context.check_refused("the second token", "ENOENT", answer);
    }
    Ok(())
}

fn preserve_in_target(context: &mut Context) -> Done {
    let memfd = context.make_memfd(&OTHER)?;
    if let Ok(session) = context.session("control") {
        let answer = session.preserve(memfd.as_fd(), SECOND_TOKEN);
        context.check_refused("preserve in an incoming session", "EINVAL", answer);
    }
    Ok(())
}

fn preserve_reopened(context: &mut Context) -> Done {
    let link = format!("/proc/self/fd/{}", context.kept("control")?.as_raw_fd());
    let again = File::options().read(true).write(true).open(&link).map_err(StepError::agent(link))?;
    let answer = context.session("control")?.preserve(again.as_fd(), SECOND_TOKEN);
    context.check_refused("the memfd, opened again", "EBUSY", answer);
    Ok(())
}

fn preserve_unfinished(context: &mut Context) -> Done {
    if let Some(memfd) = context.retrieved("control") {
        let answer = context.create("next")?.preserve(memfd.as_fd(), 1);
        context.check_refused("preserve it before its session is finished", "EBUSY", answer);
    }
    Ok(())
}

fn preserve_finished(context: &mut Context) -> Done {
    if let (Some(memfd), Ok(session)) = (context.retrieved("control"), context.session("next")) {
        context.check_success("preserve it when its session is finished", session.preserve(memfd.as_fd(), 1));
    }
    Ok(())
}

fn preserve_twice(context: &mut Context) -> Done {
    let answer = context.session("control")?.preserve(context.kept("control")?.as_fd(), SECOND_TOKEN);
    context.check_refused("the memfd by a second token", "EBUSY", answer);
    Ok(())
}

fn released(context: &mut Context) -> Done {
    let specs = [SPARE, OTHER, THIRD];
    let memfds = specs.iter().map(|spec| context.make_memfd(spec)).collect::<Result<Vec<File>, StepError>>()?;
    let session = context.create("released")?;
    for (token, (spec, memfd)) in (1..).zip(specs.iter().zip(&memfds)) {
        context.preserve_fd(&session, memfd.as_fd(), token, spec.name)?;
    }
    drop(session);
    context.close("released");
    for (spec, memfd) in specs.iter().zip(&memfds) {
        context.check_content(spec, memfd);
        let grown = memfd.set_len(spec.size + 4096).map_err(|error| errno(&error));
        context.check_success(&format!("grow {} after the session is closed", spec.name), grown);
        let shrunk = memfd.set_len(spec.size).map_err(|error| errno(&error));
        context.check_success(&format!("shrink {} after the session is closed", spec.name), shrunk);
        context.check_content(spec, memfd);
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(memfd, flags, 0, 4096);
        context.check_success(&format!("punch {} after the session is closed", spec.name), punched);
    }
    Ok(())
}

fn token_duplicate(context: &mut Context) -> Done {
    let session = context.session("control")?;
    let memfd = context.make_memfd(&SPARE)?;
    context.check_refused("a second memfd with the same token", "EEXIST", session.preserve(memfd.as_fd(), 7));
    context.preserve_fd(&session, memfd.as_fd(), FREE_TOKEN, SPARE.name)
}

/// Tries to preserve what no kernel up to 7.3 can, and then preserves a memfd with the same token.
fn refuses_and_goes_on(context: &mut Context, things: &[(&str, BorrowedFd<'_>)]) -> Done {
    let session = context.session("control")?;
    for (name, fd) in things {
        let answer = session.preserve(*fd, FREE_TOKEN);
        let taken = answer.is_ok();
        context.check_refused(name, "ENOENT", answer);
        if taken {
            // A newer kernel can preserve it, so the token is in use.
            return Ok(());
        }
    }
    context.make_and_preserve(&session, &SPARE, FREE_TOKEN)
}

fn unpreservable(context: &mut Context) -> Done {
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
    let (session, device) = (context.session("control")?, context.device()?);
    refuses_and_goes_on(
        context,
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

fn unpreservable_hugetlb(context: &mut Context) -> Done {
    let huge = memfd_create("huge", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB)
        .map_err(|errno| StepError::Missing(format!("a memfd of huge pages ({})", errno_name(errno))))?;
    refuses_and_goes_on(context, &[("memfd of huge pages", huge.as_fd())])
}

fn unpreservable_iommufd(context: &mut Context) -> Done {
    let iommufd = hypervisor_fds::iommufd().map_err(StepError::Missing)?;
    refuses_and_goes_on(context, &[("iommufd", iommufd.as_fd())])
}

fn unpreservable_kvm(context: &mut Context) -> Done {
    let machine = hypervisor_fds::virtual_machine().map_err(StepError::Missing)?;
    refuses_and_goes_on(context, &[("virtual machine", machine.as_fd())])
}

fn unpreservable_vfio(context: &mut Context) -> Done {
    let device = hypervisor_fds::vfio_edu().map_err(StepError::Missing)?;
    refuses_and_goes_on(context, &[("VFIO device", device.as_fd())])
}
