//! QEMU: its arguments, QMP, the console, the RAM file, and the ends of machines.
//!
//! This crate does not know what runs in the guest.

mod accel;
mod args;
mod cgroup;
mod console;
mod emulator_fault;
mod end;
mod error;
mod follow;
mod grown;
mod holes;
mod ivshmem;
mod machine;
mod pci;
mod profile;
mod qemu;
mod qmp;
mod qtest;
mod ram;
mod scan;
mod supervise;
mod trace;
mod work;

pub use accel::{AccelChoice, AccelFound, choose as choose_accel, probe as probe_accel};
pub use args::{
    ANSWERS, CONSOLE_RAW, GDB, Launch, Mode, TRACE, arguments, command_line, file_of, frames_of, kernel_options,
    ram_files,
};
pub use cgroup::{MemoryGroups, MemoryLimit};
pub use console::{Console, Feed};
pub use emulator_fault::{fault_behind_boot_hang, fault_behind_line, needs_one_thread};
pub use end::MachineEnd;
pub use error::VmError;
pub use follow::Lines;
pub use machine::Machine;
pub use pci::PciFunction;
pub use profile::lacks as qemu_lacks;
pub use qemu::Qemu;
pub use ram::Ram;
pub use scan::Scanner;
pub use supervise::{Launcher, SUBCOMMAND, exec_with_parent};
pub use trace::{Happened, TraceEvents, Traced, parse as parse_trace};
pub use work::{CellFolder, WorkFolder, base as work_base, free_mib};
