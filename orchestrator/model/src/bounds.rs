//! The bounds of everything that a guest, a file or QEMU can make grow. A bound never turns what it cuts into "nothing
//! seen": what was cut is counted and told, or it is an error.

/// The longest title of a cell, in characters. A guest writes the errors that titles repeat, up to [`REPLY`] bytes.
pub const TITLE: usize = 2000;

/// The longest text of a finding, in characters. A kernel's own lines are shorter than 1024 bytes
/// (include/linux/printk.h, PRINTKRB_RECORD_MAX).
pub const FINDING: usize = 1024;

/// How many findings of one kind are kept of one kernel: the first ones, which are the causes. A kernel that warns in a
/// loop prints thousands a second. The last one is kept too, with the number of those between.
pub const FINDINGS: usize = 50;

/// How many findings of one kind are kept of one side of a cell. A guest that prints the banner of a kernel begins with
/// another kernel, as often as it likes.
pub const FINDINGS_OF_SIDE: usize = 500;

/// How many of the lines that taint a cell are printed or shown with it; the record has all.
pub const TAINTS_SHOWN: usize = 20;

/// The size of the head of a console's log and of its tail, in bytes.
pub const CONSOLE_HALF: usize = 8 << 20;

/// The longest line of a console in bytes; a longer line is split.
pub const CONSOLE_LINE: usize = 16 << 10;

/// How many earlier lines of a console are searched for a text: more than a guest prints before the text is awaited.
pub const CONSOLE_RECENT: usize = 4096;

/// The size of the head of a kernel's log (`kmsg.log`) and of its tail, in bytes. A log buffer has 256 KiB to a few
/// MiB.
pub const KERNEL_LOG_HALF: usize = 4 << 20;

/// The largest note of /sys/kernel/vmcoreinfo in bytes. A kernel's has a page (include/linux/vmcore_info.h).
pub const VMCOREINFO: usize = 64 << 10;

/// The largest System.map in bytes. A distribution's has 12 MB.
pub const SYMBOLS: u64 = 64 << 20;

/// How many lines are kept that a kernel writes between the last request and the kexec.
pub const LATE_LINES: usize = 20_000;

/// The largest file that QEMU writes for luqual, in bytes: the trace of its devices, its own messages, the console and
/// the answers of a deterministic boot. A busy device has 7 MB of trace; a guest in a loop makes 11 MB a second.
pub const QEMU_FILE: u64 = 64 << 20;

/// The largest output of a command in a guest, in bytes.
pub const REPLY: usize = 64 << 20;

/// The size at which the log of the requests and replies of one boot (`agent.jsonl`) is not continued, in bytes.
pub const AGENT_LOG: u64 = 128 << 20;

/// How many probes, measures, reports or runs of frames one reply of the agent can have. The largest of luqual's own
/// workloads has some thousand.
pub const REPLY_ITEMS: usize = 20_000;

/// How many pages a reply can name for the host to compare: it keeps a copy of each. A device's own memory has 256.
pub const REPLY_PAGES: usize = 4096;

/// Runs of pages in a reply: the memory of 4 GiB, each page by itself. They are kept as they are.
pub const REPLY_PAGE_RUNS: usize = 1 << 20;

/// The longest text of a probe, in characters; there are three in each.
pub const PROBE_TEXT: usize = 4096;

/// The largest image of a kernel, in bytes. Distributions' have 15 MB.
pub const IMAGE: u64 = 512 << 20;

/// The largest unpacked kernel, in bytes. Distributions' have 70 MB.
pub const UNPACKED_IMAGE: u64 = 512 << 20;

/// The largest memory that a decompressor may use besides its output, in bytes. The kernel's build uses dictionaries of
/// 128 MiB (scripts/xz_wrap.sh, scripts/Makefile.lib).
pub const DECOMPRESSOR: u64 = 256 << 20;

/// The largest configuration of a kernel, in bytes. Distributions' have 300 KB.
pub const KERNEL_CONFIG: u64 = 16 << 20;

/// The largest file of a module, in bytes. Distributions' have 10 MB.
pub const MODULE: u64 = 128 << 20;

/// The largest size of all that is unpacked of a kernel's packages, in bytes. Distributions' have 500 MB.
pub const PACKAGES: u64 = 4 << 30;

/// The largest number of modules of a kernel. Distributions' have 5000.
pub const MODULES: usize = 100_000;

/// The largest ELF with symbols beside an image, in bytes. With debugging information it has 500 MB.
pub const VMLINUX: u64 = 4 << 30;

/// The largest catalog, matrix file, patch or other file of text, in bytes. luqual's own have 60 KB.
pub const TEXT_FILE: u64 = 16 << 20;

/// The largest external program, in bytes. It is unpacked in each guest.
pub const PROGRAM: u64 = 256 << 20;

/// The longest line of a journal in bytes. The record of a cell of 20,000 probes has 5 MB.
pub const JOURNAL_LINE: u64 = 64 << 20;

/// The largest file of evidence that a report shows, in bytes: a console has at most twice [`CONSOLE_HALF`], and
/// the lines in between.
pub const EVIDENCE: u64 = 32 << 20;

/// The largest size of an unpacked bundle, in bytes; kernels, symbols and logs have about 60 MB.
pub const BUNDLE: u64 = 2 << 30;

/// The largest number of files in a bundle.
pub const BUNDLE_FILES: usize = 1000;

/// How deep folders in the folder of a run can be: luqual makes three levels.
pub const FOLDER_DEPTH: usize = 16;

/// `text`, or its first `most` characters and `…`.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The lines of a text that can have any size: as many from the beginning and from the end as have `half` bytes each,
/// and how many were left out between them.
pub fn head_and_tail<'a>(lines: &'a [String], half: usize) -> (&'a [String], usize, &'a [String]) {
    let fitting = |lines: &mut dyn Iterator<Item = &'a String>| {
        let mut left = half;
        lines
            .take_while(|line| {
                let fits = line.len() < left;
                left = left.saturating_sub(line.len() + 1);
                fits
            })
            .count()
    };
    let head = fitting(&mut lines.iter());
    let tail = fitting(&mut lines[head..].iter().rev());
    (&lines[..head], lines.len() - head - tail, &lines[lines.len() - tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!((cut("grün", 3), cut("grün", 4), cut("", 0)), ("grü…".to_owned(), "grün".to_owned(), String::new()));
    }

    #[test]
    fn a_long_log_keeps_both_ends() {
        let lines: Vec<String> = (0..1000).map(|number| format!("{number:>9}")).collect();
        let (head, left_out, tail) = head_and_tail(&lines, 100);
        assert_eq!((head.len(), left_out, tail.len()), (10, 980, 10));
        assert_eq!((&head[0], &tail[9]), (&lines[0], &lines[999]));
        let (head, left_out, tail) = head_and_tail(&lines[..5], 100);
        assert_eq!((head.len(), left_out, tail.len()), (5, 0, 0));
        let (head, left_out, tail) = head_and_tail(&lines[..1], 5);
        assert_eq!((head.len(), left_out, tail.len()), (0, 1, 0));
    }
}
