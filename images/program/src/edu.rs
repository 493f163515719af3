// QEMU's educational device (docs/specs/edu.rst), as the program and the agent drive it: register offsets and commands.

/// The identification. It has four bytes, as all registers below [`SOURCE`].
pub const IDENTIFICATION: usize = 0x00;
/// Reads as the inverse of what was written.
pub const LIVENESS: usize = 0x04;
/// The interrupts that are raised.
pub const STATUS_INTERRUPT: usize = 0x24;
/// Clears the interrupts whose bits are written.
pub const ACKNOWLEDGE: usize = 0x64;
/// The source address of a transfer. It has eight bytes, as all registers from here on.
pub const SOURCE: usize = 0x80;
/// The destination address.
pub const DESTINATION: usize = 0x88;
/// The number of bytes.
pub const COUNT: usize = 0x90;
/// The command: [`START`] with other bits. The device clears [`START`] at the end of the transfer.
pub const COMMAND: usize = 0x98;

/// Starts a transfer.
pub const START: u64 = 1;
/// The direction is from the buffer to memory.
pub const TO_MEMORY: u64 = 2;
/// The device interrupts at the end.
pub const INTERRUPT: u64 = 4;

/// The identification of version 1.0.
pub const EDU: u32 = 0x0100_00ed;
/// The address of its buffer, which only its DMA can access.
pub const BUFFER: u64 = 0x40000;
/// The bytes of one transfer. The buffer has a page, but QEMU up to 9 aborts at a transfer that reaches its end
/// (hw/misc/edu.c, edu_check_range).
pub const MOVED: usize = 4096 - 8;
