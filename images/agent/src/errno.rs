//! Errnos: where they come from, and their names, as kernel developers write them.

use rustix::io::Errno;

/// The errno of the libc call that just failed on this thread.
pub(crate) fn last_errno() -> Errno {
    errno(&std::io::Error::last_os_error())
}

/// The errno of an error of the standard library; EIO for an error that has none.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The errno's symbolic name, such as `ENOENT`; `errno N` for one that is not in the table.
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

/// The observed value of a call: `success`, or the errno's name.
pub(crate) fn success_or_errno<T>(result: &Result<T, Errno>, success: &str) -> String {
    result.as_ref().map_or_else(|errno| errno_name(*errno), |_| success.to_owned())
}

/// The observed value of a call that reads something: what it read, or the errno's name.
pub(crate) fn value_or_errno<T: ToString>(read: Result<T, Errno>) -> String {
    read.map_or_else(errno_name, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_has_its_name_or_its_number() {
        assert_eq!(errno_name(Errno::OPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(errno_name(Errno::from_raw_os_error(133)), "errno 133");
    }

    #[test]
    fn an_error_without_an_errno_is_an_input_output_error() {
        assert_eq!(errno(&std::io::Error::from_raw_os_error(2)), Errno::NOENT);
        assert_eq!(errno(&std::io::Error::other("no errno")), Errno::IO);
    }
}
