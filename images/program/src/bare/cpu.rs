//! A processor, its account, and the pages in which it works.

use crate::account::{PAGE, Word, Wrong, next, word};

/// Where the pages of the first processor begin that only it uses, between the accounts and the program.
pub(super) const OWN: u64 = 0x2_0000;

/// How many bytes of them each processor has.
pub(super) const OWN_SIZE: u64 = 0x1_0000;

/// What each of these pages is for, by index.
pub(super) const TABLES: u64 = 0;
pub(super) const GDT: u64 = 3;
pub(super) const IDT: u64 = 4;
pub(super) const CLOCK: u64 = 5;
pub(super) const LOADED: u64 = 6;
pub(super) const SAVED: u64 = 8;
pub(super) const OUT: u64 = 10;
pub(super) const BACK: u64 = 11;

/// The transfer that the device is doing.
#[derive(Clone, Copy)]
pub(super) enum Move {
    Nothing,
    Out,
    Back,
}

/// A processor.
pub(super) struct Cpu {
    /// The processor's account.
    pub(super) account: *mut u64,
    /// The address of the pages that only it uses.
    pub(super) own: u64,
    /// The seed of its patterns.
    pub(super) seed: u64,
    /// The control registers as they were set, in the order of [`crate::registers::CONTROL_NUMBERS`].
    pub(super) control: [u64; 6],
    /// The transfer in progress.
    pub(super) device: Move,
}

impl Cpu {
    /// Reads a word of the account.
    pub(super) fn get(&self, word: Word) -> u64 {
        // SAFETY: inside of the account, to which there is no reference.
        unsafe { self.account.add(word as usize).read_volatile() }
    }

    /// Writes a word of the account.
    pub(super) fn set(&self, word: Word, value: u64) {
        // SAFETY: as above.
        unsafe { self.account.add(word as usize).write_volatile(value) }
    }

    /// Adds one to a word of the account.
    pub(super) fn add(&self, word: Word) {
        self.set(word, self.get(word) + 1);
    }

    /// The address of one of its own pages.
    pub(super) fn page(&self, place: u64) -> u64 {
        self.own + place * PAGE
    }

    /// Counts an error of this kind, and notes the first.
    pub(super) fn wrong(&self, kind: Wrong, which: u64, expected: u64, observed: u64) {
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

    /// Counts an error if the values differ.
    pub(super) fn compare(&self, kind: Wrong, which: u64, expected: u64, observed: u64) {
        if expected != observed {
            self.wrong(kind, which, expected, observed);
        }
    }

    /// One round: compares the page with what its last round wrote, adds it to the chain, and writes it anew.
    pub(super) fn work(&self, page: u64, at: u64, before: u64, round: u64) {
        let (seed, mut sum) = (self.get(Word::Seed), 0_u64);
        let mut differs = None;
        for index in 0..PAGE / 8 {
            // SAFETY: a page that only this processor works in.
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
}

/// Fills a page.
pub(super) fn fill(at: u64, word: impl Fn(u64) -> u64) {
    for index in 0..PAGE / 8 {
        // SAFETY: a page that is this processor's.
        unsafe { ((at + index * 8) as *mut u64).write_volatile(word(index)) };
    }
}
