//! Which accelerator runs guests here. That /dev/kvm opens proves nothing: only guest code that ran does.

use crate::error::VmError;
use crate::qemu::Qemu;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's virtualisation.
    Kvm,
    /// QEMU's translation.
    Tcg,
}

impl Accel {
    /// QEMU's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// By how much a deadline for KVM is stretched.
    pub const fn deadline_factor(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccelChoice {
    /// KVM where it runs guests, else TCG.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG, whatever there is.
    Tcg,
}

/// What is used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccelFound {
    /// Which.
    pub accel: Accel,
    /// In one line.
    pub reason: String,
}

/// Decides; runs a guest under KVM the first time, and remembers in `cache` what came of it.
pub async fn choose(qemu: &Qemu, choice: AccelChoice, cache: &Path) -> Result<AccelFound, VmError> {
    if choice == AccelChoice::Tcg {
        return Ok(AccelFound { accel: Accel::Tcg, reason: "asked for".to_owned() });
    }
    match (kvm(qemu, cache).await, choice) {
        (Ok(()), _) => Ok(AccelFound { accel: Accel::Kvm, reason: "KVM ran a guest".to_owned() }),
        (Err(why), AccelChoice::Kvm) => Err(VmError::NoKvm(why)),
        (Err(why), _) => Ok(AccelFound { accel: Accel::Tcg, reason: format!("KVM does not run guests: {why}") }),
    }
}

/// `Err` says why KVM is of no use.
async fn kvm(qemu: &Qemu, cache: &Path) -> Result<(), String> {
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Err(format!("/dev/kvm: {error}"));
    }
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {} {} {}", qemu.path.display(), qemu.version, host.trim(), boot.trim());
    let file = cache.join("kvm-probe.json");
    let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Remembered>(&text).ok());
    if let Some(known) = known.filter(|known| known.key == key) {
        return known.why_not.map_or(Ok(()), Err);
    }
    let outcome = probe(qemu, Accel::Kvm).await;
    let remembered = Remembered { key, why_not: outcome.clone().err() };
    // Not to remember costs a second at the next start, and is no reason to fail.
    let _ = fs::create_dir_all(cache)
        .and_then(|()| serde_json::to_vec(&remembered).map_err(Into::into))
        .and_then(|text| fs::write(&file, text));
    outcome
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    key: String,
    why_not: Option<String>,
}

/// What `probe/probe.S` writes to the exit device, as QEMU's exit code (QEMU hw/misc/debugexit.c: value << 1 | 1).
const PROBE_RAN: i32 = 0x2a << 1 | 1;

/// Runs a few instructions of real 64-bit guest code.
pub async fn probe(qemu: &Qemu, accel: Accel) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = folder.path().join("probe.bin");
    fs::write(&image, include_bytes!("../probe/probe.bin")).map_err(|error| error.to_string())?;
    let irqchip = if accel == Accel::Kvm { ",kernel-irqchip=split" } else { "" };
    let child = Command::new(&qemu.path)
        .args(["-machine", &format!("q35{irqchip}"), "-accel", accel.word(), "-cpu", "max", "-m", "16"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios"])
        .arg(&image)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    // A KVM that fails pauses the machine instead of ending it.
    let output = tokio::time::timeout(Duration::from_secs(10), child.wait_with_output())
        .await
        .map_err(|_| "the guest did not get through a few instructions in 10 s".to_owned())?
        .map_err(|error| error.to_string())?;
    if output.status.code() == Some(PROBE_RAN) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().map_or_else(|| format!("QEMU ended ({})", output.status), str::to_owned))
}
