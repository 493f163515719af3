//! Timers, and the clocks in which a processor sees its own pause.

use crate::account::{DOORBELL, Word};
use crate::cpu::{CLOCK, Cpu};
use crate::registers::{APIC_COUNT, write_msr};
use core::arch::asm;
use core::arch::x86_64::_rdtsc;

/// The time of a timer in the regular work. KVM's APIC timer counts nanoseconds (APIC_BUS_CYCLE_NS) when it is not divided.
pub(super) const SHORT: u64 = 10_000_000;

/// The time of a timer in a hold: it expires after the pause, and before anybody stops waiting for it.
pub(super) const LONG: u64 = 500_000_000;

impl Cpu {
    /// Starts the timer.
    pub(super) fn begin_timer(&self, after: u64) {
        self.add(Word::TimersBegun);
        write_msr(APIC_COUNT, after);
    }

    /// Waits until the timer that was started has expired. It does not halt: when QEMU's emulation of SVM leaves the machine
    /// between STI and HLT, it lets an interrupt in there, and the HLT that should wait for it never ends.
    pub(super) fn wait_for_timer(&self) {
        while self.get(Word::TimersBegun) != self.get(Word::TimersCome) {
            // SAFETY: a port that only the monitor uses.
            unsafe { asm!("out dx, al", in("dx") DOORBELL, in("al") 0_u8) }
            self.add(Word::Beat);
        }
    }

    /// Reads KVM's clock (Documentation/virt/kvm/x86/msr.rst, `struct pvclock_vcpu_time_info`), and the time stamp counter that it
    /// was computed from.
    pub(super) fn clocks(&self) -> (u64, u64) {
        let page = self.page(CLOCK);
        // SAFETY: KVM writes this page; it is read again if KVM has written meanwhile.
        unsafe {
            let version = || (page as *const u32).read_volatile();
            loop {
                let begun = version();
                let tsc = _rdtsc();
                let then = ((page + 8) as *const u64).read_volatile();
                let time = ((page + 16) as *const u64).read_volatile();
                let factor = u64::from(((page + 24) as *const u32).read_volatile());
                let shift = ((page + 28) as *const i8).read_volatile();
                let ticks = tsc.wrapping_sub(then);
                let ticks = if shift < 0 { ticks >> -shift } else { ticks << shift };
                if begun % 2 == 0 && begun == version() {
                    self.set(Word::TscFactor, factor);
                    self.set(Word::TscShift, shift as i64 as u64);
                    return (time.wrapping_add((u128::from(ticks) * u128::from(factor) >> 32) as u64), tsc);
                }
            }
        }
    }

    /// Reads both clocks, and counts if one went backwards.
    pub(super) fn look_at_clocks(&self) -> (u64, u64) {
        let (clock, tsc) = self.clocks();
        if clock < self.get(Word::Clock) {
            self.add(Word::ClockBack);
        }
        if tsc < self.get(Word::Tsc) {
            self.add(Word::TscBack);
        }
        self.set(Word::Clock, clock);
        self.set(Word::Tsc, tsc);
        (clock, tsc)
    }
}
