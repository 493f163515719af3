// QEMU's educational device (docs/specs/edu.rst), as the program and the agent drive it: offsets of registers, and what it is told.

/// What it says it is; four bytes, as all below [`SOURCE`].
pub const IDENTIFICATION: usize = 0x00;
/// Reads as the inverse of what was written.
pub const LIVENESS: usize = 0x04;
/// Which interrupts are raised.
pub const STATUS_INTERRUPT: usize = 0x24;
/// Takes those that are not to be raised any longer.
pub const ACKNOWLEDGE: usize = 0x64;
/// Where a transfer begins; eight bytes, as all from here on.
pub const SOURCE: usize = 0x80;
/// And where it goes.
pub const DESTINATION: usize = 0x88;
/// How many bytes.
pub const COUNT: usize = 0x90;
/// [`START`] and what else; [`START`] is gone when it is done.
pub const COMMAND: usize = 0x98;

/// Begins a transfer.
pub const START: u64 = 1;
/// Out of its buffer.
pub const TO_MEMORY: u64 = 2;
/// Interrupts at the end.
pub const INTERRUPT: u64 = 4;

/// The identification, of version 1.0.
pub const EDU: u32 = 0x0100_00ed;
/// Where its own buffer is, for its DMA alone.
pub const BUFFER: u64 = 0x40000;
/// How much is moved at a time, in bytes. The buffer has a page, but QEMU up to 9 aborts at a transfer that reaches its end
/// (hw/misc/edu.c, edu_check_range).
pub const MOVED: usize = 4096 - 8;
