//! `memfd.*`: what comes back of a memfd, whatever happened to it before and after it was preserved.

pub(super) mod cgroup;
pub(super) mod content;
pub(super) mod memory;
pub(super) mod property;

use crate::errno::errno;
use crate::mapping::{Mapping, PAGE};
use crate::memfd::Memfd;
use crate::workloads::case::PreservedMemfd;
use crate::workloads::error::StepError;
use rustix::io::Errno;
use std::fs::File;

const P: u64 = PAGE as u64;

/// A kept memfd with token 1.
const fn one(memfd: Memfd) -> PreservedMemfd {
    PreservedMemfd { session: "control", token: 1, memfd }
}

/// A kept memfd with this token.
const fn numbered(token: u64, memfd: Memfd) -> PreservedMemfd {
    PreservedMemfd { session: "control", token, memfd }
}

type Done = Result<(), StepError>;

/// For `map_err` on an operation that the agent needs.
fn agent(what: &'static str) -> impl FnOnce(std::io::Error) -> StepError {
    StepError::agent(what)
}

/// The errno of an operation under test.
fn kernel<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

/// Maps a whole memfd.
fn map(memfd: &File, spec: &Memfd) -> Result<Mapping, StepError> {
    Mapping::of_file(memfd, spec.size as usize).map_err(agent("mmap"))
}
