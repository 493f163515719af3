//! What a processor sets up once and checks again and again: its tables, its interrupts, its registers.

use crate::account::{DEVICE_VECTOR, PAGE, Word, Wrong, mix};
use crate::cpu::{CLOCK, Cpu, GDT, IDT, TABLES};
use crate::interrupts::{EXCEPTIONS, IPI, SPURIOUS, TIMER, came, nothing_came};
use crate::registers::{
    APIC_BASE, APIC_DIVIDE, APIC_SPURIOUS, APIC_TASK_PRIORITY, APIC_TIMER, CONTROL_NUMBERS, FS_BASE, PATTERNED,
    SYSTEM_TIME, canonical, read_control, read_debug, read_msr, write_debug, write_msr,
};
use core::arch::asm;

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl Cpu {
    /// Sets up page tables, descriptor tables, the local APIC and the patterns.
    pub(super) fn set_up(&mut self) {
        // SAFETY: this processor's own pages, in a machine that runs nothing else; every table is valid before it is used.
        unsafe {
            // The first GiB, in pages of 2 MiB: present, writable, large.
            let tables = self.page(TABLES);
            let entry = |table: u64, index: u64, value: u64| {
                ((tables + table * PAGE + index * 8) as *mut u64).write_volatile(value)
            };
            entry(0, 0, tables + PAGE | 3);
            entry(1, 0, tables + 2 * PAGE | 3);
            for index in 0..512 {
                entry(2, index, index << 21 | 0x83);
            }
            asm!("mov cr3, {}", in(reg) tables);

            // Code and data of 64-bit mode.
            let gdt = self.page(GDT) as *mut u64;
            gdt.add(1).write_volatile(0x00af_9b00_0000_ffff);
            gdt.add(2).write_volatile(0x00cf_9300_0000_ffff);
            let pointer = Pointer { limit: 23, base: gdt as u64 };
            asm!("lgdt [{}]", in(reg) &pointer);
            for (vector, handler) in EXCEPTIONS.iter().enumerate() {
                self.gate(vector as u8, *handler as *const () as u64);
            }
            self.gate(TIMER, came::<{ Word::TimersCome as usize * 8 }> as *const () as u64);
            self.gate(IPI, came::<{ Word::IpisCome as usize * 8 }> as *const () as u64);
            self.gate(DEVICE_VECTOR, came::<{ Word::DeviceCame as usize * 8 }> as *const () as u64);
            self.gate(SPURIOUS, nothing_came as *const () as u64);
            let pointer = Pointer { limit: 4095, base: self.page(IDT) };
            asm!("lidt [{}]", in(reg) &pointer);

            write_msr(FS_BASE, self.account as u64);
            write_msr(APIC_BASE, read_msr(APIC_BASE) | 1 << 10);
            write_msr(APIC_TASK_PRIORITY, 0);
            write_msr(APIC_SPURIOUS, 0x100 | u64::from(SPURIOUS));
            write_msr(APIC_DIVIDE, 0b1011);
            write_msr(APIC_TIMER, u64::from(TIMER));
            write_msr(SYSTEM_TIME, self.page(CLOCK) | 1);

            asm!("mov cr2, {}", in(reg) canonical(mix(self.seed)));
            // Blocks the vectors below 0x20, which no interrupt here uses.
            asm!("mov cr8, {}", in(reg) 1_u64);
            for number in 0..4 {
                write_debug(number, canonical(mix(self.seed ^ 0xd0 ^ number)));
            }
        }
        for (place, (msr, valid)) in PATTERNED.iter().enumerate() {
            write_msr(*msr, valid(mix(self.seed ^ place as u64)));
        }
        self.control = read_control();
        // SAFETY: every vector that can occur has its gate.
        unsafe { asm!("sti") }
    }

    /// Writes an interrupt gate.
    fn gate(&self, vector: u8, handler: u64) {
        let entry = (self.page(IDT) + u64::from(vector) * 16) as *mut u64;
        let low = handler & 0xffff | 8 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        // SAFETY: inside of this processor's table.
        unsafe {
            entry.write_volatile(low);
            entry.add(1).write_volatile(handler >> 32);
        }
    }

    /// Checks the registers that were set up and that the program does not change.
    pub(super) fn check(&self) {
        for (place, (msr, valid)) in PATTERNED.iter().enumerate() {
            self.compare(Wrong::Msr, u64::from(*msr), valid(mix(self.seed ^ place as u64)), read_msr(*msr));
        }
        for ((number, expected), observed) in CONTROL_NUMBERS.iter().zip(self.control).zip(read_control()) {
            self.compare(Wrong::Control, *number, expected, observed);
        }
        for number in 0..4 {
            let expected = canonical(mix(self.seed ^ 0xd0 ^ number));
            self.compare(Wrong::Debug, number, expected, read_debug(number));
        }
    }
}
