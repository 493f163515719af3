//! From console lines to findings: incremental, with a look-back over lines that were split.
//!
//! Only messages of the kernel count: what stands behind a time stamp, at its start. Text in the middle of a message (a
//! command line, a program's output) matches nothing.

use luqual_model::{Finding, FindingKind, Side};

/// Reads lines one by one.
#[derive(Debug, Default)]
pub struct Scanner {
    findings: Vec<Finding>,
    banners: u32,
    side: Option<Side>,
    /// The message before, as far as a line may have been split off it, and whether it was a finding.
    previous: String,
    previous_found: bool,
}

/// A split message is looked for in this many bytes of the line before.
const LOOK_BACK: usize = 512;

impl Scanner {
    /// What was found so far, in order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Says which kernel speaks from now on.
    pub fn set_side(&mut self, side: Side) {
        self.side = Some(side);
    }

    /// Takes the line with that number, read at `at_us`.
    pub fn take(&mut self, line: &str, number: u64, at_us: u64) {
        let stamped = messages(line);
        if stamped.is_empty() {
            self.take_message(line, false, number, at_us);
        }
        for message in stamped {
            self.take_message(message, true, number, at_us);
        }
    }

    fn take_message(&mut self, message: &str, stamped: bool, number: u64, at_us: u64) {
        // printk of two processors, or bytes that were lost, can cut a message anywhere. What has no stamp may be the
        // rest of the message before.
        let whole = format!("{}{message}", self.previous);
        let found = if stamped {
            classify(message).map(|kind| (kind, message))
        } else if self.previous_found {
            None
        } else {
            classify(&whole).map(|kind| (kind, whole.as_str()))
        };
        if stamped && message.starts_with("Linux version ") {
            self.banners += 1;
            if self.banners > 1 {
                self.side = Some(Side::Target);
            }
        }
        if let Some((kind, text)) = found {
            let side = self.side.unwrap_or(Side::Source);
            self.findings.push(Finding { kind, side, at_us, line: number, text: text.trim_end().to_owned() });
        }
        self.previous_found = found.is_some() || !stamped && self.previous_found;
        self.previous = if stamped { message } else { &whole }.chars().take(LOOK_BACK).collect();
    }
}

/// The messages in a line: each begins behind a stamp like `[    1.234567] `, maybe with a caller like `[  T1] `.
fn messages(line: &str) -> Vec<&str> {
    let mut starts: Vec<(usize, usize)> = Vec::new();
    for (open, _) in line.match_indices('[') {
        if let Some(length) = stamp(&line[open..]) {
            starts.push((open, open + length));
        }
    }
    let ends = starts.iter().skip(1).map(|(open, _)| *open).chain([line.len()]);
    starts.iter().zip(ends).map(|((_, start), end)| line.get(*start..end).unwrap_or_default()).collect()
}

/// The length of a stamp at the start of `text`, with the caller and the space behind it.
fn stamp(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let close = inner.find(']')?;
    let (seconds, micros) = inner[..close].trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(micros) || micros.len() != 6 {
        return None;
    }
    let mut length = close + 2;
    // CONFIG_PRINTK_CALLER: [T123] a task, [C1] a processor.
    if let Some(caller) = text[length..].strip_prefix('[')
        && let Some(close) = caller.find(']')
        && matches!(caller.trim_start().as_bytes().first(), Some(b'T' | b'C'))
    {
        length += close + 2;
    }
    Some(length + usize::from(text[length..].starts_with(' ')))
}

/// What a message of the kernel tells, from its start.
fn classify(message: &str) -> Option<FindingKind> {
    use FindingKind::{Bug, HandoverRefused, HungTask, Kho, Luo, Oops, Panic, Stall, Warning};
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    let has = |part: &str| message.contains(part);
    if starts(&["Kernel panic - not syncing"]) {
        return Some(Panic);
    }
    // kernel/watchdog.c, kernel/watchdog_buddy.c, kernel/workqueue.c, kernel/rcu/tree_stall.h
    if (has("BUG: soft lockup") || has("detected hard LOCKUP")) && starts(&["watchdog:", "NMI watchdog:", "BUG:"])
        || starts(&["BUG: workqueue lockup"])
        || (starts(&["rcu: INFO: rcu_", "INFO: rcu_"]) && (has("stall")))
    {
        return Some(Stall);
    }
    // kernel/hung_task.c
    if starts(&["INFO: task "]) && (has("blocked for more than") || has("blocked on")) {
        return Some(HungTask);
    }
    // arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c, arch/x86/kernel/traps.c
    if starts(&[
        "Oops: ",
        "BUG: unable to handle",
        "BUG: kernel NULL pointer dereference",
        "general protection fault",
        "double fault:",
        "traps: PANIC:",
    ]) {
        return Some(Oops);
    }
    // lib/bug.c, mm/kasan, mm/kfence, kernel/sched, mm/page_alloc.c
    if starts(&["kernel BUG at ", "------------[ cut here ]------------kernel BUG at ", "BUG: "]) {
        return Some(Bug);
    }
    // kernel/panic.c (__warn), kernel/locking/lockdep.c, lib/ubsan.c
    if starts(&["WARNING: ", "UBSAN: "]) {
        return Some(Warning);
    }
    // kernel/liveupdate/kexec_handover.c (kho_populate), kernel/liveupdate/luo_core.c (luo_early_startup)
    if starts(&["KHO: "]) {
        let refused =
            (has("handover FDT") && (has("is incompatible with") || has("is invalid"))) || has("disabling KHO revival");
        return Some(if refused { HandoverRefused } else { Kho });
    }
    if starts(&["luo", "memfd_luo: ", "liveupdate: "]) && has(": ") {
        return Some(if has("LUO state is incompatible") { HandoverRefused } else { Luo });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(lines: &str) -> Vec<(FindingKind, Side, String)> {
        let mut scanner = Scanner::default();
        for (number, line) in lines.lines().enumerate() {
            scanner.take(line, number as u64 + 1, 0);
        }
        scanner.findings().iter().map(|finding| (finding.kind, finding.side, finding.text.clone())).collect()
    }

    fn kinds(lines: &str) -> Vec<FindingKind> {
        scan(lines).into_iter().map(|(kind, _, _)| kind).collect()
    }

    #[test]
    fn crash_texts_of_several_kernels() {
        for (line, kind) in [
            ("Kernel panic - not syncing: VFS: Unable to mount root fs", FindingKind::Panic),
            ("Oops: general protection fault, probably for non-canonical address", FindingKind::Oops),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000008", FindingKind::Oops),
            ("BUG: unable to handle page fault for address: ffffc90000345000", FindingKind::Oops),
            ("kernel BUG at mm/page_alloc.c:1234!", FindingKind::Bug),
            ("BUG: KASAN: slab-use-after-free in luo_session_release+0x3a/0x50", FindingKind::Bug),
            ("BUG: sleeping function called from invalid context at mm/slab.h:1", FindingKind::Bug),
            ("WARNING: CPU: 0 PID: 1 at kernel/kexec_core.c:12 kernel_kexec+0x1/0x2", FindingKind::Warning),
            ("WARNING: kernel/liveupdate/luo_file.c:200 at luo_free+0x1/0x2, CPU#1: hold/71", FindingKind::Warning),
            ("WARNING: possible circular locking dependency detected", FindingKind::Warning),
            ("UBSAN: shift-out-of-bounds in mm/memfd_luo.c:12:3", FindingKind::Warning),
            ("INFO: task hold:71 blocked for more than 122 seconds.", FindingKind::HungTask),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [hold:71]", FindingKind::Stall),
            ("watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0", FindingKind::Stall),
            ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", FindingKind::Stall),
            ("KHO: setup: handover FDT (0x3f) is incompatible with 'kho-v4': -22", FindingKind::HandoverRefused),
            ("KHO: disabling KHO revival", FindingKind::HandoverRefused),
            ("KHO: found kexec handover data.", FindingKind::Kho),
            ("luo: LUO state is incompatible with 'luo-v5'", FindingKind::HandoverRefused),
            ("luo: Retrieved live update data, liveupdate number: 1", FindingKind::Luo),
        ] {
            for stamp in ["[    1.234567] ", "[12345.678901][   T71] ", "[    0.000000][  C1] "] {
                assert_eq!(kinds(&format!("{stamp}{line}")), [kind], "{stamp}{line}");
            }
        }
    }

    #[test]
    fn harmless_lines() {
        let lines = "\
[    0.000000] Command line: console=ttyS0 note=BUG: Kernel panic - not syncing
[    1.000000] DEBUG: nothing
[    1.000000] Warning: unable to open an initial console.
[    1.000000] rcu: Hierarchical RCU implementation.
[    1.000000] rcu: RCU calculated value of scheduler-enlistment delay is 100 jiffies.
[    1.000000] luqual-agent: process 7 ended: WARNING: BUG: Oops
[    1.000000] ACPI: BIOS _OSI(Linux) query ignored
[    1.000000] systemd[1]: BUG: something of userspace
Booting from ROM..
[drm] WARNING
";
        assert_eq!(kinds(lines), []);
    }

    #[test]
    fn a_message_that_was_split_is_found_once() {
        assert_eq!(
            scan("[    1.000000] Kernel pan\nic - not syncing: stop"),
            [(FindingKind::Panic, Side::Source, "Kernel panic - not syncing: stop".to_owned())]
        );
        assert_eq!(kinds("[    1.000000] Kernel panic - not syncing: st\nop\nand more"), [FindingKind::Panic]);
    }

    #[test]
    fn two_messages_in_one_line_are_two() {
        assert_eq!(
            kinds("[    1.000000] luo: one[    1.000001] Kernel panic - not syncing: x"),
            [FindingKind::Luo, FindingKind::Panic]
        );
    }

    #[test]
    fn the_second_banner_is_the_targets() {
        let lines = "\
[    0.000000] Linux version 7.2.12
[    1.000000] WARNING: a at b
[    0.000000] Linux version 7.3.4
[    0.000000] KHO: found kexec handover data.
";
        let sides: Vec<Side> = scan(lines).into_iter().map(|(_, side, _)| side).collect();
        assert_eq!(sides, [Side::Source, Side::Target]);
    }
}
