//! The /init of a Linux in a workload's virtual machine. It works, and writes its account to the kernel's log; the monitor reads the
//! log on the serial port, and enters the account into the machine's memory ([`luqual_program`]).

use crate::tsc;
use luqual_program::{MAGIC, WORDS, Word, Wrong, next, page_of, word};
use rustix::mount::{MountFlags, mount};
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{clock_gettime, timerfd_create, timerfd_settime};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};

/// Its path in the nested VM's initramfs.
pub(crate) const PATH: &str = "/nested-init";
/// The variable with the seed, which the kernel's command line sets.
pub(crate) const SEED: &str = "LUQUAL_SEED";
/// The start of a line with the account. Words follow, each as `INDEX=HEX`.
pub(crate) const LINE: &str = "account: ";

/// The number of pages in which it works.
const PAGES: u64 = 512;
/// The number of rounds between two readings of the clocks.
pub(crate) const ROUNDS: u64 = 64;
/// The number of readings among which the longest gap is reported: enough for one update, too few for the one before it.
pub(crate) const LOOKS: usize = 16;
/// The time of the timer after these rounds, in nanoseconds.
const SHORT: i64 = 10_000_000;

/// Returns only with an error. The end of /init is a kernel panic, which the monitor sees.
pub(crate) fn run() -> Result<(), String> {
    std::fs::create_dir_all("/dev").map_err(|error| format!("/dev: {error}"))?;
    match mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => {}
        Err(errno) => return Err(failed("mount /dev")(errno)),
    }
    let mut log = File::options().write(true).open("/dev/kmsg").map_err(|error| format!("/dev/kmsg: {error}"))?;
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).ok_or("no seed")?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).map_err(failed("timerfd_create"))?;
    let mut timer = File::from(timer);
    let mut work = Work::new(seed);
    loop {
        for _ in 0..ROUNDS {
            work.round();
        }
        work.look();
        log.write_all(work.line().as_bytes()).map_err(|error| format!("/dev/kmsg: {error}"))?;
        let value = Timespec { tv_sec: 0, tv_nsec: SHORT };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).map_err(failed("timerfd_settime"))?;
        work.timers.0 += 1;
        let mut came = [0; 8];
        timer.read_exact(&mut came).map_err(|error| format!("timerfd: {error}"))?;
        work.timers.1 += u64::from_ne_bytes(came);
    }
}

/// For `map_err` on a call.
fn failed(what: &str) -> impl Fn(rustix::io::Errno) -> String {
    move |errno| format!("{what}: {errno}")
}

/// Both clocks: CLOCK_MONOTONIC in nanoseconds, and the time stamp counter.
type Clocks = (u64, u64);

struct Work {
    seed: u64,
    memory: Vec<u64>,
    round: u64,
    chain: u64,
    wrong_pages: u64,
    first: [u64; 3],
    begun: Clocks,
    last: Clocks,
    went_back: (u64, u64),
    /// The gaps between the last readings, each with its start and its end.
    gaps: VecDeque<(Clocks, Clocks)>,
    /// The timers that were started, and those that have expired.
    timers: (u64, u64),
}

impl Work {
    fn new(seed: u64) -> Self {
        let words = (0..PAGES).flat_map(|page| (0..WORDS).map(move |index| word(seed, page, 0, index)));
        let now = clocks();
        Self {
            seed,
            memory: words.collect(),
            round: 0,
            chain: seed,
            wrong_pages: 0,
            first: [0; 3],
            begun: now,
            last: now,
            went_back: (0, 0),
            gaps: VecDeque::from([(now, now)]),
            timers: (0, 0),
        }
    }

    /// One round, as in the bare-metal program: compares the page with what its last round wrote, adds it to the chain, and writes
    /// it anew.
    fn round(&mut self) {
        self.round += 1;
        let (page, before) = page_of(self.round, PAGES);
        let (seed, round) = (self.seed, self.round);
        let mut sum = 0_u64;
        let mut differs = None;
        let words = &mut self.memory[(page * WORDS) as usize..][..WORDS as usize];
        for (index, found) in (0..).zip(words) {
            sum = sum.wrapping_add(*found);
            let expected = word(seed, page, before, index);
            if *found != expected {
                differs.get_or_insert([page, expected, *found]);
            }
            *found = word(seed, page, round, index);
        }
        if let Some(differs) = differs {
            if self.wrong_pages == 0 {
                self.first = differs;
            }
            self.wrong_pages += 1;
        }
        self.chain = next(self.chain, sum);
    }

    /// Reads the clocks.
    fn look(&mut self) {
        let now = clocks();
        self.went_back.0 += u64::from(now.0 < self.last.0);
        self.went_back.1 += u64::from(now.1 < self.last.1);
        self.gaps.push_back((self.last, now));
        if self.gaps.len() > LOOKS {
            self.gaps.pop_front();
        }
        self.last = now;
    }

    /// The whole account as a line of the log.
    fn line(&self) -> String {
        // The length of a tick in 2^-32 ns, measured over all of the time so far.
        let ns = u128::from(self.last.0 - self.begun.0) << 32;
        let factor = (ns / u128::from((self.last.1.saturating_sub(self.begun.1)).max(1))) as u64;
        let length = |(before, after): &(Clocks, Clocks)| after.0.saturating_sub(before.0);
        let mut gaps: Vec<(Clocks, Clocks)> = self.gaps.iter().copied().collect();
        gaps.sort_by_key(length);
        let (before, after) = gaps.pop().unwrap_or_default();
        let apart = gaps.last().map_or(0, length);
        let words = [
            (Word::Magic as usize, MAGIC),
            (Word::Seed as usize, self.seed),
            (Word::Pages as usize, PAGES),
            (Word::Beat as usize, self.round),
            (Word::Round as usize, self.round),
            (Word::Chain as usize, self.chain),
            (Word::TimersBegun as usize, self.timers.0),
            (Word::TimersCome as usize, self.timers.1),
            (Word::ClockBack as usize, self.went_back.0),
            (Word::TscBack as usize, self.went_back.1),
            (Word::ClockBefore as usize, before.0),
            (Word::ClockAfter as usize, after.0),
            (Word::TscBefore as usize, before.1),
            (Word::TscAfter as usize, after.1),
            (Word::TscFactor as usize, factor),
            (Word::LookApart as usize, apart),
            (Word::Wrong as usize + Wrong::Page as usize, self.wrong_pages),
            (Word::FirstWrong as usize, if self.wrong_pages > 0 { Wrong::Page as u64 + 1 } else { 0 }),
            (Word::FirstWhich as usize, self.first[0]),
            (Word::FirstExpected as usize, self.first[1]),
            (Word::FirstObserved as usize, self.first[2]),
        ];
        let words: Vec<String> = words.iter().map(|(place, value)| format!("{place}={value:x}")).collect();
        format!("{LINE}{}\n", words.join(" "))
    }
}

fn clocks() -> Clocks {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, tsc::read())
}

/// Parses the account in a line of the log; none if the line has no account.
pub(crate) fn parse(line: &str) -> Option<Vec<(usize, u64)>> {
    let (_, words) = line.split_once(LINE)?;
    let word = |text: &str| {
        let (place, value) = text.split_once('=')?;
        Some((place.parse().ok()?, u64::from_str_radix(value, 16).ok()?))
    };
    words.split_whitespace().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_program::chain;

    #[test]
    fn an_account_is_parsed_as_it_was_written_and_has_the_computed_chain() {
        let mut work = Work::new(7);
        (0..PAGES + 3).for_each(|_| work.round());
        work.gaps = VecDeque::from([((0, 0), (9, 1)), ((9, 1), (5009, 2)), ((5009, 2), (5079, 3))]);
        work.last = (work.begun.0 + 5079, work.begun.1 + 3);
        let heard = parse(&format!("[    1.234567] {}", work.line().trim_end())).unwrap();
        let word = |wanted: Word| heard.iter().find(|(place, _)| *place == wanted as usize).unwrap().1;
        assert_eq!((word(Word::Round), word(Word::Chain)), (PAGES + 3, chain(7, PAGES, PAGES + 3)));
        assert_eq!((word(Word::ClockBefore), word(Word::ClockAfter), word(Word::LookApart)), (9, 5009, 70));
        assert_eq!(heard.iter().find(|(place, _)| *place == Word::Wrong as usize + Wrong::Page as usize).unwrap().1, 0);
    }

    #[test]
    fn a_changed_page_is_reported() {
        let mut work = Work::new(7);
        work.memory[5 * WORDS as usize + 3] ^= 1;
        (0..PAGES).for_each(|_| work.round());
        assert_eq!((work.wrong_pages, work.first[0]), (1, 5));
        assert_ne!(work.chain, chain(7, PAGES, PAGES));
    }

    #[test]
    fn a_line_without_an_account_is_not_parsed() {
        assert_eq!(parse("[    1.0] Linux version 7.3.4"), None);
        assert_eq!(parse(&format!("{LINE}1=zz")), None);
        assert_eq!(parse(&format!("{LINE}1=")), None);
    }
}
