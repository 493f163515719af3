//! `memfd.*`: what comes back of a memfd, whatever was done to it before, and after it was preserved.

pub(super) mod content;
pub(super) mod memory;
pub(super) mod property;

use super::{Kept, StepError, errno};
use crate::mapping::{Mapping, PAGE};
use crate::memfd::Memfd;
use rustix::io::Errno;
use std::fs::File;

const P: u64 = PAGE as u64;

const fn one(memfd: Memfd) -> Kept {
    Kept { session: "control", token: 1, memfd }
}

const fn numbered(token: u64, memfd: Memfd) -> Kept {
    Kept { session: "control", token, memfd }
}

type Done = Result<(), StepError>;

fn agent(what: &'static str) -> impl FnOnce(std::io::Error) -> StepError {
    StepError::agent(what)
}

fn kernel<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

fn map(memfd: &File, spec: &Memfd) -> Result<Mapping, StepError> {
    Mapping::of_file(memfd, spec.size as usize).map_err(agent("mmap"))
}
