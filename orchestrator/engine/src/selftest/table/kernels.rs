//! Faults of kernels, of QEMU and of luqual itself, and controls.

use super::super::expected::Expected;
use super::super::fault::{Injection, SelftestFault, basic, of};
use luqual_model::Outcome::{Crashed, HarnessFailed, Lost, Refused};

pub(super) const FAULTS: &[SelftestFault] = &[
    basic(
        "kernel.target-hangs",
        "all processes of the target stop in verify",
        "hang:verify",
        Expected::ended(Crashed, "hang: *the deadline of verify*"),
    ),
    basic(
        "kernel.source-hangs",
        "all processes of the source stop in preserve",
        "hang:preserve",
        Expected::ended(Crashed, "hang: *the deadline of preserve*"),
    ),
    basic(
        "control.unpreserved-page",
        "a bit is flipped in a page that is not preserved: nobody may find it",
        "flip-unpreserved",
        Expected::nothing(),
    ),
    basic(
        "kernel.source-panics-in-preserve",
        "the source panics in preserve",
        "panic:preserve",
        Expected::ended(Crashed, "Kernel panic - not syncing: sysrq triggered crash*"),
    ),
    basic(
        "kernel.target-panics-in-retrieve",
        "the target panics in retrieve",
        "panic:retrieve",
        Expected::ended(Crashed, "Kernel panic - not syncing: sysrq triggered crash*"),
    ),
    basic(
        "kernel.target-panics-in-finish",
        "the target panics after everything was verified",
        "panic:finish",
        Expected::ended(Crashed, "Kernel panic - not syncing: sysrq triggered crash*"),
    ),
    basic(
        "kernel.target-panics-in-collect",
        "the target panics after the last workload has ended",
        "panic:collect",
        Expected::ended(Crashed, "Kernel panic - not syncing: sysrq triggered crash*"),
    ),
    basic(
        "qemu.killed-in-boot",
        "QEMU is killed while the source boots",
        "kill-qemu:boot",
        Expected::ended(HarnessFailed, "QEMU ended*SIGKILL*"),
    ),
    basic(
        "qemu.killed-in-the-blackout",
        "QEMU is killed after the kexec",
        "kill-qemu:reconnect",
        Expected::ended(HarnessFailed, "QEMU ended*SIGKILL*"),
    ),
    basic(
        "qemu.killed-in-collect",
        "QEMU is killed after the last workload has ended",
        "kill-qemu:collect",
        Expected::ended(HarnessFailed, "QEMU ended*SIGKILL*"),
    ),
    basic(
        "qemu.stopped",
        "QEMU is stopped by a signal in verify",
        "stop-qemu:verify",
        Expected::ended(HarnessFailed, "*did not let*"),
    ),
    basic(
        "agent.overlooks-a-byte",
        "a bit is flipped in a memfd, and the guest's comparison says that nothing changed",
        "flip-hidden:64m:8191:2048",
        Expected::lost(&["memfd host: pages of 64m after the kexec"]),
    ),
    basic(
        "agent.mute",
        "the agent leaves out what it has found",
        "guest:mute",
        Expected::ended(HarnessFailed, "*the workload owes: missing: *"),
    ),
    basic(
        "agent.server-killed",
        "the agent's SSH server is killed in verify",
        "kill-agent:verify",
        Expected::ended(HarnessFailed, "*"),
    ),
    basic(
        "agent.holder-killed-in-the-source",
        "the process with the sessions is killed before the kexec",
        "kill-holder:kexec",
        Expected::ended(HarnessFailed, "*"),
    ),
    basic(
        "agent.holder-killed-in-the-target",
        "the process with the sessions is killed in verify",
        "kill-holder:verify",
        Expected::ended(HarnessFailed, "*"),
    ),
    of(
        "lifecycle.there-and-back",
        "intermediate.memory",
        "a bit is flipped between the first target and the kernel after it",
        "flip:control:0:0@1",
        Expected::lost(&["memfd control content", "memfd host: pages of control after the kexec"]),
    ),
    of(
        "lifecycle.there-and-back",
        "intermediate.offset",
        "the file offset of a memfd moves by one in the first target, before it is preserved again",
        "guest:offset:control@1",
        Expected::lost(&["memfd control offset"]),
    ),
    of(
        "lifecycle.there-and-back",
        "intermediate.taint",
        "the kernel in the middle of two updates is tainted",
        "options:1:sysctl.kernel.tainted=512",
        Expected::tainted(&["target: taint 512 (W)"]),
    ),
    of(
        "lifecycle.there-and-back",
        "intermediate.wrong-kernel",
        "the update loads the source's own image instead of the target's",
        "wrong-kernel",
        Expected::ended(HarnessFailed, "the kernel that answered has release *"),
    ),
    basic(
        "taint.source",
        "the source is tainted",
        "options:0:sysctl.kernel.tainted=512",
        Expected::tainted(&["source: taint 512 (W)"]),
    ),
    basic(
        "taint.target",
        "the target is tainted",
        "options:1:sysctl.kernel.tainted=16384",
        Expected::tainted(&["target: taint 16384 (L)"]),
    ),
    basic(
        "log.oom-kill-in-the-source",
        "the source kills a process to get memory",
        "oom-kill:preserve",
        Expected::tainted(&["source: Out of memory: Killed process * (luqual-agent) *oom_score_adj:1000"]),
    ),
    basic(
        "log.oom-kill-in-the-target",
        "the target kills a process to get memory",
        "oom-kill:verify",
        Expected::tainted(&["target: Out of memory: Killed process * (luqual-agent) *oom_score_adj:1000"]),
    ),
    basic(
        "log.unseen-at-the-kexec",
        "the source kills a process to get memory after it was last asked, and its console shows nothing",
        "oom-kill-unseen:kexec",
        Expected::tainted(&["source: Out of memory: Killed process * (luqual-agent) *oom_score_adj:1000"]),
    ),
    basic(
        "kernel.source-without-handover",
        "the source runs with kho=off",
        "options:0:kho=off",
        Expected::ended(Refused, "open: ENOENT (/dev/liveupdate, though the kernel is built with LUO)"),
    ),
    basic(
        "kernel.target-without-handover",
        "the target runs with kho=off",
        "options:1:kho=off",
        Expected::ended(Lost, "the target has no /dev/liveupdate*"),
    ),
    basic(
        "kernel.target-without-live-update",
        "the target runs with liveupdate=off",
        "options:1:liveupdate=off",
        Expected::ended(Lost, "the target has no /dev/liveupdate*"),
    ),
    basic(
        "kernel.target-panics-in-boot",
        "the target panics before its first process",
        "options:1:rdinit=/nowhere",
        Expected::ended(Crashed, "Kernel panic - not syncing: *"),
    ),
    of(
        "memfd.swapped",
        "kernel.target-without-swap",
        "the target lacks the swap that the workload needs after the update",
        "options:1:zram.num_devices=0",
        Expected::ended(Lost, "the target lacks *"),
    ),
    basic(
        "control.clock-step",
        "the wall clock of the source is set an hour forward: nobody may find it",
        "guest:clock-step",
        Expected::nothing(),
    ),
    basic(
        "control.option",
        "the target runs with a harmless option: nobody may find it",
        "options:1:nokaslr",
        Expected::nothing(),
    ),
    basic("run.two-at-once", "two runs begin at once in one folder", "", Expected::refused_run("*already has a run"))
        .by(Injection::TwoRunsAtOnce),
    basic(
        "run.no-room",
        "a machine needs more memory than there is",
        "",
        Expected::refused_run("*needs 1424 MiB of memory, and the run may use 64 MiB"),
    )
    .by(Injection::NoRoom),
];
