//! A kernel's line without what varies from boot to boot, so that equal crashes have equal titles.

/// Replaces addresses, other long hexadecimal numbers, and the numbers of processes and processors by `…`.
pub(crate) fn title(line: &str) -> String {
    let mut title = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len()));
        title.push_str(before);
        title.push_str(if varies(&title, word) { "…" } else { word });
        rest = after;
    }
    title + rest
}

/// Whether a word that stands after `before` is another one in the next boot.
fn varies(before: &str, word: &str) -> bool {
    let hexadecimal = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if word.strip_prefix("0x").is_some_and(hexadecimal) {
        return true;
    }
    let digits = word.chars().all(|c| c.is_ascii_digit());
    let last = before.trim_end_matches([' ', ':', '#', '=']).rsplit(|c: char| !c.is_ascii_alphabetic()).next();
    let counted = matches!(last, Some("CPU" | "cpu" | "PID" | "pid" | "after" | "for" | "than"));
    // `swapper/0`, `kworker/1:2`, `hold:70`: which one it was.
    let instance = before.ends_with('/') || before.ends_with(':') && !before.ends_with("::");
    (hexadecimal(word) && word.len() >= 8) || digits && (counted || instance)
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
            ("kernel BUG at mm/memfd_luo.c:123!", "kernel BUG at mm/memfd_luo.c:…!"),
            (
                "INFO: task hold:70 blocked for more than 120 seconds.",
                "INFO: task hold:… blocked for more than … seconds.",
            ),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [swapper/1:0]",
                "watchdog: BUG: soft lockup - CPU#… stuck for 26s! [swapper/…:…]",
            ),
            (
                "Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP",
                "Oops: general protection fault, probably for non-canonical address …: 0000 [#1] SMP",
            ),
            ("Kernel panic - not syncing: Fatal exception", "Kernel panic - not syncing: Fatal exception"),
            ("luo: Retrieved live update data, version 2", "luo: Retrieved live update data, version 2"),
            ("", ""),
        ] {
            assert_eq!(title(line), expected);
        }
    }
}
