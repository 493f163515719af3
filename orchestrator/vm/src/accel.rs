//! Chooses the accelerator. An open /dev/kvm proves nothing; luqual runs guest code to see whether KVM works.

use crate::error::VmError;
use crate::qemu::Qemu;
use crate::supervise::Launcher;
use luqual_model::{ARCH, Accel};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

/// The requested accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccelChoice {
    /// KVM if it can run a guest, otherwise TCG.
    Auto,
    /// KVM; an error if it cannot run a guest.
    Kvm,
    /// TCG, even if KVM works.
    Tcg,
}

/// The chosen accelerator, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccelFound {
    /// The accelerator.
    pub accel: Accel,
    /// The reason, in one line.
    pub reason: String,
}

/// Chooses the accelerator. Runs a guest under KVM, unless `cache` says that one ran since the host booted.
pub async fn choose(
    launcher: &Launcher,
    qemu: &Qemu,
    choice: AccelChoice,
    cache: &Path,
) -> Result<AccelFound, VmError> {
    if choice == AccelChoice::Tcg {
        return Ok(AccelFound { accel: Accel::Tcg, reason: "asked for".to_owned() });
    }
    match (kvm(launcher, qemu, cache).await, choice) {
        (Ok(()), _) => Ok(AccelFound { accel: Accel::Kvm, reason: "KVM ran a guest".to_owned() }),
        (Err(why), AccelChoice::Kvm) => Err(VmError::NoKvm(why)),
        (Err(why), _) => Ok(AccelFound { accel: Accel::Tcg, reason: format!("KVM cannot run a guest: {why}") }),
    }
}

/// Whether KVM can run a guest; an error has the reason.
async fn kvm(launcher: &Launcher, qemu: &Qemu, cache: &Path) -> Result<(), String> {
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Err(format!("/dev/kvm: {error}"));
    }
    remembered(launcher, qemu, cache).await
}

/// The file in the cache folder with the QEMU, kernel and boot of the host for which KVM ran a guest.
const CACHE: &str = "kvm-ran-a-guest";

/// Only a success is remembered. A failure can end soon (a module is loaded again, another hypervisor releases the
/// processor), and another test takes 0.2 s.
async fn remembered(launcher: &Launcher, qemu: &Qemu, cache: &Path) -> Result<(), String> {
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // A rebuilt QEMU can have the same version.
    let built = fs::metadata(&qemu.path).map_or((0, 0), |metadata| (metadata.size(), metadata.mtime()));
    let key = format!("{} {} {built:?} {} {}", qemu.path.display(), qemu.version, host.trim(), boot.trim());
    let file = cache.join(CACHE);
    if fs::read(&file).is_ok_and(|known| known == key.as_bytes()) {
        return Ok(());
    }
    probe(launcher, qemu, Accel::Kvm).await?;
    // An error is ignored; the next start only tests again.
    let _ = fs::create_dir_all(cache).and_then(|()| fs::write(&file, key));
    Ok(())
}

/// The limit for the test, with the start of QEMU.
const PROBE: Duration = Duration::from_secs(20);

/// Tests an accelerator: runs a few instructions of guest code.
pub async fn probe(launcher: &Launcher, qemu: &Qemu, accel: Accel) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = folder.path().join("probe.bin");
    fs::write(&image, ARCH.probe.image).map_err(|error| error.to_string())?;
    let machine = format!("{}{}", ARCH.probe.machine, ARCH.machine.options(accel));
    let mut command = launcher.command(&qemu.path);
    command
        .args(["-machine", &machine, "-accel", accel.word(), "-cpu", "max", "-m", "16"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-device", ARCH.probe.exit_device, "-bios"])
        .arg(&image)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = launcher.start(command).await.map_err(|error| error.to_string())?;
    let complaint = match child.stderr.take() {
        Some(stderr) => tokio::time::timeout(PROBE, complaint(BufReader::new(stderr))).await,
        None => Ok(None),
    };
    let Ok(complaint) = complaint else {
        let _ = child.kill().await;
        return Err(format!("the guest did not run a few instructions within {} s", PROBE.as_secs()));
    };
    if complaint.as_deref().is_some_and(is_internal_error) {
        let _ = child.kill().await;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.code() == Some(ARCH.probe.exit_code) {
        return Ok(());
    }
    Err(complaint.unwrap_or_else(|| format!("QEMU ended ({status})")))
}

/// The first line of QEMU's standard error. After an internal error of KVM, QEMU pauses the machine and continues
/// (QEMU accel/kvm/kvm-all.c, kvm_handle_internal_error()), so only that line and the next one are awaited.
async fn complaint(stderr: impl AsyncBufRead + Unpin) -> Option<String> {
    let mut lines = stderr.lines();
    let mut first: Option<String> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match &mut first {
            None => first = Some(line),
            Some(first) if is_internal_error(first) => {
                first.push_str(", ");
                first.push_str(&line);
                break;
            }
            Some(_) => {}
        }
    }
    first
}

fn is_internal_error(line: &str) -> bool {
    line.starts_with("KVM internal error") || line.starts_with("KVM: entry failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::QemuVersion;

    /// A QEMU that leaves a line in `ran` and does what `script` says, and a luqual that becomes it.
    fn fake(folder: &Path, script: &str) -> (Launcher, Qemu) {
        let program = |name: &str, text: String| {
            let (written, path) = (folder.join("text"), folder.join(name));
            fs::write(&written, format!("#!/bin/sh\n{text}\n")).unwrap();
            // Not written by this process: a test that forks at that moment would hold it open, and nobody could run it.
            assert!(std::process::Command::new("install").arg(&written).arg(&path).status().unwrap().success());
            path
        };
        let luqual = program("luqual", "shift 2; exec \"$@\"".to_owned());
        let path = program("qemu", format!("echo ran >> {}/ran\n{script}", folder.display()));
        (Launcher { program: luqual }, Qemu { path, version: QemuVersion(7, 2, 0) })
    }

    async fn probed(script: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let (launcher, qemu) = fake(folder.path(), script);
        probe(&launcher, &qemu, Accel::Kvm).await
    }

    #[tokio::test]
    async fn only_the_guests_own_word_counts() {
        assert_eq!(probed("exit 85").await, Ok(()));
        assert_eq!(probed("exit 3").await, Err("QEMU ended (exit status: 3)".into()));
        assert_eq!(probed("exit 0").await, Err("QEMU ended (exit status: 0)".into()));
        let aborted = "echo 'qemu: error: failed to set MSR 0x10a' >&2; echo more >&2; kill -ABRT $$";
        assert_eq!(probed(aborted).await, Err("qemu: error: failed to set MSR 0x10a".into()));
    }

    #[tokio::test]
    async fn a_kvm_that_pauses_the_guest_is_told_at_once() {
        let script = "echo 'KVM internal error. Suberror: 1' >&2; echo 'emulation failure' >&2; exec sleep 600";
        let started = std::time::Instant::now();
        assert_eq!(probed(script).await, Err("KVM internal error. Suberror: 1, emulation failure".into()));
        assert!(started.elapsed() < PROBE);
    }

    #[tokio::test]
    async fn a_guest_that_ran_is_remembered_for_that_qemu_and_a_failure_is_not() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let runs = || fs::read_to_string(folder.path().join("ran")).unwrap_or_default().lines().count();
        let (launcher, failing) = fake(folder.path(), "exit 3");
        let why = "QEMU ended (exit status: 3)";
        for number in 1..=2 {
            assert_eq!(remembered(&launcher, &failing, cache.path()).await, Err(why.into()));
            assert_eq!(runs(), number);
        }
        // The same, but that KVM works now.
        let (launcher, qemu) = fake(folder.path(), "exit 85");
        for _ in 0..3 {
            assert_eq!(remembered(&launcher, &qemu, cache.path()).await, Ok(()));
            assert_eq!(runs(), 3);
        }
        let newer = Qemu { version: QemuVersion(7, 2, 1), ..qemu };
        assert_eq!(remembered(&launcher, &newer, cache.path()).await, Ok(()));
        assert_eq!(runs(), 4);
        // A file that was cut off is no memory.
        fs::write(cache.path().join(CACHE), "/usr").unwrap();
        assert_eq!(remembered(&launcher, &newer, cache.path()).await, Ok(()));
        assert_eq!(runs(), 5);
        // Nor is it one of another build of the same version.
        let (launcher, _) = fake(folder.path(), "exit 3; # another");
        assert_eq!(remembered(&launcher, &newer, cache.path()).await, Err(why.into()));
    }

    #[tokio::test]
    async fn tcg_is_given_to_whoever_asks_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (launcher, qemu) = fake(folder.path(), "exit 3");
        let found = choose(&launcher, &qemu, AccelChoice::Tcg, folder.path()).await.unwrap();
        assert_eq!(found, AccelFound { accel: Accel::Tcg, reason: "asked for".to_owned() });
        assert!(!folder.path().join("ran").exists());
    }

    #[tokio::test]
    async fn without_kvm_auto_falls_back_and_kvm_is_an_error_that_says_why() {
        // Wherever this runs: no QEMU of ours, so no KVM that runs guests.
        let folder = tempfile::tempdir().unwrap();
        let (launcher, qemu) = fake(folder.path(), "exit 3");
        let found = choose(&launcher, &qemu, AccelChoice::Auto, folder.path()).await.unwrap();
        assert_eq!(found.accel, Accel::Tcg);
        let error = choose(&launcher, &qemu, AccelChoice::Kvm, folder.path()).await.unwrap_err();
        assert!(error.to_string().starts_with("KVM cannot run a guest on this host: "), "{error}");
        assert_eq!(
            format!("KVM cannot run a guest on this host: {}", found.reason.split_once(": ").unwrap().1),
            error.to_string()
        );
    }
}
