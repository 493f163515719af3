//! `luo.*`, what a session gives out, how often, and how it is finished.

use super::{Done, LARGE, OTHER, SPARE, THIRD, extra_session, gives_memory_back};
use crate::workloads::{Case, Scene, StepError, observed, said};
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

fn large_session(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &LARGE, 1)
}

fn close_is_finish(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &SPARE);
    drop(session);
    scene.close("extra");
    scene.has_no_session("extra")?;
    if let Some(memfd) = memfd {
        scene.compare_content(&SPARE, &memfd);
    }
    Ok(())
}

/// Calls `body` while no descriptor is to be had.
fn without_descriptors<T>(body: impl FnOnce() -> T) -> Result<T, StepError> {
    let limits = getrlimit(Resource::Nofile);
    let mut none = limits;
    none.current = Some(0);
    setrlimit(Resource::Nofile, none).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    let done = body();
    setrlimit(Resource::Nofile, limits).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    Ok(done)
}

fn fd_limit(scene: &mut Scene) -> Done {
    let device = scene.device()?;
    let name = scene.name_of("extra");
    let failed = without_descriptors(|| device.retrieve_session(&name))?;
    scene.refuses("session extra without a free descriptor", "EMFILE", failed);
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let failed = without_descriptors(|| session.retrieve(1))?;
    scene.refuses("token 1 without a free descriptor", "EMFILE", failed);
    scene.retrieve_memfd(&session, 1, &SPARE);
    Ok(())
}

fn finish_in_source(scene: &mut Scene) -> Done {
    let finished = scene.session("control")?.finish();
    scene.refuses("finish of an outgoing session", "EINVAL", finished);
    Ok(())
}

fn finish_partial_source(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &SPARE, 1)?;
    scene.hand_over_new(&session, &LARGE, 2)
}

fn finish_partial(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &SPARE);
    gives_memory_back(scene, |scene| scene.takes("finish with one of two retrieved", session.finish()))?;
    if let Some(memfd) = memfd {
        scene.compare_content(&SPARE, &memfd);
    }
    Ok(())
}

fn finish_twice(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &SPARE);
    scene.takes("first finish", session.finish());
    scene.takes("second finish", session.finish());
    if let Some(memfd) = memfd {
        scene.compare_content(&SPARE, &memfd);
    }
    Ok(())
}

fn finish_unretrieved(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    gives_memory_back(scene, |scene| scene.takes("finish with nothing retrieved", session.finish()))?;
    let gone = session.retrieve(1);
    scene.refuses("token 1 after finish", "ENOENT", gone);
    Ok(())
}

fn memory_closed(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &LARGE);
    scene.takes("finish", session.finish());
    gives_memory_back(scene, |_| drop(memfd))
}

fn retrieve_after_finish(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &SPARE);
    scene.takes("finish", session.finish());
    let answer = session.retrieve(1);
    scene.refuses("token 1 after finish", "ENOENT", answer);
    if let Some(memfd) = memfd {
        scene.compare_content(&SPARE, &memfd);
    }
    Ok(())
}

fn any_order_source(scene: &mut Scene) -> Done {
    for label in ["x", "y"] {
        let session = scene.create(label)?;
        for (token, memfd) in [(1, &SPARE), (2, &OTHER), (3, &THIRD)] {
            let file = scene.make(memfd)?;
            scene.hand_over(&session, file.as_fd(), token, memfd.name)?;
        }
    }
    Ok(())
}

fn any_order(scene: &mut Scene) -> Done {
    let (y, x) = (scene.retrieve_session("y")?, scene.retrieve_session("x")?);
    if let (Some(y), Some(x)) = (y, x) {
        for (session, token, memfd) in
            [(&y, 2, &OTHER), (&x, 3, &THIRD), (&y, 3, &THIRD), (&x, 1, &SPARE), (&x, 2, &OTHER), (&y, 1, &SPARE)]
        {
            scene.retrieve_memfd(session, token, memfd);
        }
    }
    Ok(())
}

/// Where the kernel is told how much memory it may promise (Documentation/mm/overcommit-accounting.rst).
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";
const OVERCOMMIT_RATIO: &str = "/proc/sys/vm/overcommit_ratio";

fn retrieve_failed(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let set = |path: &'static str| File::options().write(true).open(path).map_err(StepError::agent(path));
    // All is open before: in between there is no memory to be had.
    let (mode, ratio) = (set(OVERCOMMIT)?, set(OVERCOMMIT_RATIO)?);
    // At its start: what is written behind that is left out (Documentation/admin-guide/sysctl/kernel.rst,
    // sysctl_writes_strict).
    let write = |file: &File, text: &str| rustix::io::pwrite(file, text.as_bytes(), 0);
    let limited = write(&ratio, "0").and_then(|_| write(&mode, "2"));
    let failed = session.retrieve(1);
    let free = write(&mode, "0").and_then(|_| write(&ratio, "50"));
    limited.and(free).map_err(StepError::agent(OVERCOMMIT))?;
    scene.refuses("retrieve without memory to commit", "ENOSPC", failed);
    let again = session.retrieve(1);
    scene.refuses("the same, asked again", "ENOSPC", again);
    scene.takes("finish", session.finish());
    Ok(())
}

fn retrieve_in_source(scene: &mut Scene) -> Done {
    let answer = scene.device()?.retrieve_session(&scene.name_of("control"));
    scene.refuses("session of this kernel", "ENOENT", answer);
    let answer = scene.session("control")?.retrieve(7);
    scene.refuses("file of an outgoing session", "EINVAL", answer);
    Ok(())
}

fn retrieve_twice_fd(scene: &mut Scene) -> Done {
    let (Ok(session), Some(first)) = (scene.session("control"), scene.retrieved("control")) else { return Ok(()) };
    let second = session.retrieve(7);
    scene.check("memfd control, once more, retrieve", "a descriptor", said(&second, "a descriptor"));
    if let Ok(second) = second {
        let moved = seek(&second, SeekFrom::Start(77)).and_then(|_| seek(first.as_ref(), SeekFrom::Current(0)));
        scene.check("offset of the first, moved by the second", 77, observed(moved));
    }
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let (first, second) = (scene.retrieve_memfd(&session, 1, &SPARE), scene.retrieve_memfd(&session, 1, &SPARE));
    drop(first);
    scene.takes("finish", session.finish());
    if let Some(second) = second {
        scene.compare_content(&SPARE, &second);
    }
    Ok(())
}

fn token_unknown(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        scene.refuses("token 8", "ENOENT", session.retrieve(8));
        scene.takes("token 7, after it", session.retrieve(7));
    }
    Ok(())
}
