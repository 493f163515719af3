//! A machine's memory as an ELF core, for those who look into a kernel that crashed.

use luqual_model::{Vmcore, VmcoreOf};
use luqual_vm::{Machine, free_mib};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The core in a cell's folder.
const VMCORE: &str = "vmcore";
/// What is said of it, whether it is there or not.
const ABOUT: &str = "vmcore.txt";

/// How much the cores of a run take, in bytes on disk.
#[derive(Debug, Default)]
pub struct CoresTaken(AtomicU64);

/// Whether a core is wanted of a machine that ended so.
pub(super) fn is_wanted(vmcore: Vmcore, crashed: bool) -> bool {
    vmcore.of == VmcoreOf::All || crashed
}

/// Writes it, unless there is no room for it. Either is told beside it: a cell is not worth less without.
pub(super) async fn dump(machine: &Machine, memory_mib: u64, limit_mib: u64, taken: &CoresTaken, logs: &Path) {
    let told = match has_room(memory_mib, limit_mib, taken, logs) {
        Err(why) => why,
        Ok(()) => match machine.dump(&logs.join(VMCORE)).await {
            Ok(size) => {
                taken.0.fetch_add(size, Ordering::Relaxed);
                format!(
                    "vmcore has {memory_mib} MiB of memory, {} MiB on disk. `drgn -c vmcore -s VMLINUX` and `crash VMLINUX vmcore` open \
                     it; VMLINUX is the kernel's, and with CONFIG_DEBUG_INFO says the most.",
                    size >> 20
                )
            }
            Err(error) => {
                let _ = fs::remove_file(logs.join(VMCORE));
                format!("there is no vmcore: {}", crate::reach::chain(&error))
            }
        },
    };
    // Evidence beside the record, as the console is.
    let _ = fs::write(logs.join(ABOUT), told + "\n");
}

fn has_room(memory_mib: u64, limit_mib: u64, taken: &CoresTaken, logs: &Path) -> Result<(), String> {
    let taken_mib = taken.0.load(Ordering::Relaxed) >> 20;
    // It is as large as the memory until its holes are found.
    if taken_mib.saturating_add(memory_mib) > limit_mib {
        return Err(format!(
            "there is no vmcore: it may take {memory_mib} MiB, those of this run take {taken_mib} MiB, and --vmcore-limit is {limit_mib}"
        ));
    }
    let free = free_mib(logs).map_err(|error| format!("there is no vmcore: {}", crate::reach::chain(&error)))?;
    if free < memory_mib + SPARE_MIB {
        return Err(format!("there is no vmcore: {} has {free} MiB free", logs.display()));
    }
    Ok(())
}

/// What is left on the disk for everybody else, in MiB.
const SPARE_MIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_kept_of_what_crashed_or_of_all() {
        let of = |of| Vmcore { of, limit_mib: 1 };
        assert!(is_wanted(of(VmcoreOf::Crashed), true) && !is_wanted(of(VmcoreOf::Crashed), false));
        assert!(is_wanted(of(VmcoreOf::All), true) && is_wanted(of(VmcoreOf::All), false));
    }

    #[test]
    fn what_has_no_room_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let taken = CoresTaken::default();
        let room = |mib, limit| has_room(mib, limit, &taken, folder.path());
        assert_eq!(room(1, 2), Ok(()));
        taken.0.fetch_add(3 << 20, Ordering::Relaxed);
        assert!(room(1, 3).unwrap_err().ends_with("those of this run take 3 MiB, and --vmcore-limit is 3"));
        assert!(room(1 << 40, u64::MAX).unwrap_err().contains("MiB free"));
    }
}
