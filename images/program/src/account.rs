// What the program and its monitor share: where things are in the machine's memory, what is in the account, and what every
// number in it has to be.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Where the first processor's account is; each has a page, and they follow each other.
pub const ACCOUNTS: u64 = 0x8000;
/// How many processors there can be.
pub const CPUS: u64 = 2;
/// Page tables that map the first GiB as it is, for the first instructions: three pages.
pub const BOOT_TABLES: u64 = 0x1000;
/// Where the program is loaded, and begins (`program.ld`).
pub const PROGRAM: u64 = 0x10_0000;
/// Where the pages begin that it works in. All between is its own.
pub const WORK: u64 = 0x20_0000;

/// Where the registers of a device are, if a machine has one.
pub const DEVICE: u64 = 0x2000_0000;
/// The vector that it interrupts by.
pub const DEVICE_VECTOR: u8 = 0x42;

/// The port by which the program says that it waits for an interrupt.
pub const DOORBELL: u16 = 0x500;

/// `b"luqualL2"`, once a processor's account is in use.
pub const MAGIC: u64 = u64::from_le_bytes(*b"luqualL2");

/// The words of an account, by their place. Those of the first group are the monitor's, the others the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// What the pages are filled from.
    Seed,
    /// How many pages this processor works in.
    Pages,
    /// Where they begin.
    First,
    /// Not zero: hold, as soon as the round is done.
    HoldAsked,
    /// Not zero: go on.
    Release,

    /// [`MAGIC`].
    Magic,
    /// Grows as long as it runs, even while it holds.
    Beat,
    /// How many rounds are done.
    Round,
    /// What came of all of them ([`chain`]).
    Chain,
    /// One-shot timers that were begun.
    TimersBegun,
    /// And those of them that came.
    TimersCome,
    /// Interrupts that it sent to itself.
    IpisSent,
    /// And those of them that came.
    IpisCome,
    /// 1 while it holds.
    Holding,
    /// How often it held, and went on.
    Holds,
    /// The clock of KVM (MSR_KVM_SYSTEM_TIME_NEW), in nanoseconds, when it last looked.
    Clock,
    /// The time stamp counter then.
    Tsc,
    /// Where the registers of a device are that it may use; 0: none, and it has to let go of one that it has. The monitor's, as the
    /// first group is.
    DeviceAsked,
    /// Where those of the device are that it uses; 0: none.
    Device,
    /// How often the device moved a page into itself and back.
    DeviceDone,
    /// How many interrupts it was asked for.
    DeviceBegun,
    /// And how many of them came.
    DeviceCame,
    /// The clock when it was last done.
    DeviceLast,
    /// The clock when it was last done before it was let go of.
    DeviceBefore,
    /// And when it was first done after it was given back.
    DeviceAfter,
    /// How often the clock went back.
    ClockBack,
    /// How often the counter did.
    TscBack,
    /// The clock before the last hold.
    ClockBefore,
    /// And after it.
    ClockAfter,
    /// The counter before the last hold.
    TscBefore,
    /// And after it.
    TscAfter,
    /// What KVM says of the counter: a tick, shifted left by this (signed) …
    TscShift,
    /// … times this, is 2^-32 ns.
    TscFactor,
    /// Of one that cannot be asked to hold: the longest time between two of its looks but for that one, in nanoseconds of its clock.
    LookApart,
    /// The first that was not as it should be: of what kind, from 1 in the order of [`Wrong::ALL`].
    FirstWrong,
    /// Which of its kind.
    FirstWhich,
    /// What it should be.
    FirstExpected,
    /// What it was.
    FirstObserved,
    /// How often each kind was not as it should be, in the order of [`Wrong::ALL`].
    Wrong,
}

/// What the monitor sets in the registers of a processor before it begins: its number, and the top of its stack.
pub const fn stack(cpu: u64) -> u64 {
    WORK - cpu * (64 << 10)
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Wrong {
    /// A general register, in the order of instruction encodings.
    Register,
    /// A byte of the x87's, of SSE's or of AVX's state, by its offset in the XSAVE area.
    Extended,
    /// A model-specific register, by its number.
    Msr,
    /// A control register, by its number.
    Control,
    /// A debug register.
    Debug,
    /// A page of memory, by its place among those that the processor works in.
    Page,
    /// An exception, by its vector.
    Exception,
    /// What a device moved, by the offset in a page; what it is, by the page's length.
    Device,
}

impl Wrong {
    /// How many kinds there are.
    pub const COUNT: usize = 8;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Register,
        Self::Extended,
        Self::Msr,
        Self::Control,
        Self::Debug,
        Self::Page,
        Self::Exception,
        Self::Device,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "general registers",
            Self::Extended => "FPU, SSE and AVX state",
            Self::Msr => "MSRs",
            Self::Control => "control registers",
            Self::Debug => "debug registers",
            Self::Page => "memory pages",
            Self::Exception => "exceptions",
            Self::Device => "device data",
        }
    }
}

/// Words of a page.
pub const WORDS: u64 = PAGE / 8;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A permutation of the 64-bit numbers whose output bits all depend on all input bits (splitmix64's finisher).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The word `index` of a page that was last written in a round; round 0 is before the first.
pub fn word(seed: u64, page: u64, round: u64, index: u64) -> u64 {
    base(seed, page, round).wrapping_add(index.wrapping_mul(STEP))
}

fn base(seed: u64, page: u64, round: u64) -> u64 {
    mix(seed ^ mix(page << 40 ^ round))
}

/// The sum of a page's words, without adding them up.
pub fn sum(seed: u64, page: u64, round: u64) -> u64 {
    base(seed, page, round).wrapping_mul(WORDS).wrapping_add(STEP.wrapping_mul(WORDS * (WORDS - 1) / 2))
}

/// The page that a round is about, and the round in which it was written before: it has that content when the round begins, and
/// this round's when it ends. Rounds begin with 1.
pub fn page_of(round: u64, pages: u64) -> (u64, u64) {
    let page = (round - 1) % pages;
    (page, round.saturating_sub(pages))
}

/// The chain after a round, from the one before it and the sum of the page as it was found.
pub fn next(chain: u64, sum: u64) -> u64 {
    mix(chain.wrapping_add(1) ^ sum)
}

/// The chain after so many rounds in which nothing was wrong.
pub fn chain(seed: u64, pages: u64, rounds: u64) -> u64 {
    (1..=rounds).fold(seed, |chain, round| {
        let (page, before) = page_of(round, pages);
        next(chain, sum(seed, page, before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_sums_up_as_it_is_said() {
        for (seed, page, round) in [(0, 0, 0), (7, 3, 12), (u64::MAX, 3500, 1 << 33)] {
            let added = (0..WORDS).fold(0_u64, |all, index| all.wrapping_add(word(seed, page, round, index)));
            assert_eq!(added, sum(seed, page, round));
        }
    }

    #[test]
    fn pages_come_in_turn_and_have_what_their_last_round_wrote() {
        assert_eq!([1, 2, 3, 4, 5, 7].map(|round| page_of(round, 3)), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 2), (0, 4)]);
    }

    #[test]
    fn a_chain_tells_a_round_that_was_left_out_and_a_bit_that_differs() {
        let whole = chain(5, 3, 10);
        assert_eq!(
            (6..=10).fold(chain(5, 3, 5), |chain, round| {
                let (page, before) = page_of(round, 3);
                next(chain, sum(5, page, before))
            }),
            whole
        );
        assert_ne!(chain(5, 3, 9), whole);
        assert_ne!(next(chain(5, 3, 9), sum(5, 0, 7) ^ 1), whole);
    }

    #[test]
    fn an_account_fits_where_it_is() {
        assert!((Word::Wrong as usize + Wrong::COUNT) as u64 * 8 <= PAGE / 2);
        const { assert!(ACCOUNTS + CPUS * PAGE <= PROGRAM && BOOT_TABLES + 3 * PAGE <= ACCOUNTS) };
    }
}
