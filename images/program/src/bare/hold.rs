//! A hold: every register gets a pattern, and what comes back is compared with it.

use crate::account::{Word, Wrong, mix};
use crate::clocks::LONG;
use crate::cpu::{Cpu, LOADED, SAVED, fill};
use crate::interrupts::IPI;
use crate::registers::{APIC_SELF, write_msr, xcr0};
use core::arch::x86_64::__cpuid_count;
use core::arch::{asm, naked_asm};

/// How many general registers a hold fills: all but RSP.
pub(super) const REGISTERS: usize = 15;

/// Where their patterns are, and what came back: byte offsets in the page of the account, behind its words.
pub(super) const PATTERNS_AT: usize = 2048;

pub(super) const CAME_BACK_AT: usize = PATTERNS_AT + REGISTERS * 8;

impl Cpu {
    /// Holds with a known state until it is released, and compares the state afterwards.
    pub(super) fn hold(&self) {
        self.wait_for_timer();
        // SAFETY: turned on again below.
        unsafe { asm!("cli") }
        let round = self.get(Word::Holds) + 1;
        let pattern = |register: u64| mix(self.seed ^ round << 8 ^ register);
        let word = |at: usize, index: usize| (self.account as usize + at + index * 8) as *mut u64;
        for index in 0..REGISTERS {
            // SAFETY: in the account's page, behind its words.
            unsafe { word(PATTERNS_AT, index).write_volatile(pattern(index as u64)) };
        }
        let (loaded, saved) = (self.page(LOADED), self.page(SAVED));
        let parts = extended();
        fill(loaded, |_| 0);
        fill(saved, |_| 0);
        for (part, from, to) in parts {
            for at in from..to {
                // SAFETY: inside of the page; what is written is valid for each part.
                unsafe { ((loaded + at) as *mut u8).write_volatile(part(pattern(0x100 + at), at)) };
            }
        }
        // SAFETY: XSTATE_BV, in the header of the area.
        unsafe { ((loaded + 512) as *mut u64).write_volatile(xcr0()) };

        self.add(Word::IpisSent);
        write_msr(APIC_SELF, u64::from(IPI));
        self.begin_timer(LONG);
        let (clock, tsc) = self.look_at_clocks();
        self.set(Word::ClockBefore, clock);
        self.set(Word::TscBefore, tsc);
        // SAFETY: both areas are pages of their own; it keeps what the calling convention wants kept.
        unsafe { spin(loaded, saved) };
        self.set(Word::Holding, 0);
        let (clock, tsc) = self.look_at_clocks();
        self.set(Word::ClockAfter, clock);
        self.set(Word::TscAfter, tsc);

        for index in 0..REGISTERS {
            // SAFETY: as above.
            let observed = unsafe { word(CAME_BACK_AT, index).read_volatile() };
            self.compare(Wrong::Register, index as u64, pattern(index as u64), observed);
        }
        for (part, from, to) in parts {
            for at in from..to {
                // SAFETY: as above.
                let observed = unsafe { ((saved + at) as *const u8).read_volatile() };
                self.compare(Wrong::Extended, at, u64::from(part(pattern(0x100 + at), at)), u64::from(observed));
            }
        }
        self.check();
        self.set(Word::HoldAsked, 0);
        self.set(Word::Release, 0);
        self.add(Word::Holds);
        // SAFETY: every vector that can come has its gate.
        unsafe { asm!("sti") }
    }
}

/// A function from a pattern and an offset in the XSAVE area to the byte there.
pub(super) type Part = fn(u64, u64) -> u8;

/// The parts of the XSAVE area that are filled, each with its start and its end (Intel SDM volume 1, 13.4 and 10.5.1).
pub(super) fn extended() -> [(Part, u64, u64); 5] {
    let any: Part = |pattern, _| pattern as u8;
    let avx = __cpuid_count(13, 2);
    let (from, size) = match xcr0() & 0b100 {
        0 => (0, 0),
        _ => (u64::from(avx.ebx), u64::from(avx.eax)),
    };
    [
        // Control word: all masked, extended precision. Status: nothing. Tags: all in use.
        (|_, at| [0x7f, 0x03, 0, 0, 0xff, 0][at as usize], 0, 6),
        // MXCSR: all masked, rounded to zero.
        (|_, at| [0x80, 0x7f, 0, 0][at as usize - 24], 24, 28),
        // Eight registers of ten bytes in sixteen.
        (|pattern, at| if (at - 32) % 16 < 10 { pattern as u8 } else { 0 }, 32, 160),
        (any, 160, 416),
        (any, from, from + size),
    ]
}

/// Loads every register, spins until it is released, and stores the registers. FS points to the account, so that no register is
/// needed for its address.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn spin(loaded: u64, saved: u64) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "push rsi",
        "mov eax, -1", "mov edx, -1",
        "xrstor64 [rdi]",
        "mov rax, fs:[{P}]", "mov rcx, fs:[{P} + 8]", "mov rdx, fs:[{P} + 16]", "mov rbx, fs:[{P} + 24]",
        "mov rbp, fs:[{P} + 32]", "mov rsi, fs:[{P} + 40]", "mov rdi, fs:[{P} + 48]", "mov r8, fs:[{P} + 56]",
        "mov r9, fs:[{P} + 64]", "mov r10, fs:[{P} + 72]", "mov r11, fs:[{P} + 80]", "mov r12, fs:[{P} + 88]",
        "mov r13, fs:[{P} + 96]", "mov r14, fs:[{P} + 104]", "mov r15, fs:[{P} + 112]",
        "mov qword ptr fs:[{holding}], 1",
        "2:",
        "pause",
        "inc qword ptr fs:[{beat}]",
        "cmp qword ptr fs:[{release}], 0",
        "je 2b",
        "mov fs:[{C}], rax", "mov fs:[{C} + 8], rcx", "mov fs:[{C} + 16], rdx", "mov fs:[{C} + 24], rbx",
        "mov fs:[{C} + 32], rbp", "mov fs:[{C} + 40], rsi", "mov fs:[{C} + 48], rdi", "mov fs:[{C} + 56], r8",
        "mov fs:[{C} + 64], r9", "mov fs:[{C} + 72], r10", "mov fs:[{C} + 80], r11", "mov fs:[{C} + 88], r12",
        "mov fs:[{C} + 96], r13", "mov fs:[{C} + 104], r14", "mov fs:[{C} + 112], r15",
        "pop rdi",
        "mov eax, -1", "mov edx, -1",
        "xsave64 [rdi]",
        // The state that the calling convention requires.
        "fninit",
        "push 0x1f80", "ldmxcsr [rsp]", "add rsp, 8",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        P = const PATTERNS_AT,
        C = const CAME_BACK_AT,
        holding = const Word::Holding as usize * 8,
        beat = const Word::Beat as usize * 8,
        release = const Word::Release as usize * 8,
    )
}
