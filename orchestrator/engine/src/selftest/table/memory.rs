//! Faults of what is preserved: contents, sizes, offsets, seals, tokens, sessions and their names.

use super::super::expected::Expected;
use super::super::fault::{SelftestFault, basic, of};

pub(super) const FAULTS: &[SelftestFault] = &[
    basic(
        "memory.only-byte",
        "a bit of a memfd of one byte is flipped, in the host's file",
        "flip:1:0:0",
        Expected::lost(&["memfd 1 content", "memfd host: pages of 1 after the kexec"]),
    ),
    basic(
        "memory.last-byte-of-a-page",
        "a bit in the last byte of a memfd of one page is flipped",
        "flip:4k:0:4095",
        Expected::lost(&["memfd 4k content", "memfd host: pages of 4k after the kexec"]),
    ),
    basic(
        "memory.page-that-is-not-full",
        "a bit is flipped in the last page of a memfd, of which one byte is used",
        "flip:1m+1:256:0",
        Expected::lost(&["memfd 1m+1 content", "memfd host: pages of 1m+1 after the kexec"]),
    ),
    basic(
        "memory.first-byte",
        "a bit in the first byte of a memfd of 64 MiB is flipped",
        "flip:64m:0:0",
        Expected::lost(&["memfd 64m content", "memfd host: pages of 64m after the kexec"]),
    ),
    basic(
        "memory.middle",
        "a bit in the middle of a memfd of 64 MiB is flipped",
        "flip:64m:8191:2048",
        Expected::lost(&["memfd 64m content", "memfd host: pages of 64m after the kexec"]),
    ),
    basic(
        "memory.last-byte",
        "a bit in the last byte of a memfd of 64 MiB is flipped",
        "flip:64m:16383:4095",
        Expected::lost(&["memfd 64m content", "memfd host: pages of 64m after the kexec"]),
    ),
    of(
        "memfd.sparse",
        "memory.filled-page-between-holes",
        "a bit is flipped in a page between two holes",
        "flip:sparse:2:7",
        Expected::lost(&["memfd sparse content", "memfd host: pages of sparse after the kexec"]),
    ),
    of(
        "memfd.sparse",
        "memory.hole",
        "a bit is flipped in a hole, for which the kernel has a page since it was preserved",
        "flip:sparse:69:7",
        Expected::lost(&["memfd sparse content", "memfd host: pages of sparse after the kexec"]),
    ),
    of(
        "memfd.huge",
        "memory.large-folio",
        "a bit is flipped in the middle of a folio of 2 MiB",
        "flip:huge:700:9",
        Expected::lost(&["memfd huge content", "memfd host: pages of huge after the kexec"]),
    ),
    of(
        "memfd.swapped",
        "memory.in-swap-later",
        "a bit is flipped in a memfd that the target swaps out and in before it is compared",
        "flip:swapped:0:0",
        Expected::lost(&["memfd swapped content", "memfd host: pages of swapped after the kexec"]),
    ),
    basic(
        "size.longer",
        "a memfd is one byte longer in the target",
        "guest:longer:4k",
        Expected::lost(&["memfd 4k size"]),
    ),
    basic(
        "size.shorter",
        "the last byte of a memfd is cut off in the target",
        "guest:shorter:1m+1",
        Expected::lost(&["memfd 1m+1 size", "memfd 1m+1 content"]),
    ),
    basic(
        "size.of-nothing",
        "a memfd of 0 bytes has one in the target",
        "guest:longer:0",
        Expected::lost(&["memfd 0 size"]),
    ),
    basic(
        "memory.hole-in-the-target",
        "the first page of a memfd is a hole in the target",
        "guest:hole:64m",
        Expected::lost(&["memfd 64m content"]),
    ),
    basic(
        "memory.content-of-another",
        "a memfd is preserved with the content of another",
        "guest:other-content:4k",
        Expected::lost(&[
            "memfd 4k content",
            "memfd host: pages of 4k before the kexec",
            "memfd host: pages of 4k after the kexec",
            "memfd host: places of 4k",
        ]),
    ),
    basic(
        "offset.in-the-source",
        "the file offset of a memfd moves by one after it was preserved",
        "guest:offset:4k",
        Expected::lost(&["memfd 4k offset"]),
    ),
    basic(
        "offset.in-the-target",
        "the file offset of a memfd moves by one after it was retrieved",
        "guest:offset-later:64m",
        Expected::lost(&["memfd 64m offset"]),
    ),
    of(
        "memfd.seals",
        "seals.one-more",
        "a memfd has one more seal in the target",
        "guest:sealed:grow",
        Expected::lost(&["seals of grow"]),
    ),
    basic(
        "tokens.swapped",
        "two memfds of a session are preserved with each other's token",
        "guest:swapped:1:4k",
        Expected::lost(&[
            "memfd host: places of 1",
            "memfd host: places of 4k",
            "memfd 1 offset",
            "memfd 1 size",
            "memfd 1 content",
            "memfd 4k offset",
            "memfd 4k size",
            "memfd 4k content",
        ]),
    ),
    basic(
        "tokens.in-another-session",
        "two memfds are preserved in each other's session",
        "guest:swapped:4k:64m",
        Expected::lost(&[
            "memfd host: places of 4k",
            "memfd host: places of 64m",
            "memfd 4k offset",
            "memfd 4k size",
            "memfd 4k content",
            "memfd 64m offset",
            "memfd 64m size",
            "memfd 64m content",
        ]),
    ),
    basic(
        "tokens.taken-for-each-other",
        "two memfds are taken for each other after they were retrieved",
        "guest:confused:1m+1:64m",
        Expected::lost(&[
            "memfd 1m+1 offset",
            "memfd 1m+1 size",
            "memfd 1m+1 content",
            "memfd 64m offset",
            "memfd 64m size",
            "memfd 64m content",
        ]),
    ),
    basic(
        "tokens.not-preserved",
        "a session is preserved without one of its memfds",
        "guest:not-preserved:4k",
        Expected::lost(&["memfd 4k retrieve"]),
    ),
    basic(
        "sessions.closed",
        "a session is closed before the update",
        "guest:session-closed:small",
        Expected::lost(&SMALL_SESSION),
    ),
    basic(
        "sessions.finished-early",
        "a session is finished in the target before the workload retrieves it",
        "guest:session-finished:small",
        Expected::lost(&SMALL_SESSION),
    ),
    basic(
        "sessions.taken",
        "a session is held by somebody else in the target",
        "guest:session-taken:small",
        Expected::lost(&[
            "session small retrieve",
            "memfd 0 retrieve",
            "memfd 1 retrieve",
            "memfd 4k retrieve",
            "session small after finish",
        ]),
    ),
    basic(
        "names.of-a-session",
        "a session is preserved by another name",
        "guest:session-renamed:small",
        Expected::lost(&SMALL_SESSION),
    ),
];

/// What fails if the session `small` of `memfd.basic` does not come back.
const SMALL_SESSION: [&str; 4] =
    ["session small retrieve", "memfd 0 retrieve", "memfd 1 retrieve", "memfd 4k retrieve"];
