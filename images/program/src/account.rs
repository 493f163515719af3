// What the program and its monitor share: the layout of the machine's memory, the words of the account, and how the values in it
// are computed.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// The address of the first processor's account. Each processor has a page; the pages are adjacent.
pub const ACCOUNTS: u64 = 0x8000;
/// The largest number of processors.
pub const CPUS: u64 = 2;
/// The address of three page tables that map the first GiB to itself, for the first instructions.
pub const BOOT_TABLES: u64 = 0x1000;
/// The address at which the program is loaded and starts (`program.ld`).
pub const PROGRAM: u64 = 0x10_0000;
/// The address of the first page that it works in. What lies between belongs to the program.
pub const WORK: u64 = 0x20_0000;

/// The address of the device's registers, if a machine has a device.
pub const DEVICE: u64 = 0x2000_0000;
/// The vector of the device's interrupt.
pub const DEVICE_VECTOR: u8 = 0x42;

/// The port to which the program writes while it waits for an interrupt.
pub const DOORBELL: u16 = 0x500;

/// `b"luqualL2"`, once a processor's account is in use.
pub const MAGIC: u64 = u64::from_le_bytes(*b"luqualL2");

/// The words of an account, by index. The monitor writes those of the first group and [`Word::DeviceAsked`], the program all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// The seed of the pages' content.
    Seed,
    /// How many pages this processor works in.
    Pages,
    /// The address of the first of them.
    First,
    /// Nonzero asks the program to hold at the end of the round.
    HoldAsked,
    /// Nonzero asks the program to end a hold.
    Release,

    /// [`MAGIC`].
    Magic,
    /// Grows as long as the program runs, also during a hold.
    Beat,
    /// The number of finished rounds.
    Round,
    /// The checksum over all rounds ([`chain`]).
    Chain,
    /// The number of one-shot timers that were started.
    TimersBegun,
    /// The number of them that have expired.
    TimersCome,
    /// The number of interrupts that the processor has sent to itself.
    IpisSent,
    /// The number of them that have expired.
    IpisCome,
    /// 1 during a hold.
    Holding,
    /// The number of holds that have ended.
    Holds,
    /// The clock of KVM (MSR_KVM_SYSTEM_TIME_NEW), in nanoseconds, when it was last read.
    Clock,
    /// The time stamp counter at that time.
    Tsc,
    /// The address of the registers of the device that the program may use. At 0 it has to give up a device that it has.
    DeviceAsked,
    /// The address of the registers of the device that it uses; 0 if it uses none.
    Device,
    /// The number of pages that the device has moved into its buffer and back.
    DeviceDone,
    /// The number of interrupts that the device was asked for.
    DeviceBegun,
    /// The number of them that have occurred.
    DeviceCame,
    /// The clock at the end of the last transfer.
    DeviceLast,
    /// The clock at the end of the last transfer before the device was given up.
    DeviceBefore,
    /// The clock at the end of the first transfer after it was given back.
    DeviceAfter,
    /// How often the clock went backwards.
    ClockBack,
    /// How often the counter went backwards.
    TscBack,
    /// The clock before the last hold.
    ClockBefore,
    /// The clock after the last hold.
    ClockAfter,
    /// The counter before the last hold.
    TscBefore,
    /// The counter after the last hold.
    TscAfter,
    /// The shift in KVM's conversion of the counter: ticks are shifted left by this signed number …
    TscShift,
    /// … and multiplied by this factor to give units of 2^-32 ns.
    TscFactor,
    /// For a program that cannot be asked to hold: the second longest time between two readings of its clock, in nanoseconds.
    LookApart,
    /// The kind of the first error, counted from 1 in the order of [`Wrong::ALL`]; 0 if there was none.
    FirstWrong,
    /// Which register, page or vector it was.
    FirstWhich,
    /// The expected value.
    FirstExpected,
    /// The observed value.
    FirstObserved,
    /// The number of errors of each kind, in the order of [`Wrong::ALL`].
    Wrong,
}

/// The top of a processor's stack, which the monitor sets together with the processor's number.
pub const fn stack(cpu: u64) -> u64 {
    WORK - cpu * (64 << 10)
}

/// The kinds of errors.
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
    /// A page of memory, by its index among those that the processor works in.
    Page,
    /// An exception, by its vector.
    Exception,
    /// Data that the device moved, by the offset in the page; the page's length stands for the device's identification.
    Device,
}

impl Wrong {
    /// The number of kinds.
    pub const COUNT: usize = 8;
    /// All kinds.
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

    /// The name in probes.
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

/// The number of 8-byte words in a page.
pub const WORDS: u64 = PAGE / 8;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A permutation of the 64-bit numbers in which every output bit depends on every input bit (the finaliser of splitmix64).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The word `index` of a page that was last written in this round. Round 0 is the initial content.
pub fn word(seed: u64, page: u64, round: u64, index: u64) -> u64 {
    base(seed, page, round).wrapping_add(index.wrapping_mul(STEP))
}

fn base(seed: u64, page: u64, round: u64) -> u64 {
    mix(seed ^ mix(page << 40 ^ round))
}

/// The sum of a page's words, computed without the words.
pub fn sum(seed: u64, page: u64, round: u64) -> u64 {
    base(seed, page, round).wrapping_mul(WORDS).wrapping_add(STEP.wrapping_mul(WORDS * (WORDS - 1) / 2))
}

/// The page that a round works in, and the round that wrote it last. Rounds are counted from 1.
pub fn page_of(round: u64, pages: u64) -> (u64, u64) {
    let page = (round - 1) % pages;
    (page, round.saturating_sub(pages))
}

/// The chain after a round, from the previous chain and the sum of the page as it was found.
pub fn next(chain: u64, sum: u64) -> u64 {
    mix(chain.wrapping_add(1) ^ sum)
}

/// The chain after so many rounds without errors.
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
    fn the_computed_sum_is_that_of_the_words() {
        for (seed, page, round) in [(0, 0, 0), (7, 3, 12), (u64::MAX, 3500, 1 << 33)] {
            let added = (0..WORDS).fold(0_u64, |all, index| all.wrapping_add(word(seed, page, round, index)));
            assert_eq!(added, sum(seed, page, round));
        }
    }

    #[test]
    fn pages_come_in_turn_with_the_content_of_their_last_round() {
        assert_eq!([1, 2, 3, 4, 5, 7].map(|round| page_of(round, 3)), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 2), (0, 4)]);
    }

    #[test]
    fn a_chain_shows_a_missing_round_and_a_changed_bit() {
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
    fn an_account_fits_into_its_page() {
        assert!((Word::Wrong as usize + Wrong::COUNT) as u64 * 8 <= PAGE / 2);
        const { assert!(ACCOUNTS + CPUS * PAGE <= PROGRAM && BOOT_TABLES + 3 * PAGE <= ACCOUNTS) };
    }
}
