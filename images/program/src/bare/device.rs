//! The device that a machine can have: the program has it copy a page into its buffer and back.

use crate::account::{DEVICE_VECTOR, PAGE, Word, Wrong, word};
use crate::cpu::{BACK, Cpu, Move, OUT, fill};
use crate::edu;

impl Cpu {
    /// Gives the device its next transfer when the last is done. Between two transfers it also gives up the device or takes one,
    /// when the monitor asks for that.
    pub(super) fn tend_device(&mut self) {
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

    /// The words that the device moves next.
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
        // SAFETY: registers of the device, which accesses only pages of this processor.
        unsafe {
            ((device as usize + edu::ACKNOWLEDGE) as *mut u32).write_volatile(status);
            for (register, value) in transfer {
                ((device as usize + register) as *mut u64).write_volatile(value);
            }
        }
    }
}

pub(super) fn read_short(device: u64, register: usize) -> u32 {
    // SAFETY: a register of the device, of four bytes.
    unsafe { ((device as usize + register) as *const u32).read_volatile() }
}

pub(super) fn read_long(device: u64, register: usize) -> u64 {
    // SAFETY: a register of the device, of eight bytes.
    unsafe { ((device as usize + register) as *const u64).read_volatile() }
}
