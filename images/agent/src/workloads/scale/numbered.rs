//! Many memfds, each with its number in it.

use crate::errno::success_or_errno;
use crate::memfd::Memfd;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Raises the limit of open descriptors of this process.
pub(super) fn raise_limit() -> Result<(), StepError> {
    let mut limits = getrlimit(Resource::Nofile);
    let wanted = 20_000;
    if limits.current.is_some_and(|current| current < wanted) {
        limits.current = Some(wanted);
        limits.maximum = limits.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, limits).map_err(StepError::agent("setrlimit RLIMIT_NOFILE"))?;
    }
    Ok(())
}

/// The number of a memfd.
pub(super) fn tag(context: &Context, place: usize, number: u64) -> u64 {
    context.seed() ^ ((place as u64) << 32 | number)
}

/// Makes a memfd with a number in it.
pub(super) fn numbered(tag: u64) -> Result<File, StepError> {
    let memfd = Memfd::new("numbered", 0).make(0).map_err(StepError::agent("memfd"))?;
    memfd.write_all_at(&tag.to_ne_bytes(), 0).map_err(StepError::agent("write"))?;
    Ok(memfd)
}

/// Whether a memfd is as it was made: its number, and nothing else.
fn is_numbered(memfd: &File, tag: u64) -> bool {
    let mut bytes = [0; 8];
    let is_whole = memfd.metadata().is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
    is_whole && memfd.read_exact_at(&mut bytes, 0).is_ok_and(|()| u64::from_ne_bytes(bytes) == tag)
}

/// The observed value for these numbers and what was retrieved for each: how many match, and what became of the first that does
/// not.
pub(super) fn whole(back: impl Iterator<Item = (u64, Result<OwnedFd, Errno>)>) -> String {
    let mut first_wrong = String::new();
    let mut whole = 0;
    for (place, (expected, memfd)) in back.enumerate() {
        let matches = memfd.map(File::from).map(|memfd| is_numbered(&memfd, expected));
        match matches {
            Ok(true) => whole += 1,
            other if first_wrong.is_empty() => {
                first_wrong = format!("; {place}: {}", success_or_errno(&other, "another content"))
            }
            _ => {}
        }
    }
    format!("{whole} whole{first_wrong}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memfd_of_another_number_or_size_is_not_whole() {
        let back = |change: fn(&File)| {
            let memfd = numbered(7).unwrap();
            change(&memfd);
            whole([(7, Ok(OwnedFd::from(memfd)))].into_iter())
        };
        assert_eq!(back(|_| {}), "1 whole");
        assert_eq!(back(|memfd| memfd.set_len(9).unwrap()), "0 whole; 0: another content");
        assert_eq!(back(|memfd| memfd.set_len(7).unwrap()), "0 whole; 0: another content");
        assert_eq!(back(|memfd| memfd.write_all_at(&[1], 0).unwrap()), "0 whole; 0: another content");
        assert_eq!(whole([(7, Err(Errno::NOENT))].into_iter()), "0 whole; 0: ENOENT");
    }
}
