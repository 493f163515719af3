//! Classifies a kernel message by its start. The texts are the kernels' format strings, 6.1 to 7.3.

use luqual_model::{ARCH, FindingKind};

/// The kind of a message, if it is a finding. `message` has no time stamp and no caller.
pub(super) fn classify(message: &str) -> Option<FindingKind> {
    // Some kernels print it after the cut line, without a newline.
    let message = message.strip_prefix("------------[ cut here ]------------").map_or(message, str::trim_start);
    crash(message)
        .or_else(|| handover(message))
        .or_else(|| splat(message).then_some(FindingKind::Warning))
        .or_else(|| error(message).then_some(FindingKind::Error))
        .or_else(|| is_of_a_wrong_clock(message).then_some(FindingKind::Clock))
}

fn is_of_a_wrong_clock(message: &str) -> bool {
    ARCH.clock_messages.iter().any(|start| message.starts_with(start))
}

fn crash(message: &str) -> Option<FindingKind> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    let has = |part: &str| message.contains(part);
    // kernel/panic.c; arch/x86: extable.c, traps.c, entry_fred.c, vc-handle.c ("PANIC: double fault, error_code: …")
    if starts(&["Kernel panic - not syncing", "PANIC: ", "traps: PANIC: "]) {
        return Some(FindingKind::Panic);
    }
    // kernel/watchdog.c, watchdog_perf.c (hard LOCKUP), workqueue.c, rcu/tree_stall.h, rcu/tree_exp.h, rcu/tasks.h
    let lockup = has("BUG: soft lockup - CPU#") || has("Watchdog detected hard LOCKUP on cpu");
    if lockup && starts(&["watchdog: ", "NMI watchdog: ", "BUG: ", "Watchdog "])
        || starts(&["BUG: workqueue lockup - pool"])
        || starts(&["rcu: INFO: rcu", "INFO: rcu"]) && (has("detected stall") || has("detected expedited stall"))
        || starts(&["rcu: INFO: rcu", "INFO: rcu"]) && has("self-detected stall")
    {
        return Some(FindingKind::Stall);
    }
    // kernel/hung_task.c: "blocked for more than", 6.18 and later also "blocked in I/O wait for more than"
    if starts(&["INFO: task "]) && has(" blocked") && has(" for more than ") {
        return Some(FindingKind::HungTask);
    }
    // arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c, traps.c; arch/arm64/kernel/traps.c
    if starts(&[
        "Oops: ",
        "BUG: unable to handle ",
        "BUG: kernel NULL pointer dereference",
        "general protection fault",
        "Unable to handle kernel ",
        "Internal error: ",
    ]) || numbered_die(message)
    {
        return Some(FindingKind::Oops);
    }
    // lib/bug.c; checkers of mm, kernel/sched, kernel/locking; mm/slub.c: "BUG kmalloc-64 (Not tainted): …"
    let slab = message.strip_prefix("BUG ").is_some_and(|rest| rest.contains("): ") && rest.contains(" ("));
    if starts(&["kernel BUG at ", "BUG: ", "[ BUG: "]) || slab {
        return Some(FindingKind::Bug);
    }
    None
}

/// Whether a message has the form `invalid opcode: 0000 [#1] PREEMPT SMP`, which x86 printed before 6.10; it now
/// prints it after `Oops: `.
fn numbered_die(message: &str) -> bool {
    message.split_once(" [#").is_some_and(|(before, after)| {
        let code = before.rsplit_once(": ").map(|(_, code)| code);
        code.is_some_and(|code| code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && after.starts_with(|digit: char| digit.is_ascii_digit())
    })
}

/// Classifies messages of KHO and LUO (kernel/liveupdate/; 6.18: kernel/kexec_handover.c). A failure of
/// kho_populate() or luo_early_startup() refuses the whole handover.
fn handover(message: &str) -> Option<FindingKind> {
    if let Some(said) = message.strip_prefix("KHO: ") {
        let refused =
            ["setup: ", "disabling KHO revival", "failed to get preserved ", "failed to mark the scratch region "]
                .iter()
                .any(|refusal| said.starts_with(refusal));
        return Some(match () {
            () if refused => FindingKind::HandoverRefused,
            () if is_failure(said) => FindingKind::Error,
            () => FindingKind::Kho,
        });
    }
    // The KBUILD_MODNAME of the source file: luo-y in kernel/liveupdate/Makefile, mm/memfd_luo.c.
    let (speaker, said) = message.split_once(": ")?;
    if speaker == "liveupdate" || speaker.starts_with("luo") || speaker == "memfd_luo" {
        return Some(match () {
            () if is_luo_refusal(said) => FindingKind::HandoverRefused,
            () if is_failure(said) => FindingKind::Error,
            () => FindingKind::Luo,
        });
    }
    None
}

fn is_luo_refusal(said: &str) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| said.starts_with(prefix));
    // 7.2 and later
    starts(&["LUO state is incompatible with ", "LUO state is too small ", "failed to retrieve LUO state "])
        // 6.19 to 7.1
        || starts(&["failed to retrieve FDT ", "Session node incompatible ", "FLB node is incompatible with "])
        || starts(&["FDT "]) && said.contains(" is incompatible with ")
        || starts(&["Unable to get live update number ", "Unable to get session ", "Unable to get FLB "])
}

/// Whether KHO or LUO says that it could not do something. Both say so by these words, and by no others.
fn is_failure(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    const WORDS: &[&str] =
        &["failed", "failure", "unable to ", "cannot ", "could not ", "no registered ", "error", "invalid"];
    WORDS.iter().any(|word| said.contains(word))
}

/// Whether a message is an error that the kernel lives with.
fn error(message: &str) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    let has = |part: &str| message.contains(part);
    // mm/oom_kill.c, __oom_kill_process(); mm/memory-failure.c
    starts(&["Out of memory: Killed process ", "Memory cgroup out of memory: Killed process ", "Memory failure: "])
        // mm/page_alloc.c, warn_alloc(): the name of a process is before it.
        || has(": page allocation failure: order:")
        // mm/swapfile.c and mm/memory.c: the name of a function is before it.
        || message.split_once(": ").is_some_and(|(by, said)| !by.contains(' ') && said.starts_with("Bad swap "))
        // kernel/irq/spurious.c
        || starts(&["irq "]) && has(": nobody cared")
        // arch/x86/mm/fault.c, show_signal_msg(), show_fault_oops(); arch/x86/kernel/traps.c
        || has("]: segfault at ")
        || starts(&["traps: "]) && has(" ip:") && has(" trap ")
        || starts(&["kernel tried to execute NX-protected page", "unable to execute userspace code"])
        // drivers/iommu/intel/dmar.c, drivers/iommu/amd/iommu.c
        || starts(&["DMAR: ["]) && has("fault addr")
        || starts(&["AMD-Vi: Event logged "])
}

/// Whether a message is a warning with a trace. The kernel also begins harmless advice with `WARNING: ` (mitigations,
/// mount options, BIOS bugs), so that the word alone is not enough.
fn splat(message: &str) -> bool {
    if message.starts_with("UBSAN: ") || message.starts_with("INFO: trying to register non-static key") {
        return true;
    }
    let Some(said) = message.strip_prefix("WARNING: ") else { return false };
    // kernel/panic.c, __warn(): to 6.18 "CPU: 0 PID: 1 at FILE:LINE SYMBOL", from 6.19 on "FILE:LINE at SYMBOL, CPU#0: …";
    // "at SYMBOL" where the kernel was built without the places.
    // CONFIG_DEBUG_BUGVERBOSE_DETAILED puts "[CONDITION] " before it (include/asm-generic/bug.h).
    let is_condition = said.starts_with('[');
    let ends = said.match_indices("] ").filter(|_| is_condition).map(|(at, end)| &said[at + end.len()..]);
    let place = std::iter::once(said).chain(ends).any(begins_with_a_place);
    let cpu = said.starts_with("CPU: ") && said.contains(" PID: ") && said.contains(" at ");
    // kernel/locking/lockdep.c, arch/x86/kernel/unwind_frame.c, unwind_orc.c, dumpstack_64.c
    const TEXTS: &[&str] = &[
        "at ",
        "possible circular locking dependency detected",
        "possible recursive locking detected",
        "possible irq lock inversion dependency detected",
        "inconsistent lock state",
        "chain_key collision",
        "Nested lock was not taken",
        "bad unlock balance detected!",
        "bad contention detected!",
        "held lock freed!",
        "lock held when returning to user space!",
        "suspicious RCU usage",
        "stack recursion on stack type ",
        "stack going in the wrong direction",
        "kernel stack regs at ",
        "kernel stack frame pointer at ",
        "can't access registers at ",
    ];
    place
        || cpu
        || TEXTS.iter().any(|text| said.starts_with(text))
        || said.contains("-unsafe lock order detected")
        || said.contains(" still has locks held!")
}

/// `FILE:LINE at `.
fn begins_with_a_place(said: &str) -> bool {
    said.split_once(" at ").is_some_and(|(place, _)| {
        let line = place.rsplit_once(':').map(|(_, line)| line);
        !place.contains(' ') && line.is_some_and(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()))
    })
}
