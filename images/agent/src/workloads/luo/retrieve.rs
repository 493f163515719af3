//! `luo.*`, retrieving: what a session gives out, how often, and how it is finished.

use super::{Done, LARGE, OTHER, SPARE, THIRD, extra_session, gives_memory_back};
use crate::errno::{success_or_errno, value_or_errno};
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::AsFd;
use rustix::fs::{SeekFrom, seek};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;

pub(in crate::workloads) const CASES: &[Case] = &[
    Case { source: extra_session, target: close_is_finish, ..Case::new("luo.close-is-finish") },
    Case { source: extra_session, target: fd_limit, ..Case::new("luo.fd-limit") },
    Case { source: finish_in_source, ..Case::new("luo.finish-in-source") },
    Case { source: finish_partial_source, target: finish_partial, ..Case::new("luo.finish-partial") },
    Case { source: extra_session, target: finish_twice, ..Case::new("luo.finish-twice") },
    Case { source: large_session, target: finish_unretrieved, ..Case::new("luo.finish-unretrieved") },
    Case { source: large_session, target: memory_closed, ..Case::new("luo.memory-closed") },
    Case { source: extra_session, target: retrieve_after_finish, ..Case::new("luo.retrieve-after-finish") },
    Case { source: any_order_source, target: any_order, ..Case::new("luo.retrieve-any-order") },
    Case { source: extra_session, target: retrieve_failed, ..Case::new("luo.retrieve-failed") },
    Case { source: retrieve_in_source, ..Case::new("luo.retrieve-in-source") },
    Case { source: extra_session, target: retrieve_twice_fd, ..Case::new("luo.retrieve-twice-fd") },
    Case { target: token_unknown, ..Case::new("luo.token-unknown") },
];

fn large_session(context: &mut Context) -> Done {
    let session = context.create("extra")?;
    context.make_and_preserve(&session, &LARGE, 1)
}

fn close_is_finish(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let memfd = context.retrieve_memfd(&session, 1, &SPARE);
    drop(session);
    context.close("extra");
    context.check_no_session("extra")?;
    if let Some(memfd) = memfd {
        context.check_content(&SPARE, &memfd);
    }
    Ok(())
}

/// Calls `body` while the process cannot open another descriptor.
fn without_descriptors<T>(body: impl FnOnce() -> T) -> Result<T, StepError> {
    let limits = getrlimit(Resource::Nofile);
    let mut none = limits;
    none.current = Some(0);
    setrlimit(Resource::Nofile, none).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    let done = body();
    setrlimit(Resource::Nofile, limits).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    Ok(done)
}

fn fd_limit(context: &mut Context) -> Done {
    let device = context.device()?;
    let name = context.session_name("extra");
    let failed = without_descriptors(|| device.retrieve_session(&name))?;
    context.check_refused("session extra without a free descriptor", "EMFILE", failed);
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let failed = without_descriptors(|| session.retrieve(1))?;
    context.check_refused("token 1 without a free descriptor", "EMFILE", failed);
    context.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

fn finish_in_source(context: &mut Context) -> Done {
    let finished = context.session("control")?.finish();
    context.check_refused("finish of an outgoing session", "EINVAL", finished);
    Ok(())
}

fn finish_partial_source(context: &mut Context) -> Done {
    let session = context.create("extra")?;
    context.make_and_preserve(&session, &SPARE, 1)?;
    context.make_and_preserve(&session, &LARGE, 2)
}

fn finish_partial(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let memfd = context.retrieve_memfd(&session, 1, &SPARE);
    gives_memory_back(context, |context| context.check_success("finish with one of two retrieved", session.finish()))?;
    if let Some(memfd) = memfd {
        context.check_content(&SPARE, &memfd);
    }
    Ok(())
}

fn finish_twice(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let memfd = context.retrieve_memfd(&session, 1, &SPARE);
    context.check_success("first finish", session.finish());
    context.check_success("second finish", session.finish());
    if let Some(memfd) = memfd {
        context.check_content(&SPARE, &memfd);
    }
    Ok(())
}

fn finish_unretrieved(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    gives_memory_back(context, |context| context.check_success("finish with nothing retrieved", session.finish()))?;
    let gone = session.retrieve(1);
    context.check_refused("token 1 after finish", "ENOENT", gone);
    Ok(())
}

fn memory_closed(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let memfd = context.retrieve_memfd(&session, 1, &LARGE);
    context.check_success("finish", session.finish());
    gives_memory_back(context, |_| drop(memfd))
}

fn retrieve_after_finish(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let memfd = context.retrieve_memfd(&session, 1, &SPARE);
    context.check_success("finish", session.finish());
    let answer = session.retrieve(1);
    context.check_refused("token 1 after finish", "ENOENT", answer);
    if let Some(memfd) = memfd {
        context.check_content(&SPARE, &memfd);
    }
    Ok(())
}

fn any_order_source(context: &mut Context) -> Done {
    for label in ["x", "y"] {
        let session = context.create(label)?;
        for (token, memfd) in [(1, &SPARE), (2, &OTHER), (3, &THIRD)] {
            let file = context.make_memfd(memfd)?;
            context.preserve_fd(&session, file.as_fd(), token, memfd.name)?;
        }
    }
    Ok(())
}

fn any_order(context: &mut Context) -> Done {
    let (y, x) = (context.retrieve_session("y")?, context.retrieve_session("x")?);
    if let (Some(y), Some(x)) = (y, x) {
        for (session, token, memfd) in
            [(&y, 2, &OTHER), (&x, 3, &THIRD), (&y, 3, &THIRD), (&x, 1, &SPARE), (&x, 2, &OTHER), (&y, 1, &SPARE)]
        {
            context.retrieve_memfd(session, token, memfd);
        }
    }
    Ok(())
}

/// The files that limit how much memory the kernel commits (Documentation/mm/overcommit-accounting.rst).
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";
const OVERCOMMIT_RATIO: &str = "/proc/sys/vm/overcommit_ratio";

fn retrieve_failed(context: &mut Context) -> Done {
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let set = |path: &'static str| File::options().write(true).open(path).map_err(StepError::agent(path));
    // Both files are opened first: in between there is no memory.
    let (mode, ratio) = (set(OVERCOMMIT)?, set(OVERCOMMIT_RATIO)?);
    // At offset 0: a write behind it is ignored (Documentation/admin-guide/sysctl/kernel.rst, sysctl_writes_strict).
    let write = |file: &File, text: &str| rustix::io::pwrite(file, text.as_bytes(), 0);
    let limited = write(&ratio, "0").and_then(|_| write(&mode, "2"));
    let failed = session.retrieve(1);
    let free = write(&mode, "0").and_then(|_| write(&ratio, "50"));
    limited.and(free).map_err(StepError::agent(OVERCOMMIT))?;
    context.check_refused("retrieve without memory to commit", "ENOSPC", failed);
    let again = session.retrieve(1);
    context.check_refused("the same, asked again", "ENOSPC", again);
    context.check_success("finish", session.finish());
    Ok(())
}

fn retrieve_in_source(context: &mut Context) -> Done {
    let answer = context.device()?.retrieve_session(&context.session_name("control"));
    context.check_refused("session of this kernel", "ENOENT", answer);
    let answer = context.session("control")?.retrieve(7);
    context.check_refused("file of an outgoing session", "EINVAL", answer);
    Ok(())
}

fn retrieve_twice_fd(context: &mut Context) -> Done {
    let (session, first) = (context.session("control")?, context.kept("control")?);
    let second = session.retrieve(7);
    context.check("memfd control, once more, retrieve", "a descriptor", success_or_errno(&second, "a descriptor"));
    if let Ok(second) = second {
        let moved = seek(&second, SeekFrom::Start(77)).and_then(|_| seek(first.as_ref(), SeekFrom::Current(0)));
        context.check("offset of the first, moved by the second", 77, value_or_errno(moved));
    }
    let Some(session) = context.retrieve_session("extra")? else { return Ok(()) };
    let (first, second) = (context.retrieve_memfd(&session, 1, &SPARE), context.retrieve_memfd(&session, 1, &SPARE));
    drop(first);
    context.check_success("finish", session.finish());
    if let Some(second) = second {
        context.check_content(&SPARE, &second);
    }
    Ok(())
}

fn token_unknown(context: &mut Context) -> Done {
    if let Ok(session) = context.session("control") {
        context.check_refused("token 8", "ENOENT", session.retrieve(8));
        context.check_success("token 7, after it", session.retrieve(7));
    }
    Ok(())
}
