//! Finds the function in which a kernel crashed or warned, in the lines after the message.

use luqual_model::{ARCH, FindingKind};

/// The search in the lines after a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trace {
    /// How many more lines are searched; 0 if nothing is looked for, or it was found.
    left: u32,
    /// Whether the lines are frames of the trace.
    in_trace: bool,
}

/// How many lines after a message can belong to it: registers, code, and the first frames.
const LINES: u32 = 64;

impl Trace {
    /// The search after a message of that kind.
    pub(super) fn after(kind: FindingKind) -> Self {
        Self { left: if kind.taints() { LINES } else { 0 }, in_trace: false }
    }

    /// The function, if this message has it.
    pub(super) fn take(&mut self, message: &str) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        // The frames begin with a space, and end with a line that does not.
        if message.starts_with(ARCH.crash.frames) {
            self.in_trace = true;
            return None;
        }
        let found = match message.strip_prefix(ARCH.crash.function) {
            Some(place) => function(place),
            None if self.in_trace && message.starts_with(' ') => {
                // A frame with a question mark may be a remainder on the stack.
                function(message.trim_start()).filter(|name| !only_reports(name))
            }
            None => None,
        };
        if found.is_some() {
            self.left = 0;
        }
        found
    }
}

/// The name in `NAME+0x1f/0x40`, without what a compiler adds for a part of a function.
fn function(place: &str) -> Option<String> {
    let (name, _) = place.split_once("+0x")?;
    let name = ["constprop", "isra", "part", "cold"].iter().fold(name, |name, part| {
        let at = name.find(&format!(".{part}"));
        &name[..at.unwrap_or(name.len())]
    });
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    (!name.is_empty() && name.bytes().all(is_name)).then(|| name.to_owned())
}

/// Whether a function only reports what another one did.
fn only_reports(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "dump_stack",
        "__dump_stack",
        "show_stack",
        "panic",
        "vpanic",
        "arch_trigger_",
        "sys_info",
        "print_",
        "kasan_",
        "__kasan_",
        "__asan_",
        "kmsan_",
        "kcsan_",
        "ubsan_",
        "__ubsan_",
        "val_to_string",
        "lockdep_",
        "__lock_acquire",
        "lock_acquire",
        "lock_release",
        "check_noncircular",
        "debug_check_no_locks",
        "__warn",
        "warn_slowpath",
        "report_bug",
        "die",
        "__die",
        "oops_",
        "rcu_check_",
        "rcu_sched_clock_irq",
        "watchdog_",
        "sched_show_task",
        "trace_hardirqs",
    ];
    PREFIXES.iter().chain(ARCH.crash.reporting).any(|prefix| name.starts_with(prefix))
}
