//! The workloads: one module each, named after what it asserts. The table of all of them is in `luqual_protocol`.

mod luo_session_closed;
mod memfd_basic;

use crate::luo::{DEVICE, Device};
use luqual_protocol::{Place, Probe, Reply};
use rustix::io::Errno;

/// What a workload does, step by step. One value lives from its first step to the end of the process that holds it.
pub(crate) trait Workload {
    /// Hands the state to the kernel and holds on to it.
    fn preserve(&mut self, seed: u64) -> Result<Vec<Probe>, StepError>;
    /// The guest-physical address of a page of it, if it has such a page.
    fn locate(&self, place: &Place) -> Result<Option<u64>, StepError>;
    /// Asks the kernel for the state.
    fn retrieve(&mut self, seed: u64) -> Result<Vec<Probe>, StepError>;
    /// Compares what is held now with what it was made from; on either side.
    fn verify(&mut self) -> Result<Vec<Probe>, StepError>;
    /// Tells the kernel that the state is taken over, and looks whether it took note.
    fn finish(&mut self) -> Result<Vec<Probe>, StepError>;
}

/// The workload of that name, before its first step.
pub(crate) fn new(name: &str) -> Option<Box<dyn Workload>> {
    match name {
        "luo.session-closed" => Some(Box::new(luo_session_closed::SessionClosed::default())),
        "memfd.basic" => Some(Box::new(memfd_basic::MemfdBasic::default())),
        _ => None,
    }
}

/// What came of a call: the errno's name, or `good`.
fn said<T>(result: &Result<T, Errno>, good: &str) -> String {
    result.as_ref().map_or_else(|errno| name(*errno), |_| good.to_owned())
}

/// What was read back, or the errno's name.
fn observed<T: ToString>(read: Result<T, Errno>) -> String {
    read.map_or_else(name, |value| value.to_string())
}

fn open_device() -> Result<Device, StepError> {
    Device::open().map_err(StepError::refused("open", DEVICE))
}

/// Why a step was not done.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The kernel said no.
    Refused { call: &'static str, errno: Errno, about: String },
    /// The agent's own trouble; nothing is said about the kernel.
    Agent(String),
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

impl From<StepError> for Reply {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Refused { call, errno, about } => {
                Self::Refused { call: call.to_owned(), errno: name(errno), about }
            }
            StepError::Agent(message) => Self::Failed { message },
        }
    }
}

/// The errno as kernel people write it. rustix knows the names; its Debug form of an unknown one is its number.
pub(crate) fn name(errno: Errno) -> String {
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
        (Errno::TOOBIG, "E2BIG"),
    ];
    known
        .iter()
        .find(|(known, _)| *known == errno)
        .map_or_else(|| format!("errno {}", errno.raw_os_error()), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_of_the_table_is_implemented() {
        for workload in luqual_protocol::WORKLOADS {
            assert!(new(workload.name).is_some(), "{} has no implementation", workload.name);
        }
    }

    #[test]
    fn an_errno_has_its_name_or_its_number() {
        assert_eq!(name(Errno::OPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(name(Errno::from_raw_os_error(133)), "errno 133");
    }
}
