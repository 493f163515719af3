//! Writes a machine's memory as an ELF core, for the analysis of a crashed kernel.

use crate::lab::{Machine, chain};
use luqual_model::{Vmcore, VmcoreOf};
use luqual_vm::free_mib;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The name of the core in a cell's folder.
const VMCORE: &str = "vmcore";
/// The name of the text about the core; it is there even if no core was written.
const ABOUT: &str = "vmcore.txt";

/// The disk space of all cores of a run, in bytes.
#[derive(Debug, Default)]
pub struct CoresTaken(AtomicU64);

impl CoresTaken {
    /// The cores that are already in a run's folder.
    pub fn of(folder: &Path) -> Self {
        Self(AtomicU64::new(on_disk(folder)))
    }

    /// Reserves space for a core if the limit allows it; otherwise returns the space that is taken.
    fn reserve(&self, bytes: u64, limit: u64) -> Result<(), u64> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|all| *all <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map(drop)
    }

    /// Replaces a reservation by the real size. Both count in between, so that the total is never too small.
    fn settle(&self, reserved: u64, size: u64) {
        self.0.fetch_add(size, Ordering::Relaxed);
        self.0.fetch_sub(reserved, Ordering::Relaxed);
    }
}

/// The disk space of the cores below a folder. A core that cannot be read counts as 0.
fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match (entry.file_type(), entry.metadata()) {
        (Ok(kind), _) if kind.is_dir() => on_disk(&entry.path()),
        (Ok(kind), Ok(about)) if kind.is_file() && entry.file_name() == VMCORE => about.blocks() * 512,
        _ => 0,
    });
    sizes.sum()
}

/// Whether to write a core of a machine that crashed or not.
pub(super) fn is_wanted(vmcore: Vmcore, crashed: bool) -> bool {
    vmcore.of == VmcoreOf::All || crashed
}

/// Writes the core, unless there is no space. A text beside it says what happened; a failure does not change the
/// cell's result.
pub(super) async fn dump(machine: &dyn Machine, memory_mib: u64, limit_mib: u64, taken: &CoresTaken, logs: &Path) {
    // This is additional evidence, as the console is.
    let tell = |told: &str| drop(fs::write(logs.join(ABOUT), format!("{told}\n")));
    if let Err(why) = make_room(memory_mib, limit_mib, taken, logs) {
        return tell(&format!("no vmcore was written: {why}"));
    }
    // This text remains if the machine is ended during the write; the reserved space then stays reserved.
    tell("vmcore is incomplete: the deadline passed while it was written");
    let core = logs.join(VMCORE);
    match machine.dump(&core).await {
        Ok(size) => {
            taken.settle(memory_mib << 20, size);
            tell(&format!(
                "vmcore has {memory_mib} MiB of memory, {} MiB on disk, and {}. `drgn -c vmcore -s VMLINUX` and `crash VMLINUX vmcore` \
                 open it; VMLINUX is the one of that kernel, best with CONFIG_DEBUG_INFO.",
                size >> 20,
                noted(&core)
            ));
        }
        Err(error) => {
            let _ = fs::remove_file(core);
            taken.settle(memory_mib << 20, 0);
            tell(&format!("no vmcore was written: {error}"));
        }
    }
}

/// The kernel whose note the core has; tools need it to open the core. Each kernel announces its note to QEMU during
/// its boot, and until then the previous kernel's note remains.
fn noted(core: &Path) -> String {
    // The notes are at the beginning of the file.
    let mut head = Vec::new();
    let read = fs::File::open(core).and_then(|file| file.take(1 << 20).read_to_end(&mut head));
    match read.ok().and_then(|_| release(&head)) {
        Some(release) => {
            format!("the note of Linux {release}; if another kernel ended, it ended before it wrote its own note")
        }
        None => "no note of a kernel: the kernel ended before it wrote one".to_owned(),
    }
}

/// The release in a note (Documentation/admin-guide/kdump/vmcoreinfo.rst). The guest writes it, so its length and
/// characters are checked.
fn release(notes: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"OSRELEASE=";
    let at = notes.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
    let line = notes[at..].split(|byte| *byte == b'\n').next()?;
    let line = line.get(..line.len().min(64))?;
    line.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(line).into_owned())
}

/// Reserves the largest size of a core, that of the memory, until its holes are found. An error says why there is no
/// space.
fn make_room(memory_mib: u64, limit_mib: u64, taken: &CoresTaken, logs: &Path) -> Result<(), String> {
    let free = free_mib(logs).map_err(|error| chain(&error))?;
    if free < memory_mib.saturating_add(SPARE_MIB) {
        return Err(format!("{} has {free} MiB free", logs.display()));
    }
    let bytes = |mib: u64| mib.saturating_mul(1 << 20);
    taken.reserve(bytes(memory_mib), bytes(limit_mib)).map_err(|taken| {
        let taken_mib = taken >> 20;
        format!(
            "it can take {memory_mib} MiB, the cores of this run take {taken_mib} MiB, and --vmcore-limit is {limit_mib} MiB"
        )
    })
}

/// The disk space that is left free for others, in MiB.
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
    fn the_note_of_a_core_names_its_kernel() {
        assert_eq!(release(b"\0VMCOREINFO\0OSRELEASE=7.3.4\nBUILD-ID=1\n").as_deref(), Some("7.3.4"));
        assert_eq!((release(b"CORE"), release(b"OSRELEASE=<b>\x1b\n")), (None, None));
        assert_eq!(release(&[b"OSRELEASE=".as_slice(), &[b'7'; 100]].concat()).map(|it| it.len()), Some(64));
    }

    #[test]
    fn what_has_no_room_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let taken = CoresTaken::default();
        let room = |mib, limit| make_room(mib, limit, &taken, folder.path());
        assert!(room(1 << 40, u64::MAX).unwrap_err().contains("MiB free"));
        assert_eq!(room(2, 3), Ok(()));
        // Though nothing is written yet.
        assert!(room(2, 3).unwrap_err().ends_with("the cores of this run take 2 MiB, and --vmcore-limit is 3 MiB"));
        // Its holes are found.
        taken.settle(2 << 20, 1 << 20);
        assert_eq!((room(2, 3), room(1, u64::MAX)), (Ok(()), Ok(())));
    }

    #[test]
    fn of_two_that_have_room_for_one_one_gets_it() {
        for _ in 0..100 {
            let taken = CoresTaken::default();
            let got = std::thread::scope(|scope| {
                let each = [(); 2].map(|()| scope.spawn(|| taken.reserve(2, 3).is_ok()));
                each.map(|it| it.join().unwrap())
            });
            assert_ne!(got[0], got[1]);
        }
    }

    #[test]
    fn cores_from_before_count_as_what_they_take() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(CoresTaken::of(folder.path()).0.into_inner(), 0);
        let mut sum = 0;
        for cell in ["cells/a", "cells/a/attempt-2"] {
            let cell = folder.path().join(cell);
            fs::create_dir_all(&cell).unwrap();
            let path = cell.join(VMCORE);
            fs::write(&path, [1; 100_000]).unwrap();
            // It is what is on disk that counts, not the file's length.
            fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
            fs::write(cell.join(ABOUT), [1; 100_000]).unwrap();
            sum += fs::metadata(&path).unwrap().blocks() * 512;
        }
        let taken = CoresTaken::of(folder.path()).0.into_inner();
        assert!(taken == sum && (200_000..1 << 20).contains(&taken), "{taken}");
    }
}
