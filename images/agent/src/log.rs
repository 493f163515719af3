//! Lines of the agent in the kernel's log, and so on the console, in the order of the kernel's own lines.

use std::io::Write;

/// Writes one line to /dev/kmsg. Best effort: a guest without a log goes on.
pub(crate) fn say(line: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = writeln!(kmsg, "<5>{line}");
    }
}
