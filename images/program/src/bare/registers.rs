//! The registers of a processor, and the patterns for those MSRs that the program does not use itself.

use core::arch::asm;

/// MSRs: Intel SDM volume 4; those of the x2APIC: volume 3, table 11-6; KVM's: Documentation/virt/kvm/x86/msr.rst.
pub(super) const APIC_BASE: u32 = 0x1b;
pub(super) const APIC_TASK_PRIORITY: u32 = 0x808;
pub(super) const APIC_EOI: u32 = 0x80b;
pub(super) const APIC_SPURIOUS: u32 = 0x80f;
pub(super) const APIC_TIMER: u32 = 0x832;
pub(super) const APIC_COUNT: u32 = 0x838;
pub(super) const APIC_DIVIDE: u32 = 0x83e;
pub(super) const APIC_SELF: u32 = 0x83f;
pub(super) const FS_BASE: u32 = 0xc000_0100;
pub(super) const SYSTEM_TIME: u32 = 0x4b56_4d01;

/// MSRs that the program does not use, each with a function from a seed to a valid value.
pub(super) const PATTERNED: [(u32, fn(u64) -> u64); 11] = [
    (0xc000_0081, |seed| seed),                         // STAR
    (0xc000_0082, canonical),                           // LSTAR
    (0xc000_0083, canonical),                           // CSTAR
    (0xc000_0084, |seed| seed & 0xffff_ffff),           // SFMASK
    (0xc000_0101, canonical),                           // GS_BASE
    (0xc000_0102, canonical),                           // KERNEL_GS_BASE
    (0xc000_0103, |seed| seed & 0xffff_ffff),           // TSC_AUX
    (0x174, |seed| seed & 0xfff8),                      // SYSENTER_CS
    (0x175, |seed| seed & 0x7fff_ffff),                 // SYSENTER_ESP; AMD has 32 bits of it
    (0x176, |seed| seed & 0x7fff_ffff),                 // SYSENTER_EIP
    (0x277, |seed| 0x0007_0406_0007_0406 ^ (seed & 1)), // PAT
];

/// A canonical address from a seed.
pub(super) fn canonical(seed: u64) -> u64 {
    seed & 0x7fff_ffff_ffff
}

/// The numbers of the control registers that are checked; the last stands for XCR0.
pub(super) const CONTROL_NUMBERS: [u64; 6] = [0, 2, 3, 4, 8, 0x100];

/// Reads a model-specific register.
pub(super) fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every MSR that is read here exists.
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
pub(super) fn write_msr(number: u32, value: u64) {
    // SAFETY: every MSR that is written here exists and takes these values.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// Reads the control registers, in the order of [`CONTROL_NUMBERS`].
pub(super) fn read_control() -> [u64; 6] {
    let (cr0, cr2, cr3, cr4, cr8);
    // SAFETY: reading them changes nothing.
    unsafe {
        asm!("mov {}, cr0", out(reg) cr0);
        asm!("mov {}, cr2", out(reg) cr2);
        asm!("mov {}, cr3", out(reg) cr3);
        asm!("mov {}, cr4", out(reg) cr4);
        asm!("mov {}, cr8", out(reg) cr8);
    }
    [cr0, cr2, cr3, cr4, cr8, xcr0()]
}

/// Reads XCR0, which says what parts of the extended state are enabled. The monitor sets it: the emulation of SVM in QEMU up to 10
/// does not intercept XSETBV (target/i386/tcg/translate.c), so an emulated monitor would not notice that the program sets it.
pub(super) fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is on.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a debug register.
pub(super) fn read_debug(number: u64) -> u64 {
    let value;
    // SAFETY: reading them changes nothing.
    unsafe {
        match number {
            0 => asm!("mov {}, dr0", out(reg) value),
            1 => asm!("mov {}, dr1", out(reg) value),
            2 => asm!("mov {}, dr2", out(reg) value),
            _ => asm!("mov {}, dr3", out(reg) value),
        }
    }
    value
}

/// Writes a debug register.
pub(super) fn write_debug(number: u64, value: u64) {
    // SAFETY: no breakpoint is turned on.
    unsafe {
        match number {
            0 => asm!("mov dr0, {}", in(reg) value),
            1 => asm!("mov dr1, {}", in(reg) value),
            2 => asm!("mov dr2, {}", in(reg) value),
            _ => asm!("mov dr3, {}", in(reg) value),
        }
    }
}
