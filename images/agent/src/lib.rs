//! The guest side as a library; `main.rs` says as what it runs.
//!
//! The modules are listed bottom-up, in layers: a module uses only modules of its own layer and of the layers above it in this
//! list, and no two modules use each other.

// Basics.
mod errno;
mod log;
mod own;
mod tsc;
mod wait;

// Memory.
mod mapping;
mod memfd;
mod swap;

// Interfaces of the kernel.
mod hypervisor_fds;
mod initramfs;
mod kexec;
mod luo;
mod network;
mod pci;
mod vfio;

// The agent's processes beside the holder and those that answer the host.
mod cgroup;
mod channel;
mod facts;
mod helper;
mod inject;
mod modules;
mod namespaces;
mod nested_init;
mod program;
mod sandbox;
mod tick;
mod vmm;
mod writer;

// The workloads.
mod drivers;
mod workloads;

// The process that holds what the workloads preserve.
mod holder;

// Requests, and who makes them: the host over SSH, a user at a prompt, a file.
mod autorun;
mod call;
mod shell;
mod ssh;

// The roles of the agent as a process.
mod init;
mod roles;

pub use roles::run;
