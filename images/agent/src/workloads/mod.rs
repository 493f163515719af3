//! The workloads: one module a family, one [`Case`] each. What each asserts stands in the table of `luqual_protocol`.

mod broker;
mod curve;
mod external;
mod kexec;
mod lifecycle;
mod luo;
mod manifest;
mod memfd;
mod owned;
mod pci;
mod scale;
mod scene;
mod vfio;
mod vmm;

pub(crate) use scene::Scene;

use crate::kexec::LoadError;
use crate::memfd::Memfd;
use luqual_protocol::Reply;
use rustix::io::Errno;

/// What a workload does. Whatever that is, it keeps some memfds, which have to come back whole: a rule that is kept by a
/// kernel that loses everything is not kept.
pub(crate) struct Case {
    /// `family.case`.
    name: &'static str,
    /// What is preserved in the source, and has to be there in the target.
    kept: &'static [Kept],
    /// In the source, when the kept memfds are made and none is preserved.
    prepare: Hook,
    /// When they are preserved: in the source, and in each target that is the next one's source.
    source: Hook,
    /// In the target, when they were retrieved, and nobody has looked at them yet.
    retrieved: Hook,
    /// In the target, when they were retrieved and are known to be whole; before their sessions are finished.
    target: Hook,
    /// In the target, when their sessions are finished.
    finished: Hook,
    /// What is done with the device that it owns, if it owns one.
    plan: owned::Plan,
    /// Its virtual machines, if it has some.
    machines: vmm::Machines,
}

type Hook = fn(&mut Scene) -> Result<(), StepError>;

/// A memfd that a case keeps.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    /// The session's label: its name begins with the case's.
    session: &'static str,
    token: u64,
    memfd: Memfd,
}

impl Case {
    /// One that keeps one small memfd and does nothing else.
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            kept: &CONTROL,
            prepare: nothing,
            source: nothing,
            retrieved: nothing,
            target: nothing,
            finished: nothing,
            plan: owned::Plan::PLAIN,
            machines: vmm::Machines::NONE,
        }
    }
}

const CONTROL: [Kept; 1] = [Kept { session: "control", token: 7, memfd: Memfd::new("control", 3 * 4096 - 5) }];

fn nothing(_: &mut Scene) -> Result<(), StepError> {
    Ok(())
}

const FAMILIES: [&[Case]; 13] = [
    broker::CASES,
    kexec::CASES,
    lifecycle::CASES,
    luo::preserve::CASES,
    luo::request::CASES,
    luo::retrieve::CASES,
    luo::session::CASES,
    memfd::content::CASES,
    memfd::memory::CASES,
    memfd::property::CASES,
    pci::CASES,
    scale::CASES,
    vmm::CASES,
];

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Case> {
    let known = FAMILIES.into_iter().flatten().find(|case| case.name == name);
    known.or_else(|| vfio::case(name)).or_else(|| external::case(name))
}

/// Why a step was not done.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The kernel said no.
    Refused { call: &'static str, errno: Errno, about: String },
    /// A program said no.
    Declined { call: String, how: String, about: String },
    /// The agent's own trouble; nothing is said about the kernel.
    Agent(String),
    /// The machine or the kernel does not have what the case is about.
    Missing(String),
}

impl StepError {
    /// For `map_err` on a call that the kernel may refuse.
    pub(crate) fn refused(call: &'static str, about: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let about = about.into();
        move |errno| Self::Refused { call, errno, about }
    }

    /// For `map_err` on anything else.
    pub(crate) fn agent<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Agent(format!("{what}: {error}"))
    }
}

impl From<LoadError> for StepError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Agent(message) => Self::Agent(message),
            LoadError::Kernel(errno) => Self::refused("kexec_file_load", "the target kernel")(errno),
        }
    }
}

impl From<StepError> for Reply {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Refused { call, errno, about } => {
                Self::Refused { call: call.to_owned(), errno: errno_name(errno), about }
            }
            StepError::Declined { call, how, about } => Self::Refused { call, errno: how, about },
            StepError::Agent(message) => Self::Failed { message },
            StepError::Missing(what) => Self::Missing { what },
        }
    }
}

/// Fills memory with something that is found when it is seen, and gives it back to the kernel.
fn dirty_memory(bytes: u64) -> Result<(), StepError> {
    Memfd::new("dirty", bytes).make(0x6469_7274).map(drop).map_err(StepError::agent(format!("{bytes} bytes of memory")))
}

/// What came of a call: the errno's name, or `good`.
fn said<T>(result: &Result<T, Errno>, good: &str) -> String {
    result.as_ref().map_or_else(|errno| errno_name(*errno), |_| good.to_owned())
}

/// What was read back, or the errno's name.
fn observed<T: ToString>(read: Result<T, Errno>) -> String {
    read.map_or_else(errno_name, |value| value.to_string())
}

/// The errno of an error of the standard library.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The errno as kernel people write it. rustix knows the names; its Debug form of an unknown one is its number.
pub(crate) fn errno_name(errno: Errno) -> String {
    let known = [
        (Errno::ACCESS, "EACCES"),
        (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::BADF, "EBADF"),
        (Errno::BADMSG, "EBADMSG"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::FAULT, "EFAULT"),
        (Errno::FBIG, "EFBIG"),
        (Errno::INTR, "EINTR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::IO, "EIO"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NFILE, "ENFILE"),
        (Errno::NODATA, "ENODATA"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOENT, "ENOENT"),
        (Errno::NOEXEC, "ENOEXEC"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTTY, "ENOTTY"),
        (Errno::NXIO, "ENXIO"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::OVERFLOW, "EOVERFLOW"),
        (Errno::PERM, "EPERM"),
        (Errno::SPIPE, "ESPIPE"),
        (Errno::TOOBIG, "E2BIG"),
        (Errno::TXTBSY, "ETXTBSY"),
    ];
    known
        .iter()
        .find(|(known, _)| *known == errno)
        .map_or_else(|| format!("errno {}", errno.raw_os_error()), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_and_the_cases_are_the_same() {
        let table: BTreeSet<&str> = luqual_protocol::workloads().map(|workload| workload.name).collect();
        let of_devices = table.iter().filter_map(|name| vfio::case(name));
        let cases: Vec<&str> = FAMILIES.into_iter().flatten().chain(of_devices).map(|case| case.name).collect();
        assert_eq!(
            table.iter().copied().collect::<Vec<_>>(),
            cases.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(table.len(), cases.len(), "one is there twice");
    }

    #[test]
    fn what_a_case_keeps_can_be_told_apart() {
        for case in FAMILIES.into_iter().flatten() {
            let places: BTreeSet<_> = case.kept.iter().map(|kept| (kept.session, kept.token)).collect();
            let names: BTreeSet<_> = case.kept.iter().map(|kept| kept.memfd.name).collect();
            assert_eq!((places.len(), names.len()), (case.kept.len(), case.kept.len()), "{}", case.name);
            assert!(!case.kept.is_empty(), "{} keeps nothing: a kernel that loses all would pass", case.name);
            for kept in case.kept {
                assert!(case.name.len() + 1 + kept.session.len() < 64, "{}", case.name);
            }
        }
    }

    #[test]
    fn an_errno_has_its_name_or_its_number() {
        assert_eq!(errno_name(Errno::OPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(errno_name(Errno::from_raw_os_error(133)), "errno 133");
    }
}
