//! Builds the agent as a static binary, so that one `cargo build` gives a `luqual` that carries it.
//!
//! A build of its own, because it needs another profile and other flags than the host tool; in a target folder of its
//! own, because cargo holds a lock on the one that it builds in.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The target triple of Rust; a file, since a build script would have to compile the crate for its ARCH.
const TARGET: &str = include_str!("../model/src/arch/guest-target");

fn main() -> ExitCode {
    match build() {
        Ok(agent) => {
            println!("cargo::rustc-env=LUQUAL_AGENT={}", agent.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    // Relative to the package, in which cargo runs this: an absolute path would lead from a copy of a checkout, with
    // what was built in it, to the agent of the other one.
    let root = Path::new("../..");
    let target = TARGET.trim_end();
    for input in ["images/agent", "images/ktap", "images/program", "images/protocol", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let variable = |name: &str| std::env::var_os(name).ok_or_else(|| format!("cargo does not set {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    // OUT_DIR is TARGET_DIR/PROFILE/build/NAME/out: one agent serves all profiles of the host tool.
    let folder = out.ancestors().nth(4).ok_or("OUT_DIR is shorter than cargo makes it")?.join("agent");
    let status = Command::new(variable("CARGO")?)
        .args(["build", "--locked", "--package", "luqual-agent", "--profile", "agent", "--target", target])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        // What the outer cargo says of the host tool's flags does not hold for the agent, and under `cargo clippy`
        // the wrapper is not a compiler.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .status()
        .map_err(|error| format!("cargo could not be started for the agent: {error}"))?;
    if !status.success() {
        return Err(format!("the build of luqual-agent failed ({status}); its messages stand above"));
    }
    Ok(folder.join(target).join("agent").join("luqual-agent"))
}
