//! Lines of the agent in the kernel's log, and so on the console, in the order of the kernel's own lines.

use std::io::Write;

/// Writes one line to /dev/kmsg. Best effort: a guest without a log goes on.
pub(crate) fn say(line: &str) {
    write(NOTICE, line);
}

/// The same for a line that the host waits for: the console shows it with `quiet` or a low `loglevel=` on the command line too.
pub(crate) fn say_aloud(line: &str) {
    write(EMERGENCY, line);
}

/// Levels of the kernel's log (include/linux/kern_levels.h). A console shows what is below its own level, which `quiet` makes 4.
const NOTICE: u8 = 5;
const EMERGENCY: u8 = 0;

fn write(level: u8, line: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kmsg.write_all(record(level, line).as_bytes());
    }
}

/// What is written for a line, by one write(2): the kernel takes each for a record of its own, and the level of one alone
/// (Documentation/ABI/testing/dev-kmsg). A `writeln!` makes a write of each of its pieces.
fn record(level: u8, line: &str) -> String {
    format!("<{level}>{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_level() {
        assert_eq!(record(EMERGENCY, "luqual-agent: x"), "<0>luqual-agent: x\n");
    }
}
