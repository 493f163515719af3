//! Crash signatures: a console line without the parts that vary from boot to boot, so that equal crashes have equal
//! signatures.

use crate::Finding;

/// The signature of a crash or a warning: of its line, and the function, unless the line has it.
pub fn crash_signature(finding: &Finding) -> String {
    let line = signature(&finding.text);
    match &finding.function {
        Some(function) if !line.contains(function.as_str()) => format!("{line}, in {function}"),
        _ => line,
    }
}

/// A glob over the lines that are this line in another boot.
pub fn line_glob(line: &str) -> String {
    in_words(line, |_| None).replace('…', "*")
}

/// Replaces addresses, other long hexadecimal numbers, and the numbers of processes and processors by `…`; in a
/// report of a stall, all numbers. A kernel with CONFIG_SYMBOLIC_ERRNAME prints names of errors, and gets numbers.
pub fn signature(line: &str) -> String {
    in_words(line, number_of)
}

/// A line without what varies; `replaced` is asked about each word behind a `-`.
fn in_words(line: &str, replaced: fn(&str) -> Option<&'static str>) -> String {
    let lower = line.to_ascii_lowercase();
    let stall = lower.contains("stall") || lower.contains("lockup");
    let mut signature = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len()));
        signature.push_str(before);
        let error = signature.ends_with('-').then(|| replaced(word)).flatten();
        signature.push_str(if varies(&signature, word, stall) { "…" } else { error.unwrap_or(word) });
        rest = after;
    }
    signature + rest
}

/// The number of an error (include/uapi/asm-generic/errno-base.h, errno.h), if it is one that live update returns.
fn number_of(error: &str) -> Option<&'static str> {
    const ERRORS: [(&str, &str); 36] = [
        ("EPERM", "1"),
        ("ENOENT", "2"),
        ("EINTR", "4"),
        ("EIO", "5"),
        ("ENXIO", "6"),
        ("E2BIG", "7"),
        ("ENOEXEC", "8"),
        ("EBADF", "9"),
        ("EAGAIN", "11"),
        ("ENOMEM", "12"),
        ("EACCES", "13"),
        ("EFAULT", "14"),
        ("EBUSY", "16"),
        ("EEXIST", "17"),
        ("EXDEV", "18"),
        ("ENODEV", "19"),
        ("EINVAL", "22"),
        ("ENFILE", "23"),
        ("EMFILE", "24"),
        ("ENOTTY", "25"),
        ("ETXTBSY", "26"),
        ("EFBIG", "27"),
        ("ENOSPC", "28"),
        ("ESPIPE", "29"),
        ("EPIPE", "32"),
        ("EDOM", "33"),
        ("ERANGE", "34"),
        ("ENAMETOOLONG", "36"),
        ("ENOSYS", "38"),
        ("ENODATA", "61"),
        ("EPROTO", "71"),
        ("EBADMSG", "74"),
        ("EOVERFLOW", "75"),
        ("EOPNOTSUPP", "95"),
        ("EADDRNOTAVAIL", "99"),
        ("ETIMEDOUT", "110"),
    ];
    ERRORS.iter().find(|(name, _)| *name == error).map(|(_, number)| *number)
}

/// Whether `word`, which follows `before`, varies from boot to boot.
fn varies(before: &str, word: &str, stall: bool) -> bool {
    let hexadecimal = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if word.strip_prefix("0x").is_some_and(hexadecimal) {
        return true;
    }
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let last = before.trim_end_matches([' ', ':', '#', '=']).rsplit(|c: char| !c.is_ascii_alphabetic()).next();
    let counted = matches!(last, Some("CPU" | "cpu" | "cpus" | "PID" | "pid" | "after" | "for" | "than"));
    // Names with numbers, such as `swapper/0`, `kworker/u4:2` and `hold:70`. `memfd_luo.c:123` does not vary.
    let is_line = [".c:", ".h:", ".S:", ".rs:"].iter().any(|end| before.ends_with(end));
    let instance = before.ends_with('/') || before.ends_with(':') && !before.ends_with("::") && !is_line;
    // Numbers with a letter, such as `26s`, `u4` and `CPU1`.
    let number = word.strip_suffix('s').or(word.strip_prefix('u')).or(word.strip_prefix("CPU")).unwrap_or(word);
    (hexadecimal(word) && (word.len() >= 8 || last == Some("pfn"))) || digits(number) && (counted || instance || stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_left_out_and_what_tells_is_kept() {
        for (line, expected) in [
            (
                "BUG: kernel NULL pointer dereference, address: 0000000000000008",
                "BUG: kernel NULL pointer dereference, address: …",
            ),
            (
                "BUG: unable to handle page fault for address: ffffa1b2c3d4e5f6",
                "BUG: unable to handle page fault for address: …",
            ),
            (
                "KHO: setup: handover FDT (0xbf8000) is incompatible with 'kho-v1': 1",
                "KHO: setup: handover FDT (…) is incompatible with 'kho-v1': 1",
            ),
            ("kernel BUG at mm/memfd_luo.c:123!", "kernel BUG at mm/memfd_luo.c:123!"),
            ("BUG: Bad page state in process hold  pfn:1a2b3", "BUG: Bad page state in process hold  pfn:…"),
            (
                "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... } 21 jiffies s: 173 root: 0x2/.",
                "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { …-.... } … jiffies s: … root: …/.",
            ),
            (
                "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
                "watchdog: …: Watchdog detected hard LOCKUP on cpu …",
            ),
            ("BUG: workqueue lockup - pool cpus=0 flags=0x0", "BUG: workqueue lockup - pool cpus=… flags=…"),
            (
                "INFO: task kworker/u4:1:33 blocked for more than 40 seconds.",
                "INFO: task kworker/…:…:… blocked for more than … seconds.",
            ),
            (
                "INFO: task hold:70 blocked for more than 120 seconds.",
                "INFO: task hold:… blocked for more than … seconds.",
            ),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [swapper/1:0]",
                "watchdog: BUG: soft lockup - CPU#… stuck for …! [swapper/…:…]",
            ),
            (
                "Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP",
                "Oops: general protection fault, probably for non-canonical address …: 0000 [#1] SMP",
            ),
            ("tree failed to initialize [-EINVAL], in x", "tree failed to initialize [-22], in x"),
            ("tree failed to initialize [-22], in x", "tree failed to initialize [-22], in x"),
            ("EINVAL is no error here, and -EUNKNOWN is unknown", "EINVAL is no error here, and -EUNKNOWN is unknown"),
            ("Kernel panic - not syncing: Fatal exception", "Kernel panic - not syncing: Fatal exception"),
            ("luo: Retrieved live update data, version 2", "luo: Retrieved live update data, version 2"),
            ("", ""),
        ] {
            assert_eq!(signature(line), expected);
            assert!(crate::matches(&line_glob(line), line), "{line}");
        }
    }
}
