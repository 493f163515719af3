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
    signature(line).replace('…', "*")
}

/// Replaces addresses, other long hexadecimal numbers, and the numbers of processes and processors by `…`; in a
/// report of a stall, all numbers.
pub fn signature(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let stall = lower.contains("stall") || lower.contains("lockup");
    let mut signature = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len()));
        signature.push_str(before);
        signature.push_str(if varies(&signature, word, stall) { "…" } else { word });
        rest = after;
    }
    signature + rest
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
            ("Kernel panic - not syncing: Fatal exception", "Kernel panic - not syncing: Fatal exception"),
            ("luo: Retrieved live update data, version 2", "luo: Retrieved live update data, version 2"),
            ("", ""),
        ] {
            assert_eq!(signature(line), expected);
            assert!(crate::matches(&line_glob(line), line), "{line}");
        }
    }
}
