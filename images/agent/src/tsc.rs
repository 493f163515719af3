//! The time stamp counter of the processor that this code runs on. It keeps counting over a kexec.
#![expect(unsafe_code, reason = "an instruction; the block says why it is sound")]

/// Reads the counter (Intel SDM volume 2, RDTSC).
pub(crate) fn read() -> u64 {
    // SAFETY: every processor of this architecture has the instruction, and it only reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}
