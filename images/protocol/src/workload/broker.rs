//! A privileged broker, and virtual machine monitors that trust it and nobody else.

use super::entry::{Workload, w};

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "broker.flood",
        "a client that asks its session for a thousand useless things and is killed costs nobody else anything",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): all intermediate allocations are cleaned up before an error",
        "a failed call that leaves something in lists which all share",
    ),
    w(
        "broker.guessed-tokens",
        "a client with a session of its own reaches no token of another's, in the source and in the target",
        "kernel/liveupdate/luo_file.c: tokens are of one file set; luo_retrieve_file()",
        "a token that is looked for in all sessions",
    ),
    w(
        "broker.namespaces",
        "two clients, each root in namespaces of its own, get their memfds back, and have no more rights than before",
        "user_namespaces(7); mm/memfd_luo.c, memfd_luo_can_preserve() asks for the kind of file, not for its opener",
        "a file that is refused for the namespace in which it was opened",
    ),
    w(
        "broker.own-memfd",
        "two clients of different users get their memfds back from the broker, each its own, and can write to it",
        "unix(7), SCM_RIGHTS; kernel/liveupdate/luo_session.c, luo_session_retrieve_fd()",
        "a memfd that is given to the wrong one of two",
    ),
    w(
        "broker.restarted",
        "of a broker that is killed in the target, its successor takes over the session which a store holds, whole",
        "kernel/liveupdate/luo_session.c, luo_session_release(), with the last descriptor; luo_session_retrieve()",
        "a session that ends with the process which retrieved it",
    ),
    w(
        "broker.session-is-a-right",
        "a client without any right, to which the broker passes a session, preserves its memfd in it and retrieves it; the device it cannot open",
        "kernel/liveupdate/luo_session.c: a session is used by who has its descriptor",
        "a check of who asks, in place of what it was given",
    ),
];
