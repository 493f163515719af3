//! A program without an operating system, in a virtual machine: it works, and gives an account of what it noticed. It sees its own
//! pause in the clocks, and checks all that a processor has against what it put there.
//!
//! Each processor runs it alone: its pages, its tables and its account are its own. In a round it reads a page, compares it, adds
//! it to the chain, and writes it anew; timers come meanwhile. When it is asked to, it holds: every register has a pattern,
//! interrupts are off, one that it sent to itself is pending and a timer is under way, and it spins until it is released. So a
//! pause that falls into a hold meets a known state, and what comes back is compared with it to the last bit.

#![no_std]
#![no_main]

#[expect(dead_code, reason = "the rest is for whoever reads the account")]
mod account;
#[expect(dead_code, reason = "the rest is for the agent's own driver")]
mod edu;

use account::{ACCOUNTS, DEVICE_VECTOR, DOORBELL, MAGIC, PAGE, Word, Wrong, mix, next, page_of, word};
use core::arch::x86_64::{__cpuid_count, _rdtsc};
use core::arch::{asm, global_asm, naked_asm};

// The monitor puts the processor's number into RDI and the top of its stack into RSP, in 64-bit mode with the first GiB mapped.
global_asm!(".section .text.start, \"ax\"", ".globl _start", "_start:", "and rsp, -16", "call {run}", "2:", "hlt", "jmp 2b", run = sym run);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    stop()
}

/// Forever; the beat of the account stops, which is seen.
fn stop() -> ! {
    loop {
        // SAFETY: with interrupts off nothing wakes it.
        unsafe { asm!("cli", "hlt") }
    }
}

/// What a processor has for itself, between the accounts and the program.
const OWN: u64 = 0x2_0000;
const OWN_SIZE: u64 = 0x1_0000;

/// Places in it, in pages.
const TABLES: u64 = 0;
const GDT: u64 = 3;
const IDT: u64 = 4;
const CLOCK: u64 = 5;
const LOADED: u64 = 6;
const SAVED: u64 = 8;
const OUT: u64 = 10;
const BACK: u64 = 11;

/// Vectors.
const TIMER: u8 = 0x40;
const IPI: u8 = 0x41;
const SPURIOUS: u8 = 0xff;

/// MSRs: Intel SDM volume 4; those of the x2APIC: volume 3, table 11-6; KVM's: Documentation/virt/kvm/x86/msr.rst.
const APIC_BASE: u32 = 0x1b;
const APIC_TASK_PRIORITY: u32 = 0x808;
const APIC_EOI: u32 = 0x80b;
const APIC_SPURIOUS: u32 = 0x80f;
const APIC_TIMER: u32 = 0x832;
const APIC_COUNT: u32 = 0x838;
const APIC_DIVIDE: u32 = 0x83e;
const APIC_SELF: u32 = 0x83f;
const FS_BASE: u32 = 0xc000_0100;
const SYSTEM_TIME: u32 = 0x4b56_4d01;

/// A timer of KVM's counts nanoseconds (APIC_BUS_CYCLE_NS) when it is not divided.
const SHORT: u64 = 10_000_000;
/// Longer than from the hold to the pause, and shorter than anybody waits for it.
const LONG: u64 = 500_000_000;

/// MSRs that nothing here uses, with what is put into each from a seed: as much as is valid.
const PATTERNED: [(u32, fn(u64) -> u64); 11] = [
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

fn canonical(seed: u64) -> u64 {
    seed & 0x7fff_ffff_ffff
}

/// General registers that a hold fills: all but RSP.
const REGISTERS: usize = 15;
/// Their patterns and what came back, by byte offsets in the page of the account, behind the account's own words.
const PATTERNS_AT: usize = 2048;
const CAME_BACK_AT: usize = PATTERNS_AT + REGISTERS * 8;

/// What a device is at.
#[derive(Clone, Copy)]
enum Move {
    Nothing,
    Out,
    Back,
}

struct Cpu {
    account: *mut u64,
    own: u64,
    seed: u64,
    /// Control registers as they were set, in the order of [`CONTROL_NUMBERS`].
    control: [u64; 6],
    device: Move,
}

/// The last one is XCR0.
const CONTROL_NUMBERS: [u64; 6] = [0, 2, 3, 4, 8, 0x100];

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
            // One that a hold began may be under way.
            cpu.wait_for_timer();
            cpu.begin_timer(SHORT);
            cpu.wait_for_timer();
        }
        if cpu.get(Word::HoldAsked) != 0 {
            cpu.hold();
        }
    }
}

impl Cpu {
    fn get(&self, word: Word) -> u64 {
        // SAFETY: inside of the account, which nobody holds a reference to.
        unsafe { self.account.add(word as usize).read_volatile() }
    }

    fn set(&self, word: Word, value: u64) {
        // SAFETY: as above.
        unsafe { self.account.add(word as usize).write_volatile(value) }
    }

    fn add(&self, word: Word) {
        self.set(word, self.get(word) + 1);
    }

    fn page(&self, place: u64) -> u64 {
        self.own + place * PAGE
    }

    /// Something is not as it should be.
    fn wrong(&self, kind: Wrong, which: u64, expected: u64, observed: u64) {
        // SAFETY: inside of the account.
        unsafe {
            let count = self.account.add(Word::Wrong as usize + kind as usize);
            count.write_volatile(count.read_volatile() + 1);
        }
        if self.get(Word::FirstWrong) == 0 {
            self.set(Word::FirstWhich, which);
            self.set(Word::FirstExpected, expected);
            self.set(Word::FirstObserved, observed);
            self.set(Word::FirstWrong, kind as u64 + 1);
        }
    }

    fn compare(&self, kind: Wrong, which: u64, expected: u64, observed: u64) {
        if expected != observed {
            self.wrong(kind, which, expected, observed);
        }
    }

    /// A round: the page is as its last round left it, joins the chain, and is written anew.
    fn work(&self, page: u64, at: u64, before: u64, round: u64) {
        let (seed, mut sum) = (self.get(Word::Seed), 0_u64);
        let mut differs = None;
        for index in 0..PAGE / 8 {
            // SAFETY: a page of the work's.
            let found = unsafe { ((at + index * 8) as *const u64).read_volatile() };
            sum = sum.wrapping_add(found);
            let expected = word(seed, page, before, index);
            if found != expected && differs.is_none() {
                differs = Some((expected, found));
            }
        }
        if let Some((expected, found)) = differs {
            self.wrong(Wrong::Page, page, expected, found);
        }
        self.set(Word::Chain, next(self.get(Word::Chain), sum));
        fill(at, |index| word(seed, page, round, index));
    }

    fn set_up(&mut self) {
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
            // Blocks what is below vector 0x20, which is nothing.
            asm!("mov cr8, {}", in(reg) 1_u64);
            for number in 0..4 {
                self.write_debug(number, canonical(mix(self.seed ^ 0xd0 ^ number)));
            }
        }
        for (place, (msr, valid)) in PATTERNED.iter().enumerate() {
            write_msr(*msr, valid(mix(self.seed ^ place as u64)));
        }
        self.control = read_control();
        // SAFETY: every vector that can come has its gate.
        unsafe { asm!("sti") }
    }

    /// An interrupt gate.
    fn gate(&self, vector: u8, handler: u64) {
        let entry = (self.page(IDT) + u64::from(vector) * 16) as *mut u64;
        let low = handler & 0xffff | 8 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        // SAFETY: inside of this processor's table.
        unsafe {
            entry.write_volatile(low);
            entry.add(1).write_volatile(handler >> 32);
        }
    }

    fn begin_timer(&self, after: u64) {
        self.add(Word::TimersBegun);
        write_msr(APIC_COUNT, after);
    }

    /// Until the timer that was begun has come. It does not halt: QEMU's emulation of SVM lets an interrupt in between STI and HLT
    /// when the machine is left there, and what waits for it then halts for ever.
    fn wait_for_timer(&self) {
        while self.get(Word::TimersBegun) != self.get(Word::TimersCome) {
            // SAFETY: the monitor's own port.
            unsafe { asm!("out dx, al", in("dx") DOORBELL, in("al") 0_u8) }
            self.add(Word::Beat);
        }
    }

    /// The clock that KVM gives: Documentation/virt/kvm/x86/msr.rst, `struct pvclock_vcpu_time_info`. With the counter that it
    /// was made from.
    fn clocks(&self) -> (u64, u64) {
        let page = self.page(CLOCK);
        // SAFETY: the page that KVM writes; it is read again when KVM wrote meanwhile.
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

    fn look_at_clocks(&self) -> (u64, u64) {
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

    /// What was set once, and nothing here changes.
    fn check(&self) {
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

    /// The device is given the next to do when it is done, and let go of between two, when that is asked.
    fn tend_device(&mut self) {
        let (asked, has) = (self.get(Word::DeviceAsked), self.get(Word::Device));
        let (out, back) = (self.page(OUT), self.page(BACK));
        if has != 0 {
            let moves = read_long(has, edu::COMMAND) & edu::START != 0;
            if moves || self.get(Word::DeviceBegun) != self.get(Word::DeviceCame) {
                return;
            }
        }
        match self.device {
            Move::Out => {
                self.device = Move::Back;
                self.begin_move(has, edu::BUFFER, back, edu::TO_MEMORY);
            }
            Move::Back => {
                self.device = Move::Nothing;
                let pattern = self.moved();
                for at in (0..edu::MOVED as u64).step_by(8) {
                    // SAFETY: this processor's own page.
                    let found = unsafe { ((back + at) as *const u64).read_volatile() };
                    self.compare(Wrong::Device, at, pattern(at / 8), found);
                }
                let (clock, _) = self.clocks();
                if self.get(Word::DeviceAfter) == 0 {
                    self.set(Word::DeviceAfter, clock);
                }
                self.set(Word::DeviceLast, clock);
                self.add(Word::DeviceDone);
            }
            Move::Nothing if asked != has => {
                if asked == 0 {
                    self.set(Word::DeviceBefore, self.get(Word::DeviceLast));
                } else {
                    let found = read_short(asked, edu::IDENTIFICATION);
                    self.compare(Wrong::Device, PAGE, u64::from(edu::EDU), u64::from(found));
                    self.set(Word::DeviceAfter, 0);
                }
                self.set(Word::Device, asked);
            }
            Move::Nothing if has != 0 => {
                fill(out, self.moved());
                fill(back, |_| 0);
                self.device = Move::Out;
                self.begin_move(has, out, edu::BUFFER, 0);
            }
            Move::Nothing => {}
        }
    }

    /// What the device moves the next time.
    fn moved(&self) -> impl Fn(u64) -> u64 + use<> {
        let (seed, done) = (self.seed, self.get(Word::DeviceDone));
        move |index| word(seed, u64::from(DEVICE_VECTOR), done, index)
    }

    fn begin_move(&self, device: u64, from: u64, to: u64, direction: u64) {
        self.add(Word::DeviceBegun);
        let status = read_short(device, edu::STATUS_INTERRUPT);
        let command = edu::START | edu::INTERRUPT | direction;
        let transfer =
            [(edu::SOURCE, from), (edu::DESTINATION, to), (edu::COUNT, edu::MOVED as u64), (edu::COMMAND, command)];
        // SAFETY: registers of the device, which reaches pages of this processor's.
        unsafe {
            ((device as usize + edu::ACKNOWLEDGE) as *mut u32).write_volatile(status);
            for (register, value) in transfer {
                ((device as usize + register) as *mut u64).write_volatile(value);
            }
        }
    }

    fn write_debug(&self, number: u64, value: u64) {
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

    /// Everything is known, until it is released.
    fn hold(&self) {
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

/// From a pattern, the byte at an offset of the XSAVE area.
type Part = fn(u64, u64) -> u8;

/// The parts of the XSAVE area that are filled, from where to where (Intel SDM volume 1, 13.4 and 10.5.1).
fn extended() -> [(Part, u64, u64); 5] {
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

fn read_short(device: u64, register: usize) -> u32 {
    // SAFETY: a register of the device, of four bytes.
    unsafe { ((device as usize + register) as *const u32).read_volatile() }
}

fn read_long(device: u64, register: usize) -> u64 {
    // SAFETY: a register of the device, of eight bytes.
    unsafe { ((device as usize + register) as *const u64).read_volatile() }
}

fn fill(at: u64, word: impl Fn(u64) -> u64) {
    for index in 0..PAGE / 8 {
        // SAFETY: a page that is this processor's.
        unsafe { ((at + index * 8) as *mut u64).write_volatile(word(index)) };
    }
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every MSR that is read here is there.
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

fn write_msr(number: u32, value: u64) {
    // SAFETY: every MSR that is written here is there, and takes these values.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

fn read_control() -> [u64; 6] {
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

/// Which parts of the extended state are on. The monitor sets it: QEMU's emulation of SVM up to 10 has no intercept of XSETBV
/// (target/i386/tcg/translate.c), so that a monitor which is emulated does not hear of it.
fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is on.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

fn read_debug(number: u64) -> u64 {
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

/// Loads every register, spins until it is released, and stores what is in them then. FS is based at the account, so that no
/// register is needed for it.
#[unsafe(naked)]
unsafe extern "C" fn spin(loaded: u64, saved: u64) {
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
        // As the calling convention has them.
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

/// An interrupt, counted in the word of the account that is at this offset.
#[unsafe(naked)]
unsafe extern "C" fn came<const AT: usize>() {
    naked_asm!("inc qword ptr fs:[{at}]", "jmp {end}", at = const AT, end = sym nothing_came)
}

/// The end of an interrupt.
#[unsafe(naked)]
unsafe extern "C" fn nothing_came() {
    naked_asm!(
        "push rax", "push rcx", "push rdx",
        "mov ecx, {eoi}", "xor eax, eax", "xor edx, edx", "wrmsr",
        "pop rdx", "pop rcx", "pop rax",
        "iretq",
        eoi = const APIC_EOI,
    )
}

/// Nothing here causes one. The two words on top of the stack are told, of which one is where it was: some have an error code.
#[unsafe(naked)]
unsafe extern "C" fn exception<const VECTOR: usize>() {
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

type Handler = unsafe extern "C" fn();

/// Those that a processor can have (Intel SDM volume 3, table 6-1).
static EXCEPTIONS: [Handler; 22] = [
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
