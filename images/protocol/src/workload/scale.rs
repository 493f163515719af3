//! Large numbers and sizes. The record of a cell has the time of each step.

use super::entry::{self, Update, Workload};

const SESSIONS: &str = "include/linux/kho/abi/block.h: sessions are handed over in linked blocks of 51";
const FILES: &str = "include/linux/kho/abi/block.h: a session's files are handed over in linked blocks of 63";

/// Five updates, each with another size.
const CURVE: Update = Update { hops: 5, ..Update::PLAIN };

/// An entry with a boot of its own, since it counts everything in the machine.
const fn w(name: &'static str, asserts: &'static str, rule: &'static str, finds: &'static str) -> Workload {
    entry::w(name, asserts, rule, finds).alone()
}

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "scale.bytes-528m",
        "a memfd of 528 MiB, more than half of the machine's memory, keeps every byte",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(); kernel/liveupdate/kexec_handover.c, kho_preserve_vmalloc()",
        "a list of pages that needs a list of its own which is longer than a page",
    )
    .with_memory(1024),
    w(
        "scale.bytes-6g",
        "a memfd of 6 GiB, most of a machine with 8 GiB, keeps every byte",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(); kernel/liveupdate/kexec_handover.c, kho_preserve_vmalloc()",
        "an address or a number of pages that is cut to 32 bits, and memory of another node than the first",
    )
    .long()
    .with_memory(8192),
    w(
        "scale.curve-bytes",
        "memfds of 1, 8, 64, 256 and 512 MiB, an update each, keep every byte; the record has how long each step takes",
        "mm/memfd_luo.c, memfd_luo_preserve_folios() and memfd_luo_retrieve_folios(): once for each folio",
        "a size between the others at which a list of pages ends",
    )
    .long()
    .by(CURVE),
    w(
        "scale.curve-files",
        "1, 10, 100, 1000 and 10000 memfds in one session, an update each, come back, each its own; the record has how long each step takes",
        FILES,
        "a bound that a thousand files do not meet",
    )
    .long()
    .by(CURVE),
    w(
        "scale.curve-sessions",
        "1, 10, 100, 1000 and 10000 sessions, an update each, come back; the record has how long each step takes",
        SESSIONS,
        "a bound that 800 sessions do not meet",
    )
    .long()
    .by(CURVE),
    w(
        "scale.files-1000",
        "1000 memfds in one session come back, each its own",
        FILES,
        "a number of blocks that has a bound",
    ),
    w(
        "scale.files-126",
        "126 memfds in one session, and 63 in another, come back, each its own, though one more was refused: blocks that are full to the last place",
        FILES,
        "a last place that is not used or not read",
    ),
    w(
        "scale.files-127",
        "127 memfds in one session, and 64 in each of eight others, come back, each its own: one more than fits into a block",
        FILES,
        "a block that is not linked",
    ),
    w(
        "scale.sessions-51",
        "51 sessions come back: a block that is full to the last place",
        SESSIONS,
        "a last place that is not used or not read",
    ),
    w(
        "scale.sessions-51-duplicate",
        "51 sessions come back when a 52nd was refused for its name: nothing is left of it",
        "kernel/liveupdate/luo_session.c, luo_session_insert(): a name that is taken is refused",
        "an empty block that is handed over, which the target takes for damage (kho_block_set_restore())",
    ),
    w(
        "scale.sessions-52",
        "52 sessions come back: one more than fits into a block",
        SESSIONS,
        "a block that is not linked",
    ),
    w("scale.sessions-800", "800 sessions come back", SESSIONS, "a number of blocks that has a bound"),
    w(
        "scale.sessions-closed",
        "after 200 sessions that came and went, what is kept is handed over",
        "kernel/liveupdate/luo_session.c, luo_session_remove(): blocks shrink with the sessions",
        "a count that only grows",
    ),
    w(
        "scale.sessions-shrunk",
        "of 52 sessions one is closed, and 51 come back: a block that is empty again is not handed over",
        "kernel/liveupdate/kho_block.c, kho_block_set_shrink()",
        "a block that is freed and stays linked, or that stays and is empty",
    ),
];
