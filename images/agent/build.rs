//! Builds the bare-metal program that virtual machines run: a flat image, from `images/program`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(program) => {
            println!("cargo::rustc-env=LUQUAL_PROGRAM={}", program.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    // Relative to the package, in which cargo runs this, as in `orchestrator/guest/build.rs`.
    let source = Path::new("../program/src");
    println!("cargo::rerun-if-changed={}", source.display());
    let variable = |name: &str| std::env::var_os(name).ok_or_else(|| format!("cargo does not set {name}"));
    let program = PathBuf::from(variable("OUT_DIR")?).join("program");
    let script = source.join("bare/program.ld");
    let status = Command::new(variable("RUSTC")?)
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "luqual_program", "--target"])
        .arg(variable("TARGET")?)
        .args(["-Cpanic=abort", "-Copt-level=2", "-Crelocation-model=static", "-Cforce-unwind-tables=no"])
        // An interrupt takes the stack as it is.
        .arg("-Cno-redzone=yes")
        .args(["-Clink-arg=-nostdlib", "-Clink-arg=-static", "-Clink-arg=-Wl,--build-id=none,--oformat=binary"])
        .arg(format!("-Clink-arg=-Wl,-T,{}", script.display()))
        .arg(source.join("bare/main.rs"))
        .arg("-o")
        .arg(&program)
        .status()
        .map_err(|error| format!("rustc could not be started for the program of virtual machines: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the build of the program of virtual machines failed ({status}); its messages stand above"
        ));
    }
    Ok(program)
}
