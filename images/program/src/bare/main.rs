//! A bare-metal program for a virtual machine. It works, checks everything that a processor has against what it put there, and
//! writes an account of what it noticed. It sees its own pause in the clocks.
//!
//! Each processor runs the program alone, with pages, tables and an account of its own. In each round it reads a page, compares
//! it, adds it to a running checksum (the chain), and writes it anew. Timers expire meanwhile. When it is asked to, it holds: every
//! register has a pattern, interrupts are off, an interrupt that it sent to itself is pending, a timer is running, and it spins
//! until it is released. A pause during a hold therefore meets a known state, and the program compares every bit of what comes
//! back with it.

#![no_std]
#![no_main]

#[expect(dead_code, reason = "the rest is for whoever reads the account")]
#[path = "../account.rs"]
mod account;
#[expect(dead_code, reason = "the rest is for the agent's own driver")]
#[path = "../edu.rs"]
mod edu;

mod clocks;
mod cpu;
mod device;
mod hold;
mod interrupts;
mod registers;
mod setup;

use account::{ACCOUNTS, MAGIC, PAGE, Word, mix, page_of, word};
use clocks::SHORT;
use core::arch::{asm, global_asm};
use cpu::{Cpu, Move, OWN, OWN_SIZE, fill};

// The monitor puts the processor's number into RDI and the top of its stack into RSP, in 64-bit mode with the first GiB mapped.
global_asm!(".section .text.start, \"ax\"", ".globl _start", "_start:", "and rsp, -16", "call {run}", "2:", "hlt", "jmp 2b", run = sym run);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    stop()
}

/// Stops for ever. The monitor sees that the beat in the account no longer grows.
fn stop() -> ! {
    loop {
        // SAFETY: it only stops the processor.
        unsafe { asm!("cli", "hlt") }
    }
}

/// The work of one processor.
extern "C" fn run(number: u64) -> ! {
    let account = (ACCOUNTS + number * PAGE) as *mut u64;
    let mut cpu = Cpu { account, own: OWN + number * OWN_SIZE, seed: 0, control: [0; 6], device: Move::Nothing };
    cpu.seed = mix(cpu.get(Word::Seed) ^ number);
    cpu.set_up();
    let (pages, first, seed) = (cpu.get(Word::Pages), cpu.get(Word::First), cpu.get(Word::Seed));
    for page in 0..pages {
        fill(first + page * PAGE, |index| word(seed, page, 0, index));
        cpu.add(Word::Beat);
    }
    cpu.set(Word::Chain, seed);
    cpu.set(Word::Magic, MAGIC);
    let mut round = 0;
    loop {
        round += 1;
        let (page, before) = page_of(round, pages);
        cpu.work(page, first + page * PAGE, before, round);
        cpu.tend_device();
        cpu.set(Word::Round, round);
        cpu.add(Word::Beat);
        if round % 64 == 0 {
            cpu.look_at_clocks();
            cpu.check();
            // A timer that a hold started may still be running.
            cpu.wait_for_timer();
            cpu.begin_timer(SHORT);
            cpu.wait_for_timer();
        }
        if cpu.get(Word::HoldAsked) != 0 {
            cpu.hold();
        }
    }
}
