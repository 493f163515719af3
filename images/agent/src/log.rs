//! What the agent says on the console, through the kernel's log, so that it has a place in time there.

use std::io::Write;

/// One line into /dev/kmsg. Best effort: where there is no log there is nobody to tell.
pub(crate) fn say(line: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = writeln!(kmsg, "<5>{line}");
    }
}
