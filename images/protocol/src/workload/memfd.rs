//! memfds: which of their contents and properties come back.

use super::entry::{Requirement, Workload, w};

const WITH_CGROUPS: &[Requirement] = &[Requirement::Luo, Requirement::MemoryCgroups];
const NO_CGROUPS: &str = "it needs memory control groups in the target, and luqual's small kernels have none";

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "memfd.access-mode",
        "a memfd that is preserved by a descriptor which can only read comes back as one that can only read",
        "open(2), O_RDONLY; mm/memfd_luo.c speaks of memfds that are always O_RDWR, and takes others too",
        "rights that an update gives to who did not have them",
    )
    .kept_by_none(),
    w(
        "memfd.basic",
        "memfds of 0 bytes, 1 byte, 4 KiB, 1 MiB + 1 byte and 64 MiB in two sessions keep every byte, size and offset",
        "mm/memfd_luo.c (what is preserved of a memfd), include/uapi/linux/liveupdate.h (sessions and tokens)",
        "a page, a size or an offset that is not handed over",
    ),
    w(
        "memfd.blocks",
        "a memfd that came back counts as many blocks as it has pages, and none when it is cut to nothing",
        "mm/memfd_luo.c, memfd_luo_retrieve_folios(): shmem_recalc_inode()",
        "pages that are in a file and in no account",
    ),
    w(
        "memfd.cgroup-charged",
        "the memory of a memfd that came back is charged to the memory control group of the process that retrieved it",
        "mm/memfd_luo.c, memfd_luo_retrieve_folios(): mem_cgroup_charge(); Documentation/admin-guide/cgroup-v2.rst, Memory Ownership",
        "memory that no control group of the target limits",
    )
    .requires(WITH_CGROUPS)
    .only_named(NO_CGROUPS)
    .alone(),
    w(
        "memfd.cgroup-too-small",
        "of a memfd that is retrieved under a memory.max which is too small nothing stays charged and no memory is lost, and it is \
         refused for good (ENOMEM), also when the limit was raised",
        "mm/memfd_luo.c, memfd_luo_retrieve_folios(): an error frees what was not added yet; \
         include/uapi/linux/liveupdate.h: failed retrieves are not retried",
        "memory that a failed retrieve leaves to nobody",
    )
    .requires(WITH_CGROUPS)
    .only_named(NO_CGROUPS)
    .provokes(&["shmem: failed to charge folio index", "Memory cgroup out of memory: Killed process"])
    .alone(),
    w(
        "memfd.empty-grows",
        "a memfd that came back with 0 bytes can grow, and is zero where it grew",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): a file of zero size has no folios",
        "a file whose pages are looked for where none were handed over",
    ),
    w(
        "memfd.exec-mode",
        "a memfd that was made without the right to be executed (MFD_NOEXEC_SEAL) comes back without it, and can be written",
        "Documentation/userspace-api/mfd_noexec.rst; mm/memfd_luo.c: seals are preserved and re-applied on restore",
        "a seal that is put on a file of another mode, and drags other seals along (mm/memfd.c, memfd_add_seals())",
    )
    .kept_by_none(),
    w(
        "memfd.fallocated",
        "pages that were allocated and never written come back as zeros",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): a folio that is not uptodate is zeroed",
        "memory of others that becomes readable",
    ),
    w(
        "memfd.fallocated-written",
        "pages that were allocated, and written before or after they are preserved, come back as they were written",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): a folio that is not uptodate is zeroed, one that is is not",
        "a page that is zeroed after it was written",
    ),
    w(
        "memfd.free-memory-filled",
        "a memfd that came back keeps every byte while another process takes and writes all free memory, before its session is finished and after it",
        "kernel/liveupdate/kexec_handover.c, kho_preserved_memory_reserve() and kho_restore_page(); mm/memblock.c, memblock_free_all()",
        "a page that is in the memfd and free at once, and is lost when memory runs short",
    ),
    w(
        "memfd.frozen",
        "a preserved memfd cannot grow, shrink, be punched or allocated (EPERM), and can be written where it is",
        "mm/memfd_luo.c, memfd_luo_preserve(): shmem_freeze(); mm/shmem.c, SHMEM_F_MAPPING_FROZEN",
        "pages that come or go after the kernel has made its list of them",
    ),
    w(
        "memfd.huge",
        "large folios come back whole: two of 2 MiB, and a last one that the file does not fill",
        "kernel/liveupdate/kexec_handover.c, kho_preserve_folio(): a folio is handed over with its order",
        "a folio of which the first page alone is handed over",
    ),
    w(
        "memfd.huge-fallocated",
        "large folios that were allocated and never written come back as zeros",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): folio_zero_range() of the whole folio",
        "a large folio of which the first page alone is zeroed",
    ),
    w(
        "memfd.huge-split",
        "a large folio that was split by punching a hole comes back in its parts, with the hole",
        "mm/memfd_luo.c, struct memfd_luo_folio_ser: each folio has its index",
        "an index that is counted in folios instead of pages",
    ),
    w(
        "memfd.mapped-by-many",
        "what several processes write into a memfd through mappings, after it is preserved, comes back",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): pages are pinned and stay the same",
        "a page that is copied for one of them",
    ),
    w(
        "memfd.mlocked",
        "pages that are locked in memory come back, and can be written after it",
        "mlock(2); mm/memfd_luo.c, memfd_luo_preserve_folios()",
        "a page whose state as locked goes over into the target (mm/mlock.c)",
    ),
    w(
        "memfd.name",
        "a memfd that came back has no name: it is reset, as all that is not listed is",
        "mm/memfd_luo.c: only select properties are preserved, all others are reset to default; memfd_luo_retrieve()",
        "a name that is taken from memory which nobody handed over",
    )
    .kept_by_none(),
    w(
        "memfd.never-partial",
        "a memfd that was preserved, and of which another session gave back a page (before 7.1 two can preserve it), comes back whole or not at all",
        "mm/memfd_luo.c, memfd_luo_retrieve_folios(): an error for each folio that cannot be restored",
        "a memfd that comes back with holes where there was something, and no error",
    ),
    w(
        "memfd.offset-after",
        "the file offset is the one at the kexec, not the one when it was preserved",
        "mm/memfd_luo.c, memfd_luo_freeze(): the position might have changed since prepare",
        "an offset that is too old",
    ),
    w(
        "memfd.offset-far",
        "a file offset beyond 4 GiB comes back",
        "mm/memfd_luo.c, struct memfd_luo_ser: pos is 64 bits",
        "an offset that is kept as 32 bits",
    ),
    w(
        "memfd.owner",
        "a memfd that came back belongs to who retrieved it, with the default mode",
        "mm/memfd_luo.c: all other properties are reset to default",
        "an owner or a mode that is left from who knows whom",
    ),
    w(
        "memfd.private-copy",
        "what a process writes into its private mapping is not in the memfd that comes back",
        "mmap(2), MAP_PRIVATE",
        "a copy that is preserved instead of the page",
    ),
    w(
        "memfd.read-faulted",
        "holes that were read through a mapping, before or after they are preserved, come back as zeros, and what is between them as it was",
        "mm/memfd_luo.c: holes are filled by allocating pages for them; memfd_luo_preserve_folios()",
        "a page that was read and is not in the list",
    ),
    w(
        "memfd.reclaimable",
        "memory that came back counts as the machine's again, and is on the lists from which reclaim takes",
        "kernel/liveupdate/kexec_handover.c, kho_restore_page(): adjust_managed_page_count(); mm/memfd_luo.c: folio_add_lru()",
        "memory that the target has and does not know of, or can never swap out",
    ),
    w(
        "memfd.reclaimed",
        "pages that are taken out of memory after they came back (MADV_PAGEOUT) lose nothing",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): a clean folio can be freed by reclaim, so that all are marked dirty",
        "a page that the target takes for one which it can have again from somewhere",
    ),
    w(
        "memfd.seal-after",
        "a seal that is added after the memfd is preserved is there in the target",
        "mm/memfd_luo.c: file seals set on the memfd are preserved and re-applied on restore",
        "a promise to another process that an update breaks",
    )
    .kept_by_none(),
    w(
        "memfd.seal-exec",
        "a preserved memfd that can be executed cannot get F_SEAL_EXEC, which would forbid writing to pages that are pinned (EBUSY)",
        "mm/memfd.c, memfd_add_seals(): F_SEAL_EXEC implies the seals against writing, which wait for pins",
        "a seal against writing under somebody who writes",
    ),
    w(
        "memfd.sealing-allowed",
        "a memfd that can be sealed can be sealed after it came back, and one that cannot cannot",
        "fcntl(2), F_ADD_SEALS; mm/memfd_luo.c: the seals are preserved, F_SEAL_SEAL among them",
        "a right to seal that comes or goes",
    ),
    w(
        "memfd.seals",
        "each seal comes back: seal, shrink, grow, write, future-write",
        "mm/memfd_luo.c: seals are preserved and re-applied on restore; include/linux/kho/abi/memfd.h, MEMFD_LUO_ALL_SEALS",
        "a seal that is not handed over",
    ),
    w(
        "memfd.seals-enforced",
        "what a seal forbids is forbidden (EPERM) after it came back, and what it does not forbid is done",
        "fcntl(2), file sealing",
        "a seal that is told and not kept",
    ),
    w(
        "memfd.sparse",
        "holes that nobody read come back as zeros, at the start, in the middle and at the end, and what is between them as it was",
        "mm/memfd_luo.c: holes in the file are filled by allocating pages for them during preservation",
        "a page that comes back at the place of a hole",
    ),
    w(
        "memfd.swapped",
        "a memfd that came back goes into swap, in small folios and large ones, and comes out of it whole",
        "mm/shmem.c, shmem_writeout() and shmem_unuse(); mm/memfd_luo.c, memfd_luo_retrieve_folios()",
        "a memfd that the target keeps as if it was locked, or whose pages it does not find again in swap",
    ),
    w(
        "memfd.swapped-before",
        "a memfd of which half is in swap when it is preserved comes back whole",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): pinning also moves swapped out folios back to memory",
        "a page in swap that is taken for a hole",
    ),
    w(
        "memfd.tail",
        "behind the end of a memfd that came back there is nothing of others: it reads as zeros when it grows",
        "ftruncate(2): the extended part reads as null bytes; mm/shmem.c",
        "memory of others that becomes readable behind the end",
    ),
    w(
        "memfd.tmpfs-unlinked",
        "a file in tmpfs without a name is preserved as a memfd is",
        "mm/memfd_luo.c, memfd_luo_can_preserve(): a shmem file without links",
        "a file that is taken by its kind and restored as another",
    ),
    w(
        "memfd.too-large",
        "a memfd of 16 TiB and a page is refused (EFBIG), and can be preserved when it was cut to a size that can be",
        "mm/memfd_luo.c, memfd_luo_preserve(): refuse larger files to avoid silently preserving only a prefix",
        "a file of which the beginning alone is preserved; and what a failure leaves behind",
    ),
    w(
        "memfd.used",
        "a memfd that came back is used as any other: written through a descriptor and a mapping, grown, shrunk and punched, before and after its session is finished",
        "mm/memfd_luo.c, memfd_luo_retrieve(): the file is a new one, which is not frozen",
        "a memfd that stays as it was handed over",
    ),
    w(
        "memfd.written-after",
        "what is written after a memfd is preserved, by write(2) and through a mapping made before and after, comes back",
        "mm/memfd_luo.c, memfd_luo_preserve_folios(): the pages themselves are handed over, not copies",
        "a copy of the content as it was when it was preserved",
    ),
    w(
        "memfd.written-until-freeze",
        "of a memfd that a process writes to until the very kexec, the target has all that was written in its order",
        "kernel/liveupdate/luo_core.c, liveupdate_reboot(): state is serialised while userspace still runs; kernel_kexec()",
        "a write that was done and is not there, though a later one is",
    ),
];
