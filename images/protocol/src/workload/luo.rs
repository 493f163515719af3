//! Sessions and tokens: the contract of /dev/liveupdate.

use super::entry::{Requirement, Workload, w};

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "luo.cloexec",
        "descriptors of sessions and of retrieved memfds are closed by execve(2)",
        "kernel/liveupdate/luo_core.c and luo_session.c: get_unused_fd_flags(O_CLOEXEC)",
        "a descriptor that every program inherits which the agent starts",
    ),
    w(
        "luo.close-is-finish",
        "closing a retrieved session finishes it: its name is gone, and what was retrieved of it stays",
        "kernel/liveupdate/luo_session.c, luo_session_release(): an incoming session is finished when it is closed",
        "a session that stays in the list of incoming ones when it is closed",
    ),
    w(
        "luo.create-in-target",
        "in the target, names of incoming sessions are free for new ones",
        "kernel/liveupdate/luo_session.c: incoming and outgoing sessions are two lists",
        "one list for both, so that an update can never be followed by one with the same names",
    ),
    w(
        "luo.device-mode",
        "/dev/liveupdate belongs to root, with mode 0600, on both sides: nobody else can open it",
        "kernel/liveupdate/luo_core.c: a miscdevice without a mode of its own (drivers/char/misc.c, drivers/base/core.c)",
        "a device that anybody can open",
    ),
    w(
        "luo.dirty-memory",
        "sessions and files in memory that was in use before are handed over as in new memory",
        "kernel/liveupdate/kexec_handover.c, kho_alloc_preserve(): allocate, zero, and preserve",
        "what is handed over with something in it that was there before",
    ),
    w(
        "luo.fd-closed",
        "a memfd whose descriptors are all closed, while its session is open, is handed over",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): LUO holds the file until it is unpreserved",
        "a reference to the file that is not taken",
    ),
    w(
        "luo.fd-limit",
        "a retrieve that fails for want of a descriptor (EMFILE) takes nothing away: asked again, all is there",
        "kernel/liveupdate/luo_session.c, luo_session_retrieve_fd() and luo_core.c: the descriptor is taken first",
        "a session or file that counts as given out, though the call failed",
    ),
    w(
        "luo.finish-in-source",
        "an outgoing session cannot be finished (EINVAL), and is handed over after that was tried",
        "kernel/liveupdate/luo_session.c, luo_ioctl_type_valid(): finish is for incoming sessions",
        "a finish that drops what is to be handed over",
    )
    .warns_where_not_kept(),
    w(
        "luo.finish-partial",
        "a session can be finished when one of its two memfds was retrieved: that one stays whole, and the other's memory is given back",
        "kernel/liveupdate/luo_file.c, luo_file_finish(); mm/memfd_luo.c, memfd_luo_finish(): what was not retrieved is freed",
        "a finish that frees what was retrieved, or keeps what was not",
    ),
    w(
        "luo.finish-twice",
        "a second finish of the same session is no error",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): a file set without files is finished at once",
        "a finish that touches what it has freed",
    ),
    w(
        "luo.finish-unretrieved",
        "a session can be finished with nothing retrieved: the memory of its memfds is given back",
        "include/uapi/linux/liveupdate.h, struct liveupdate_session_finish: resources are released; mm/memfd_luo.c, memfd_luo_finish()",
        "memory that nobody has asked for and that is held for ever",
    ),
    w(
        "luo.fuzz",
        "two seconds of random requests to the device and to sessions, on both sides, break nothing: what is preserved after them comes back",
        "include/uapi/linux/liveupdate.h: whatever is wrong with a request has an errno",
        "an argument that nobody thought of",
    )
    .alone(),
    w(
        "luo.get-name",
        "LIVEUPDATE_SESSION_GET_NAME tells a session's whole name, 63 bytes long, before and after the kexec",
        "include/uapi/linux/liveupdate.h, struct liveupdate_session_get_name",
        "a name that is cut or not terminated",
    ),
    w(
        "luo.ioctl-foreign",
        "a command of another type, with LUO's numbers, is refused (ENOTTY) by the device and by sessions",
        "include/uapi/linux/liveupdate.h: ENOTTY, the IOCTL number itself is not supported at all",
        "commands that are told apart by their number alone",
    ),
    w(
        "luo.ioctl-unknown",
        "commands with numbers that LUO does not have are refused with ENOTTY, as its header says",
        "include/uapi/linux/liveupdate.h: ENOTTY, the IOCTL number itself is not supported at all",
        "a program that cannot tell a command which the kernel does not know from an argument that is wrong",
    )
    .kept_by_none(),
    w(
        "luo.memory-closed",
        "when a session was finished and all descriptors of a retrieved memfd are closed, its memory is given back",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): LUO drops its reference to the file",
        "a reference that is left, and the memory with it",
    ),
    w(
        "luo.memory-released",
        "when a session is closed in the source, and the memfd after it, the memory is given back",
        "kernel/liveupdate/luo_file.c, luo_file_unpreserve_files(); mm/memfd_luo.c, memfd_luo_unpreserve_folios()",
        "a reference or a pin that is left of an update which was given up",
    ),
    w(
        "luo.name-duplicate",
        "a name is taken while its session is open (EEXIST), and free when it is closed",
        "kernel/liveupdate/luo_session.c, luo_session_insert() and luo_session_remove()",
        "two sessions with one name, or a name that is never free again",
    ),
    w(
        "luo.name-empty",
        "a session without a name is refused (EINVAL)",
        "kernel/liveupdate/luo_session.c, luo_session_create()",
        "a session that nobody can name",
    ),
    w(
        "luo.name-longest",
        "two sessions whose names have 63 bytes and differ in the last one are two sessions, and each comes back",
        "include/uapi/linux/liveupdate.h: LIVEUPDATE_SESSION_NAME_LENGTH, 64 with the NUL",
        "names that are compared or kept up to a byte less",
    ),
    w(
        "luo.name-prefix",
        "sessions whose names begin with each other's are told apart",
        "kernel/liveupdate/luo_session.c, luo_session_retrieve(): whole names are compared",
        "names that are compared up to the shorter one's end",
    ),
    w(
        "luo.name-unterminated",
        "a name of 64 bytes without a NUL is refused (EINVAL)",
        "kernel/liveupdate/luo_session.c, luo_session_create()",
        "a length that is off by one",
    ),
    w(
        "luo.no-argument",
        "a null pointer as argument is refused (EFAULT) by the device and by sessions",
        "kernel/liveupdate/luo_core.c, luo_ioctl(), and luo_session.c, luo_session_ioctl(): get_user() of the size",
        "a kernel that reads where nothing is",
    ),
    w(
        "luo.preserve-after-close",
        "a memfd whose session was closed can be preserved in another one, and comes back from that",
        "kernel/liveupdate/luo_file.c, luo_file_unpreserve_files(): the file is erased from the preserved ones",
        "a file that counts as preserved for ever",
    ),
    w(
        "luo.preserve-bad-fd",
        "a descriptor that is none is refused (EBADF), and its token stays free",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): fget()",
        "a token that is used up by a failure",
    ),
    w(
        "luo.preserve-elsewhere",
        "a memfd that one session preserves is refused by a second one (EBUSY)",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -EBUSY if the file descriptor is already preserved by another session",
        "a check of one session alone",
    )
    .warns_where_not_kept(),
    w(
        "luo.preserve-in-target",
        "an incoming session preserves nothing (EINVAL), and gives out what it has after that was tried",
        "kernel/liveupdate/luo_session.c, luo_ioctl_type_valid(): preserve is for outgoing sessions",
        "files that are mixed with those of the kernel before",
    )
    .warns_where_not_kept(),
    w(
        "luo.preserve-reopened",
        "a memfd that is preserved is refused (EBUSY) when it comes again by another open file",
        "mm/memfd_luo.c, memfd_luo_get_id(): a memfd is its inode",
        "two descriptions of the same memory, each with pages that the other has freed",
    )
    .warns_where_not_kept(),
    w(
        "luo.preserve-retrieved",
        "a retrieved memfd can be preserved for the next update when its session was finished, and not before (EBUSY)",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file() and luo_file_finish(): a file counts as preserved until it is finished",
        "a file that two sessions own, or that can never be preserved again",
    ),
    w(
        "luo.preserve-twice",
        "a memfd is preserved once: a second token for it in the same session is refused (EBUSY), and not there in the target",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -EBUSY",
        "two tokens for one memfd",
    )
    .warns_where_not_kept(),
    w(
        "luo.recreated",
        "of a session that was closed and created again, the target has what the second one preserved",
        "kernel/liveupdate/luo_session.c, luo_session_release()",
        "an older session with the same name that was not removed",
    ),
    w(
        "luo.released",
        "closing a session gives its memfd back: it can grow, shrink and be punched again, and no byte has changed",
        "mm/memfd_luo.c, memfd_luo_unpreserve(): shmem_freeze(inode, false)",
        "a memfd that stays frozen after an update that was given up",
    ),
    w(
        "luo.reserved",
        "a finish with a reserved field that is not zero is refused (EINVAL), and the session can be used after it",
        "include/uapi/linux/liveupdate.h, struct liveupdate_session_finish: must be zero",
        "a field that can never get a meaning",
    ),
    w(
        "luo.response-create",
        "a session that cannot be told to its creator (EFAULT) is not there: its name is free",
        "kernel/liveupdate/luo_core.c, luo_ioctl_create_session(): fput() when the response fails",
        "a session that nobody holds and nobody can close",
    ),
    w(
        "luo.response-fd",
        "a memfd that cannot be told to who asks for it (EFAULT) is given out when it is asked for again",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): a file that was retrieved is given out again",
        "a memfd that is lost by a failed call",
    ),
    w(
        "luo.response-session",
        "a session that cannot be told to who asks for it (EFAULT) is given out when it is asked for again",
        "include/uapi/linux/liveupdate.h, LIVEUPDATE_IOCTL_RETRIEVE_SESSION: a failed call has no effect that it speaks of",
        "a session, with all that it preserves, that is finished because a call failed",
    )
    .kept_by_none(),
    w(
        "luo.retrieve-after-finish",
        "a token of a finished session is gone (ENOENT), and what was retrieved by it stays whole",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): LUO drops its own reference alone",
        "a file that is freed under its owner",
    ),
    w(
        "luo.retrieve-any-order",
        "sessions and tokens are given out in any order",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): file retrieval can happen in any order",
        "a list that is taken from its head",
    ),
    w(
        "luo.retrieve-failed",
        "a retrieve that failed (ENOSPC, for want of memory to commit) fails with the same errno when it is asked again, and the session can be finished",
        "include/uapi/linux/liveupdate.h, LIVEUPDATE_SESSION_RETRIEVE_FD: failed retrieves are not retried",
        "a second try with what the first has freed",
    )
    .warns_where_not_kept()
    // mm/memfd_luo.c, memfd_luo_retrieve_folios()
    .provokes(&["shmem: failed to account folio index "]),
    w(
        "luo.retrieve-in-source",
        "a session of this kernel cannot be retrieved in it (ENOENT), nor its files (EINVAL)",
        "kernel/liveupdate/luo_session.c, luo_session_retrieve(): incoming sessions; luo_ioctl_type_valid()",
        "an outgoing session that is taken for an incoming one",
    )
    .warns_where_not_kept(),
    w(
        "luo.retrieve-twice-fd",
        "a token that is asked for twice gives the same open file both times, which lives when the first is closed and the session finished",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): the operation is idempotent",
        "memory that is restored a second time",
    ),
    w(
        "luo.retrieve-twice-session",
        "a session that was retrieved and is open is refused to a second one who asks (EINVAL)",
        "kernel/liveupdate/luo_session.c, luo_session_retrieve()",
        "two owners of one session",
    ),
    w(
        "luo.second-opener",
        "/dev/liveupdate has one opener at a time (EBUSY), on both sides, and is free when that one has closed it",
        "kernel/liveupdate/luo_core.c, luo_open(): access to this device is exclusive",
        "two agents at once, or a device that can be opened once in a kernel's life",
    ),
    w("luo.session-closed",
        "a session that is closed before the kexec is not handed over, and one that is kept is",
        "kernel/liveupdate/luo_session.c, luo_session_release(): closing an outgoing session takes back its files",
        "a session that is handed over though it was given up",
    ),
    w(
        "luo.session-dup",
        "a session lives as long as any descriptor of it",
        "kernel/liveupdate/luo_session.c: it is released with its file (f_op->release)",
        "a session that ends with the first descriptor that is closed",
    ),
    w(
        "luo.session-empty",
        "a session that preserves nothing is handed over, can be retrieved and finished",
        "kernel/liveupdate/luo_file.c, luo_file_deserialize(): a file set without files",
        "an empty list that is taken for an error, and all sessions with it",
    ),
    w(
        "luo.session-link",
        "/proc/self/fd names a session's descriptor `anon_inode:[luo_session] NAME`, on both sides",
        "kernel/liveupdate/luo_session.c, luo_session_getfile()",
        "descriptors that nobody can tell apart from outside",
    ),
    w(
        "luo.session-link-long",
        "/proc/self/fd names a session's descriptor also when its name has 63 bytes",
        "kernel/liveupdate/luo_session.c, luo_session_getfile(); fs/d_path.c, dynamic_dname()",
        "a name that is too long for those who look at descriptors",
    ),
    w(
        "luo.session-unknown",
        "a session that nobody created is not found (ENOENT), and those that are there are not touched by the question",
        "include/uapi/linux/liveupdate.h, struct liveupdate_ioctl_retrieve_session: -ENOENT",
        "a question that gives out another session",
    ),
    w(
        "luo.size-long",
        "a structure that is longer than the kernel's, with zeros behind it, is taken for each command",
        "include/uapi/linux/liveupdate.h, general ioctl format: the kernel checks that any space beyond what it understands is 0",
        "a program that was built for a newer kernel and does not run on this one",
    ),
    w(
        "luo.size-long-nonzero",
        "a structure that is longer than the kernel's, with anything behind it, is refused (E2BIG), and nothing is done",
        "include/uapi/linux/liveupdate.h, general ioctl format: E2BIG",
        "a request that is done in part, and is told to be done",
    ),
    w(
        "luo.size-short",
        "a structure that is shorter than the kernel's is refused (EINVAL) for each command, and nothing is done",
        "kernel/liveupdate/luo_core.c and luo_session.c, struct luo_ioctl_op: min_size",
        "a kernel that reads behind what it was given",
    ),
    w(
        "luo.token-64-bit",
        "tokens that differ in their upper half alone are different tokens",
        "include/uapi/linux/liveupdate.h, struct liveupdate_session_preserve_fd: __aligned_u64 token",
        "tokens that are compared or kept as 32 bits",
    ),
    w(
        "luo.token-duplicate",
        "a token is used once in a session (EEXIST), and the memfd that was refused can have another",
        "kernel/liveupdate/luo_file.c, luo_token_is_used()",
        "two memfds of which one can never be asked for",
    ),
    w(
        "luo.token-unknown",
        "a token that nobody used is not found (ENOENT), and the next question for one that is there is answered",
        "include/uapi/linux/liveupdate.h: ENOENT, a provided token does not exist",
        "a question that gives out another's memory",
    ),
    w(
        "luo.unpreservable",
        "pipe, socket, epoll, eventfd, directory, character device, file in tmpfs, file in procfs, session and /dev/liveupdate are refused (ENOENT), and the session takes a memfd after each",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -ENOENT if no compatible handler is found",
        "a descriptor that is taken and cannot come back; and a kernel that learned to preserve one",
    ),
    w(
        "luo.unpreservable-hugetlb",
        "a memfd of huge pages is refused (ENOENT), and the session takes another after it",
        "mm/memfd_luo.c: memfds created with MFD_HUGETLB will be rejected",
        "pages of hugetlb that are taken for those of shmem; and a kernel that learned to preserve them",
    ),
    w(
        "luo.unpreservable-iommufd",
        "an iommufd is refused (ENOENT), and the session takes a memfd after it",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -ENOENT if no compatible handler is found",
        "a kernel that learned to preserve an iommufd, or pretends it",
    )
    .requires(&[Requirement::Luo, Requirement::Iommu]),
    w(
        "luo.unpreservable-kvm",
        "a virtual machine's descriptor is refused (ENOENT), and the session takes a memfd after it",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -ENOENT if no compatible handler is found",
        "a kernel that learned to preserve a virtual machine, or pretends it",
    )
    .requires(&[Requirement::Luo, Requirement::Kvm]),
    w(
        "luo.unpreservable-vfio",
        "a VFIO device's descriptor is refused (ENOENT), and the session takes a memfd after it",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): -ENOENT if no compatible handler is found",
        "a kernel that learned to preserve a VFIO device, or pretends it",
    )
    .requires(&[Requirement::Luo, Requirement::Vfio]),
];
