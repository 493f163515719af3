//! Interrupts and exceptions: their vectors and their handlers.

use crate::account::{Word, Wrong};
use crate::registers::APIC_EOI;
use core::arch::naked_asm;

/// The vectors of the interrupts.
pub(super) const TIMER: u8 = 0x40;
pub(super) const IPI: u8 = 0x41;
pub(super) const SPURIOUS: u8 = 0xff;

/// Counts an interrupt in the word of the account at this offset.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn came<const AT: usize>() {
    naked_asm!("inc qword ptr fs:[{at}]", "jmp {end}", at = const AT, end = sym nothing_came)
}

/// Ends an interrupt.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn nothing_came() {
    naked_asm!(
        "push rax", "push rcx", "push rdx",
        "mov ecx, {eoi}", "xor eax, eax", "xor edx, edx", "wrmsr",
        "pop rdx", "pop rcx", "pop rax",
        "iretq",
        eoi = const APIC_EOI,
    )
}

/// Counts an exception, of which the program causes none, and stops. It notes the two words on top of the stack: one of them is the
/// address of the instruction, since some exceptions push an error code.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn exception<const VECTOR: usize>() {
    naked_asm!(
        "inc qword ptr fs:[{count}]",
        "cmp qword ptr fs:[{first}], 0",
        "jne 2f",
        "mov qword ptr fs:[{which}], {vector}",
        "pop fs:[{expected}]",
        "pop fs:[{observed}]",
        "mov qword ptr fs:[{first}], {kind} + 1",
        "2:",
        "cli",
        "hlt",
        "jmp 2b",
        vector = const VECTOR,
        kind = const Wrong::Exception as usize,
        count = const (Word::Wrong as usize + Wrong::Exception as usize) * 8,
        first = const Word::FirstWrong as usize * 8,
        which = const Word::FirstWhich as usize * 8,
        expected = const Word::FirstExpected as usize * 8,
        observed = const Word::FirstObserved as usize * 8,
    )
}

pub(super) type Handler = unsafe extern "C" fn();

/// The handlers of all exceptions (Intel SDM volume 3, table 6-1).
pub(super) static EXCEPTIONS: [Handler; 22] = [
    exception::<0>,
    exception::<1>,
    exception::<2>,
    exception::<3>,
    exception::<4>,
    exception::<5>,
    exception::<6>,
    exception::<7>,
    exception::<8>,
    exception::<9>,
    exception::<10>,
    exception::<11>,
    exception::<12>,
    exception::<13>,
    exception::<14>,
    exception::<15>,
    exception::<16>,
    exception::<17>,
    exception::<18>,
    exception::<19>,
    exception::<20>,
    exception::<21>,
];
