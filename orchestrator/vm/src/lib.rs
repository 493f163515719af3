//! QEMU: its argument list, QMP, the console, the RAM file, and how a VM ends.
