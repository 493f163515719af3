//! The lifetime of preserved state: processes that end before, during and after an update.

use super::entry::{Update, Workload, w};

const PLAIN: Update = Update::PLAIN;
const TWICE: Update = Update { hops: 2, ..PLAIN };

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "lifecycle.broker-hands-over",
        "a broker that gives its session to its successor and is killed takes nothing with it",
        "kernel/liveupdate/luo_session.c: a session lives as long as its open file; unix(7), SCM_RIGHTS",
        "a session that is bound to the process which created it",
    ),
    w(
        "lifecycle.broker-killed",
        "a broker that is killed after preserve takes its session with it: the memfd is as any other again, and the target has no session",
        "kernel/liveupdate/luo_session.c, luo_session_release(), from the exit of the last holder",
        "a session of a dead process that is handed over",
    ),
    w(
        "lifecycle.hundred",
        "a hundred updates in a row, in which each kernel hands on what it was given, leave as much memory near their end as after the second",
        "kernel/liveupdate/kexec_handover.c, kho_restore_page(), and luo_file.c, luo_file_finish(): all that was kept back for a file is memory again",
        "memory that each update loses a little of, which ten do not show",
    )
    .alone()
    .long()
    .by(Update { hops: 100, ..PLAIN }),
    w(
        "lifecycle.ten-times",
        "ten updates in a row, in which each kernel hands on what it was given, change no byte",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): a finished file is as any other, and can be preserved again",
        "what is left of an update and is in the way of the ninth after it",
    )
    .alone()
    .by(Update { hops: 10, ..PLAIN }),
    w(
        "lifecycle.there-and-back",
        "an update into the target and one back into the source, which hand on the same memfds, change no byte",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): a finished file is as any other, and can be preserved again",
        "pages that were restored and cannot be preserved once more",
    )
    .by(TWICE),
    w(
        "lifecycle.unclaimed",
        "a session that nobody asks for in the target is gone after the next update, and its memory is free again",
        "include/uapi/linux/liveupdate.h, LIVEUPDATE_SESSION_FINISH: resources will be reset during the next live update cycle",
        "memory that no kernel after it ever gets back",
    )
    .alone()
    .by(TWICE),
    w(
        "lifecycle.unpreserved-is-free",
        "memory that was preserved and given back before the kexec is free in the target",
        "kernel/liveupdate/kexec_handover.c, kho_unpreserve_folio()",
        "memory that the target keeps for nobody",
    )
    .alone(),
    w(
        "lifecycle.vmm-exits",
        "a process that exits before the kexec, with the only descriptor of its session, hands nothing over",
        "kernel/liveupdate/luo_session.c, luo_session_release()",
        "a session that nobody holds and that is handed over",
    ),
    w(
        "lifecycle.vmm-killed",
        "the memfd of a process that is killed before the kexec comes back, if another holds the session that preserves it",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): LUO is a co-owner of the file",
        "a memfd that ends with who made it",
    ),
];
