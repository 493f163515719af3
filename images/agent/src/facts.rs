//! Facts about the guest and its kernel, read from /proc and /sys.

use luqual_protocol::{Hello, KernelLog, MemoryRange, NONCE_OPTION, NotDone, Reply, Said, VERSION};
use std::fs;
use std::io::Read;

/// The answer to a handshake.
pub(crate) fn hello() -> Result<Hello, String> {
    let command_line = read("/proc/cmdline")?;
    Ok(Hello {
        protocol: VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        release: read("/proc/sys/kernel/osrelease")?,
        build_id: fs::read("/sys/kernel/notes").ok().and_then(|notes| build_id(&notes)).unwrap_or_default(),
        nonce: nonce(&command_line).to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id")?,
        tick_page: tick_page()?,
        taint: taint()?,
        liveupdate: fs::exists(crate::luo::DEVICE).unwrap_or(false),
    })
}

/// The reply to a step that was carried out.
pub(crate) fn done(said: Said) -> Reply {
    match taint() {
        Ok(taint) => Reply::Done { said, taint },
        Err(message) => Reply::failed(message),
    }
}

/// The reply to a step that was not carried out to its end, with what it found before.
pub(crate) fn not_done(why: NotDone, said: Said) -> Reply {
    match taint() {
        Ok(taint) => Reply::NotDone { why, said, taint },
        Err(message) => Reply::failed(message),
    }
}

/// The kernel's log so far.
pub(crate) fn kernel_log() -> Result<KernelLog, String> {
    use rustix::fs::{Mode, OFlags, open};
    let kmsg = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| format!("/dev/kmsg: {errno}"))?;
    let mut kmsg = fs::File::from(kmsg);
    let mut lines = Vec::new();
    // One read returns one record (Documentation/ABI/testing/dev-kmsg). No record has more than 8 KiB.
    let mut record = [0; 8192];
    loop {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(length) => lines.push(message(&String::from_utf8_lossy(&record[..length])).to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            // EPIPE: records were overwritten meanwhile. The next read continues with the oldest that is left.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(format!("/dev/kmsg: {error}")),
        }
    }
    let vmcoreinfo = read("/sys/kernel/vmcoreinfo").ok().and_then(|text| memory_range(&text));
    Ok(KernelLog { lines, taint: taint()?, vmcoreinfo })
}

/// The content of /sys/kernel/vmcoreinfo: an address and a length, both hexadecimal (kernel/ksysfs.c).
fn memory_range(text: &str) -> Option<MemoryRange> {
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let (address, length) = text.trim().split_once(' ')?;
    Some(MemoryRange { address: number(address)?, length: number(length)? })
}

/// Free memory in KiB: MemFree, and the free pages that each processor caches. MemFree does not count those, which can be 64 MiB
/// for each processor of a guest with 1 GiB (mm/page_alloc.c, struct per_cpu_pages).
pub(crate) fn mem_free_kib() -> Result<u64, String> {
    let zones = read("/proc/zoneinfo")?;
    Ok(meminfo("MemFree")? + kept_by_processors(&zones) * (crate::mapping::PAGE as u64 >> 10))
}

/// What the kernel itself can take of the available memory, in KiB. Free pages of KHO's scratch areas are for movable pages
/// alone (kernel/liveupdate/kexec_handover.c, kho_init(): MIGRATE_CMA), and MemAvailable counts them.
pub(crate) fn available_to_the_kernel_kib() -> Result<u64, String> {
    let movable = count_in(&read("/proc/vmstat")?, "nr_free_cma") * (crate::mapping::PAGE as u64 >> 10);
    Ok(meminfo("MemAvailable")?.saturating_sub(movable))
}

/// A count of /proc/vmstat; 0 if the kernel has none of that name.
fn count_in(vmstat: &str, name: &str) -> u64 {
    let words = vmstat.lines().filter_map(|line| line.split_once(' '));
    words.filter(|(key, _)| *key == name).find_map(|(_, count)| count.trim().parse().ok()).unwrap_or_default()
}

/// The number of pages in all `pagesets` of a /proc/zoneinfo.
fn kept_by_processors(zones: &str) -> u64 {
    let counts = zones.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// The size of KHO's scratch areas in KiB.
pub(crate) fn scratch_kib() -> Result<u64, String> {
    Ok(scratch_lengths()?.iter().sum::<u64>() >> 10)
}

/// The length of each scratch area, in bytes. A kernel without CONFIG_KEXEC_HANDOVER_DEBUGFS does not tell it.
pub(crate) fn scratch_lengths() -> Result<Vec<u64>, String> {
    const LENGTHS: &str = "/sys/kernel/debug/kho/out/scratch_len";
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let lengths = read(LENGTHS)?.split_whitespace().map(number).collect::<Result<_, _>>();
    lengths.map_err(|error| format!("{LENGTHS}: {error}"))
}

/// A line of /proc/meminfo, in KiB.
pub(crate) fn meminfo(name: &str) -> Result<u64, String> {
    let text = read("/proc/meminfo")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("/proc/meminfo has no {name}"))
}

fn taint() -> Result<u64, String> {
    let text = read("/proc/sys/kernel/tainted")?;
    text.parse().map_err(|_| format!("/proc/sys/kernel/tainted: `{text}` is not a number"))
}

/// The physical address of the tick page. The ticker writes it after its first tick; it was started before the SSH server.
fn tick_page() -> Result<u64, String> {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        if let Some(address) = fs::read_to_string(crate::tick::ADDRESS_FILE).ok().and_then(|text| text.parse().ok()) {
            return Ok(address);
        }
        if std::time::Instant::now() > until {
            return Err("the tick page did not appear within 30 s".to_owned());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).map_err(|error| format!("{path}: {error}"))
}

fn nonce(command_line: &str) -> &str {
    option(command_line, NONCE_OPTION).unwrap_or_default()
}

/// The value of an option of the kernel's command line, which ends with its `=`.
pub(crate) fn option<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default()
}

/// The descriptor of the note `GNU`, type 3 (NT_GNU_BUILD_ID), among ELF notes.
fn build_id(mut notes: &[u8]) -> Option<String> {
    let word = |bytes: &[u8], at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    loop {
        let (name_length, length, kind) = (word(notes, 0)?, word(notes, 4)?, word(notes, 8)?);
        let name = notes.get(12..12 + name_length)?;
        let start = 12 + name_length.next_multiple_of(4);
        let content = notes.get(start..start + length)?;
        if kind == 3 && name == b"GNU\0" {
            return Some(content.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(start + length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_vmcoreinfo_is_read() {
        let range = MemoryRange { address: 0x3fa5_c000, length: 4096 };
        assert_eq!(memory_range("0x000000003fa5c000 1000\n"), Some(range));
        for other in ["", "1000", "0x 1000", "tea pot"] {
            assert_eq!(memory_range(other), None, "{other}");
        }
    }

    #[test]
    fn a_count_is_found_by_its_whole_name() {
        let vmstat = "nr_free_pages 11235\nnr_free_cma 5618\nnr_free_cma_x 1\n";
        assert_eq!([count_in(vmstat, "nr_free_cma"), count_in(vmstat, "nr_free")], [5618, 0]);
    }

    #[test]
    fn free_memory_includes_the_caches_of_processors() {
        let zones = "Node 0, zone    DMA32\n  pages free     100\n  pagesets\n    cpu: 0\n              count:    12\n\
              high:     18\n    cpu: 1\n              count:    30\n  start_pfn: 4096\n";
        assert_eq!(kept_by_processors(zones), 42);
        assert_eq!(kept_by_processors(""), 0);
    }

    #[test]
    fn the_build_id_is_found_behind_another_note() {
        let mut notes = Vec::new();
        for (name, kind, content) in [(&b"Linux\0"[..], 257_u32, &b"7.3.4"[..]), (b"GNU\0", 3, &[0xab, 0x01])] {
            notes.extend((name.len() as u32).to_le_bytes());
            notes.extend((content.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            for part in [name, content] {
                notes.extend(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }
        assert_eq!(build_id(&notes).as_deref(), Some("ab01"));
        assert_eq!(build_id(&notes[..20]), None);
        assert_eq!(build_id(&[]), None);
    }

    #[test]
    fn the_nonce_is_a_whole_option() {
        assert_eq!(nonce("kho=on luqual.nonce=12ab quiet"), "12ab");
        assert_eq!(nonce("kho=on xluqual.nonce=12ab"), "");
    }

    #[test]
    fn a_log_record_loses_its_prefix_and_its_dictionary() {
        assert_eq!(message("6,339,5140900,-;NET: Registered; all\n SUBSYSTEM=net\n"), "NET: Registered; all");
    }
}
