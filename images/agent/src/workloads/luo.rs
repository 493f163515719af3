//! `luo.*`: the contract of /dev/liveupdate, its sessions and tokens. Each case keeps a memfd besides, which must survive
//! whatever the case does.

use super::{Case, Kept, Scene, StepError, errno, observed};
use crate::devices;
use crate::facts::mem_free_kib;
use crate::luo::{Argument, DEVICE, Device, Session, TYPE, into_read_only, number, raw, without_argument};
use crate::memfd::Memfd;
use crate::peer::{NOBODY, Peer};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom, memfd_create, open, seek, stat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;

/// What a case preserves beside what it keeps.
const SPARE: Memfd = Memfd::new("spare", 2 * 4096 + 9);
const OTHER: Memfd = Memfd::new("other", 4096 + 1);
const THIRD: Memfd = Memfd::new("third", 4096);
/// One that is seen in the amount of free memory.
const LARGE: Memfd = Memfd::new("large", 32 << 20);
const LARGE_KIB: u64 = LARGE.size >> 10;

/// 63 bytes with the name of the case before it.
const LONG_NAMES: [&str; 2] =
    ["bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb1", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2"];
const LONGEST_LABEL: &str = "ddddddddddddddddddddddddddddddddddddddddd";
const LONG_LABEL: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccc";

const fn kept(session: &'static str, token: u64, name: &'static str) -> Kept {
    Kept { session, token, memfd: Memfd::new(name, 4096 + 1) }
}

pub(super) const CASES: &[Case] = &[
    Case { source: extra_session, target: close_is_finish, ..Case::new("luo.close-is-finish") },
    Case { source: cloexec_source, target: cloexec_target, ..Case::new("luo.cloexec") },
    Case { target: create_in_target, ..Case::new("luo.create-in-target") },
    Case { source: device_mode, target: device_mode, ..Case::new("luo.device-mode") },
    Case {
        prepare: dirty_memory,
        source: session_empty_source,
        target: session_empty,
        ..Case::new("luo.dirty-memory")
    },
    Case {
        kept: &[Kept { session: "control", token: 7, memfd: Memfd { offset: 77, ..Memfd::new("closed", 5 * 4096) } }],
        source: fd_closed,
        ..Case::new("luo.fd-closed")
    },
    Case { source: extra_session, target: fd_limit, ..Case::new("luo.fd-limit") },
    Case { source: finish_in_source, ..Case::new("luo.finish-in-source") },
    Case { source: finish_partial_source, target: finish_partial, ..Case::new("luo.finish-partial") },
    Case { source: extra_session, target: finish_twice, ..Case::new("luo.finish-twice") },
    Case { source: large_session, target: finish_unretrieved, ..Case::new("luo.finish-unretrieved") },
    Case { prepare: fuzz, target: fuzz, ..Case::new("luo.fuzz") },
    Case { source: get_name_source, target: get_name_target, ..Case::new("luo.get-name") },
    Case { source: ioctl_foreign, target: ioctl_foreign, ..Case::new("luo.ioctl-foreign") },
    Case { source: ioctl_unknown, target: ioctl_unknown, ..Case::new("luo.ioctl-unknown") },
    Case { source: large_session, target: memory_closed, ..Case::new("luo.memory-closed") },
    Case { source: memory_released, ..Case::new("luo.memory-released") },
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
    Case { source: no_argument, target: no_argument, ..Case::new("luo.no-argument") },
    Case { source: preserve_after_close, target: spare_of_second, ..Case::new("luo.preserve-after-close") },
    Case { source: preserve_bad_fd, target: spare_of_control, ..Case::new("luo.preserve-bad-fd") },
    Case { source: preserve_elsewhere, target: nothing_in_second, ..Case::new("luo.preserve-elsewhere") },
    Case { target: preserve_in_target, ..Case::new("luo.preserve-in-target") },
    Case { source: preserve_reopened, target: no_second_token, ..Case::new("luo.preserve-reopened") },
    Case { target: preserve_unfinished, finished: preserve_finished, ..Case::new("luo.preserve-retrieved") },
    Case { source: preserve_twice, target: no_second_token, ..Case::new("luo.preserve-twice") },
    Case { source: recreated_source, target: recreated, ..Case::new("luo.recreated") },
    Case { source: released, ..Case::new("luo.released") },
    Case { source: extra_session, target: reserved, ..Case::new("luo.reserved") },
    Case { source: response_create, target: response_create_target, ..Case::new("luo.response-create") },
    Case { source: extra_session, target: response_fd, ..Case::new("luo.response-fd") },
    Case { source: extra_session, target: response_session, ..Case::new("luo.response-session") },
    Case { source: extra_session, target: retrieve_after_finish, ..Case::new("luo.retrieve-after-finish") },
    Case { source: any_order_source, target: any_order, ..Case::new("luo.retrieve-any-order") },
    Case { source: extra_session, target: retrieve_failed, ..Case::new("luo.retrieve-failed") },
    Case { source: retrieve_in_source, ..Case::new("luo.retrieve-in-source") },
    Case { source: extra_session, target: retrieve_twice_fd, ..Case::new("luo.retrieve-twice-fd") },
    Case { target: retrieve_twice_session, ..Case::new("luo.retrieve-twice-session") },
    Case { source: second_opener, target: second_opener, ..Case::new("luo.second-opener") },
    Case { source: session_closed_source, target: session_closed, ..Case::new("luo.session-closed") },
    Case { source: session_dup_source, target: extra_is_there, ..Case::new("luo.session-dup") },
    Case { source: session_empty_source, target: session_empty, ..Case::new("luo.session-empty") },
    Case { source: session_link, target: session_link, ..Case::new("luo.session-link") },
    Case { source: session_link_long, ..Case::new("luo.session-link-long") },
    Case { source: session_unknown, target: session_unknown, ..Case::new("luo.session-unknown") },
    Case { source: size_long_source, target: size_long, ..Case::new("luo.size-long") },
    Case { source: size_long_nonzero_source, target: size_long_nonzero, ..Case::new("luo.size-long-nonzero") },
    Case { source: size_short_source, target: size_short, ..Case::new("luo.size-short") },
    Case {
        kept: &[
            kept("control", 5, "plain"),
            kept("control", 1 << 32 | 5, "bit-32"),
            kept("control", 1 << 63 | 5, "bit-63"),
        ],
        ..Case::new("luo.token-64-bit")
    },
    Case { source: token_duplicate, target: spare_of_control, ..Case::new("luo.token-duplicate") },
    Case { target: token_unknown, ..Case::new("luo.token-unknown") },
    Case { source: unpreservable, target: spare_of_control, ..Case::new("luo.unpreservable") },
    Case { source: unpreservable_hugetlb, target: spare_of_control, ..Case::new("luo.unpreservable-hugetlb") },
    Case { source: unpreservable_iommufd, target: spare_of_control, ..Case::new("luo.unpreservable-iommufd") },
    Case { source: unpreservable_kvm, target: spare_of_control, ..Case::new("luo.unpreservable-kvm") },
    Case { source: unpreservable_vfio, target: spare_of_control, ..Case::new("luo.unpreservable-vfio") },
];

type Done = Result<(), StepError>;

/// A second session with one memfd, for cases that do something to it in the target.
fn extra_session(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &SPARE, 1)
}

fn large_session(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &LARGE, 1)
}

fn extra_is_there(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("extra")? {
        scene.retrieve_memfd(&session, 1, &SPARE);
    }
    Ok(())
}

fn close_is_finish(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &SPARE);
    drop(session);
    scene.close("extra");
    let again = scene.device()?.retrieve_session(&scene.name_of("extra"));
    scene.refuses("session extra after close", "ENOENT", again);
    if let Some(memfd) = memfd {
        scene.compare_content(&SPARE, &memfd);
    }
    Ok(())
}

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

/// Runs `body` and checks that it gave back the memory of [`LARGE`].
fn gives_memory_back(scene: &mut Scene, body: impl FnOnce(&mut Scene)) -> Done {
    let before = mem_free_kib().map_err(StepError::Agent)?;
    body(scene);
    let given = mem_free_kib().map_err(StepError::Agent)?.saturating_sub(before);
    // What else runs here takes and gives some hundred KiB.
    let held = given >= LARGE_KIB * 7 / 8;
    scene.check_that("memory given back", "7/8 of 32 MiB or more", format!("{given} KiB"), held);
    Ok(())
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

fn memory_closed(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("extra")? else { return Ok(()) };
    let memfd = scene.retrieve_memfd(&session, 1, &LARGE);
    scene.takes("finish", session.finish());
    gives_memory_back(scene, |_| drop(memfd))
}

fn memory_released(scene: &mut Scene) -> Done {
    let memfd = scene.make(&LARGE)?;
    let session = scene.create("released")?;
    scene.hand_over(&session, memfd.as_fd(), 1, LARGE.name)?;
    drop(session);
    scene.close("released");
    gives_memory_back(scene, |_| drop(memfd))
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
    let first = scene.device()?.retrieve_session(&scene.name_of("first"));
    scene.refuses("session first", "ENOENT", first);
    Ok(())
}

/// The token by which a session that refused something takes another thing.
const FREE_TOKEN: u64 = 9;

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
    let untold = scene.device()?.retrieve_session(&scene.name_of("untold"));
    scene.refuses("session untold", "ENOENT", untold);
    Ok(())
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
    scene.check("memfd control, once more, retrieve", "a descriptor", super::said(&second, "a descriptor"));
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
    let closed = scene.device()?.retrieve_session(&scene.name_of("extra"));
    scene.refuses("session extra", "ENOENT", closed);
    Ok(())
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

/// How many bytes longer structures have.
const LONGER: u32 = 128;

fn size_long_source(scene: &mut Scene) -> Done {
    let mut argument = by_name(scene, LONGER, "longer");
    let created =
        raw(scene.device()?.as_ref(), TYPE, number::CREATE_SESSION, &mut argument).and_then(|()| argument.fd());
    scene.check("create with a longer structure", "no error", super::said(&created, "no error"));
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
    scene.check("session longer, with a longer structure, retrieve", "a session", super::said(&session, "a session"));
    let Ok(session) = session else { return Ok(()) };
    let mut argument = by_token(LONGER, 1);
    let memfd = raw(&session, TYPE, number::RETRIEVE_FD, &mut argument).and_then(|()| argument.fd());
    scene.check("its memfd, with a longer structure, retrieve", "a descriptor", super::said(&memfd, "a descriptor"));
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
    let answer = scene.device()?.retrieve_session(&scene.name_of("newer"));
    scene.refuses("session newer", "ENOENT", answer);
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
    let answer = scene.device()?.retrieve_session(&scene.name_of("shorter"));
    scene.refuses("session shorter", "ENOENT", answer);
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

fn token_duplicate(scene: &mut Scene) -> Done {
    let session = scene.session("control")?;
    let memfd = scene.make(&SPARE)?;
    scene.refuses("a second memfd with the same token", "EEXIST", session.preserve(memfd.as_fd(), 7));
    scene.hand_over(&session, memfd.as_fd(), FREE_TOKEN, SPARE.name)
}

fn token_unknown(scene: &mut Scene) -> Done {
    if let Ok(session) = scene.session("control") {
        scene.refuses("token 8", "ENOENT", session.retrieve(8));
        scene.takes("token 7, after it", session.retrieve(7));
    }
    Ok(())
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
        .map_err(|errno| StepError::Missing(format!("a memfd of huge pages ({})", super::errno_name(errno))))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_as_long_as_can_be() {
        for (case, label) in [
            ("luo.name-longest", LONG_NAMES[0]),
            ("luo.name-longest", LONG_NAMES[1]),
            ("luo.get-name", LONG_LABEL),
            ("luo.session-link-long", LONGEST_LABEL),
        ] {
            let case = CASES.iter().find(|it| it.name == case).unwrap();
            assert_eq!(Scene::new(case, 0, 0).name_of(label).len(), 63, "{label}");
        }
    }

    #[test]
    fn a_session_is_made_from_any_descriptor() {
        let file = File::open("/dev/null").unwrap();
        assert!(Session::from(rustix::fd::OwnedFd::from(file)).finish().is_err());
    }
}
