//! The guest side: /init, the SSH server, and the workloads.
