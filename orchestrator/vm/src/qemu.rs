//! Finds the installed QEMU.

use crate::error::VmError;
use luqual_model::{ARCH, QemuVersion};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A usable QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// The path.
    pub path: PathBuf,
    /// The version.
    pub version: QemuVersion,
}

const OLDEST: QemuVersion = QemuVersion(7, 2, 0);

impl Qemu {
    /// Finds the QEMU at `named`, or the first in `PATH`. An error if it is older than 7.2.
    pub fn find(named: Option<&Path>) -> Result<Self, VmError> {
        match named {
            Some(path) if path.is_file() => Self::at(path.to_owned()).map_err(VmError::named),
            Some(path) => Err(VmError::NoQemu(path.display().to_string()).named()),
            None => {
                let found = search(&std::env::var_os("PATH").unwrap_or_default());
                Self::at(found.ok_or_else(|| VmError::NoQemu(format!("{} (in PATH)", ARCH.qemu.program)))?)
            }
        }
    }

    fn at(path: PathBuf) -> Result<Self, VmError> {
        let output = Command::new(&path).arg("--version").output().map_err(VmError::file(&path))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version =
            version(&said).ok_or_else(|| VmError::NotQemu { path: path.clone(), said: said.trim_end().to_owned() })?;
        if version < OLDEST {
            return Err(VmError::OldQemu { path, version: version.to_string() });
        }
        Ok(Self { path, version })
    }
}

fn search(path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(ARCH.qemu.program)).find(|program| program.is_file())
}

fn version(said: &str) -> Option<QemuVersion> {
    let text = said.lines().next()?.strip_prefix("QEMU emulator version ")?.split([' ', '(']).next()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some(QemuVersion(numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(version(debian), Some(QemuVersion(7, 2, 22)));
        assert_eq!(version("QEMU emulator version 11.1.0"), Some(QemuVersion(11, 1, 0)));
        assert_eq!(version("bash, version 5"), None);
        assert!(QemuVersion(7, 2, 0) < QemuVersion(10, 0, 0) && QemuVersion(7, 1, 99) < OLDEST);
    }

    #[test]
    fn one_that_is_named_and_of_no_use_is_a_mistake_of_the_one_who_named_it() {
        for (path, told) in
            [("/etc/passwd", "/etc/passwd: Permission denied"), ("/bin/true", "did not print the version of a QEMU")]
        {
            let error = Qemu::find(Some(Path::new(path))).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(told), "{error}");
        }
        assert!(!VmError::NoQemu(ARCH.qemu.program.to_owned()).is_usage());
    }

    #[test]
    fn a_missing_one_is_told_with_what_to_do() {
        let error = Qemu::find(Some(Path::new("/nowhere/qemu"))).unwrap_err();
        assert!(error.is_usage());
        assert_eq!(error.to_string(), "/nowhere/qemu was not found");
        assert!(error.hint().unwrap().contains("apt-get install qemu-system-x86"));
    }
}
