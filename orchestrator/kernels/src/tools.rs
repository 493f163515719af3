//! The host's programs for a kernel build.

use crate::error::KernelError;
use luqual_model::ARCH;
use std::process::Command;

/// The packages of Debian and Ubuntu with these programs.
pub const PACKAGES: &str = "build-essential flex bison bc libelf-dev lz4";

/// The missing programs and headers of a build.
pub fn missing() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let programs = ["make", "gcc", "ld", "flex", "bison", "bc", "lz4"];
    let mut missing: Vec<String> = programs.into_iter().filter(|program| !has(program)).map(str::to_owned).collect();
    // objtool needs this header for the unwinder's tables (tools/objtool).
    let folders = ["/usr/include".to_owned(), format!("/usr/include/{}", ARCH.triplet)];
    if !folders.iter().any(|folder| std::path::Path::new(folder).join("libelf.h").exists()) {
        missing.push("libelf.h".to_owned());
    }
    missing
}

/// The compiler: its major version, which is part of the store's key, and its full version, which is recorded.
pub(crate) fn compiler() -> Result<(String, String), KernelError> {
    let ask = |option: &str| -> Option<String> {
        let output = Command::new("gcc").arg(option).output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    };
    let major = ask("-dumpversion").and_then(|version| version.split('.').next().map(str::to_owned));
    major.zip(ask("--version")).ok_or_else(|| KernelError::Tools(vec!["gcc".to_owned()]))
}
