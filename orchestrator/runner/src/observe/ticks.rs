//! Watches the guest's ticks through the RAM file, without a device, a network or a request.

use super::poll::{PERIOD, Poller};
use luqual_model::Blackout;
use luqual_protocol::{TICK_PERIOD_MS, tick_page};
use luqual_vm::Ram;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The content of a tick page, and when it was read.
type Look = ([u8; tick_page::LENGTH], u64);

/// How the page is read.
enum Looks {
    /// By a polling thread.
    Thread(Poller),
    /// On request: a fake machine's memory only changes on request.
    #[cfg_attr(not(any(test, feature = "fake")), expect(dead_code, reason = "only a fake machine makes it"))]
    Asked(Box<dyn Fn() -> Vec<Look>>),
}

/// Watches one tick page until it is dropped.
pub struct Ticks {
    seen: Arc<Mutex<TickStats>>,
    looks: Looks,
}

impl Ticks {
    /// Watches the page at guest-physical `address`; times are relative to `started`.
    pub(crate) fn watch(ram: Ram, address: u64, started: Instant) -> Self {
        let seen = Arc::new(Mutex::new(TickStats::default()));
        let poller = Poller::start(PERIOD, {
            let seen = seen.clone();
            let started = started.into_std();
            move || {
                let mut bytes = [0; tick_page::LENGTH];
                let read = ram.read(address, &mut bytes);
                if read.is_ok() {
                    lock(&seen).look(&bytes, micros(started.elapsed()));
                }
                ControlFlow::Continue(())
            }
        });
        Self { seen, looks: Looks::Thread(poller) }
    }

    /// Stops; the results remain.
    pub(crate) fn end(&self) {
        if let Looks::Thread(poller) = &self.looks {
            poller.end();
        }
    }

    /// Ticks that are read on request.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn asked(read: Box<dyn Fn() -> Vec<Look>>) -> Self {
        Self { seen: Arc::default(), looks: Looks::Asked(read) }
    }

    /// The time since the last tick, in microseconds; `None` before the first. Time without reads does not count.
    pub(crate) fn silent_us(&self) -> Option<u64> {
        let seen = self.seen();
        (seen.count > 0).then(|| seen.last_look_us.saturating_sub(seen.last_change_us))
    }

    /// Waits until there was no tick for `silence`.
    pub(crate) async fn stopped(&self, silence: Duration) {
        while self.silent_us().is_none_or(|silent| silent < micros(silence)) {
            sleep(PERIOD).await;
        }
    }

    fn seen(&self) -> MutexGuard<'_, TickStats> {
        let mut seen = lock(&self.seen);
        if let Looks::Asked(read) = &self.looks {
            read().iter().for_each(|(page, at_us)| seen.look(page, *at_us));
        }
        seen
    }

    /// The largest delay with which a tick can be seen, in microseconds.
    fn late_us(&self) -> u64 {
        let late = match &self.looks {
            Looks::Thread(poller) => poller.late(),
            Looks::Asked(_) => Duration::ZERO,
        };
        micros(PERIOD + late)
    }

    fn span(&self) -> Option<Span> {
        self.seen().span()
    }

    /// When the last tick was seen, in microseconds since the start.
    pub(crate) fn last_seen_us(&self) -> u64 {
        self.seen().last_change_us
    }

    /// The time of the last tick on the host's clock, in microseconds since the start.
    pub(crate) fn last_us(&self) -> Option<u64> {
        self.span().map(|span| unsigned(span.last_us))
    }
}

/// The blackout: from the last tick of `source` to the first tick of `target`. `None` if one has no ticks.
pub(crate) fn blackout(source: &Ticks, target: &Ticks) -> Option<Blackout> {
    let late_us = source.late_us() + target.late_us();
    let (source, target) = (source.span()?, target.span()?);
    let duration_us = unsigned(target.first_us - source.last_us);
    // The error of each end is at most one tick period, plus the delay of a read.
    let resolution_us = 2 * TICK_PERIOD_MS * 1000 + late_us;
    // The first tick is older than the first look at it, and only the guest's clock says by how much.
    let by_guest_us = unsigned(target.first_by_guest_us - source.last_us);
    let bound = resolution_us + MARGIN_US + duration_us / 100;
    let disagrees = by_guest_us.abs_diff(duration_us) > bound;
    let by_guest_us = disagrees.then_some(by_guest_us);
    Some(Blackout { duration_us, resolution_us, last_tick: source.count, by_guest_us })
}

/// By how much the guest's clock may be wrong, beside a hundredth: a kernel accepts a frequency that is 1 % wrong
/// (arch/x86/kernel/tsc.c, tsc_refine_calibration_work()).
const MARGIN_US: u64 = 10_000;

fn unsigned(us: i64) -> u64 {
    u64::try_from(us).unwrap_or_default()
}

/// A poisoned lock means that a poller panicked; its earlier results are still valid.
fn lock(seen: &Mutex<TickStats>) -> MutexGuard<'_, TickStats> {
    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct TickStats {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    last_change_us: u64,
    /// When the page was last read.
    last_look_us: u64,
    /// When a tick was seen first, and its time by the guest's clock.
    first_seen: (u64, u64),
    envelope: Envelope,
}

struct Span {
    /// The first and the last tick, by the host's clock.
    first_us: i64,
    last_us: i64,
    /// The first tick, if the guest's clock were right.
    first_by_guest_us: i64,
    count: u64,
}

impl TickStats {
    fn look(&mut self, page: &[u8; tick_page::LENGTH], now_us: u64) {
        self.take(page, now_us);
        self.last_look_us = now_us;
    }

    fn take(&mut self, page: &[u8; tick_page::LENGTH], now_us: u64) {
        let word = |at: u64| {
            let at = at as usize;
            page.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        let count = word(tick_page::OFFSET_COUNT);
        // After the kexec, the page can have any content. It counts only while it is a tick page whose count grows.
        if word(tick_page::OFFSET_MAGIC) != tick_page::MAGIC || count <= self.count {
            return;
        }
        if self.count == 0 {
            self.first_seen = (now_us, word(tick_page::OFFSET_LAST_NS));
        }
        self.count = count;
        self.first_ns = word(tick_page::OFFSET_FIRST_NS);
        self.last_ns = word(tick_page::OFFSET_LAST_NS);
        self.last_change_us = now_us;
        self.envelope.add(self.last_ns, now_us * 1000);
    }

    /// The first and the last tick on the host's clock.
    fn span(&self) -> Option<Span> {
        let clock = self.envelope.clock()?;
        // No tick was made after it was seen.
        let bounded = |us: i64, seen_us: u64| us.min(i64::try_from(seen_us).unwrap_or(i64::MAX));
        let (seen_us, seen_ns) = self.first_seen;
        Some(Span {
            first_us: bounded(clock.host_us(self.first_ns), seen_us),
            last_us: bounded(clock.host_us(self.last_ns), self.last_change_us),
            first_by_guest_us: Clock { at: (seen_ns, seen_us * 1000), rate: 1.0 }.host_us(self.first_ns),
            count: self.count,
        })
    }
}

/// What the ticks that were seen soonest after they were made tell of the guest's clock. A tick is never seen before
/// it is made: all points (the guest's time of a tick, the host's time of its first sight) are above the line on which
/// ticks are made, and the lower hull of the points is next to it.
#[derive(Default)]
struct Envelope {
    /// The corners of the hull, in nanoseconds.
    corners: Vec<(u64, u64)>,
}

/// The most corners. The hull of a steady clock has some tens; a guest that writes other times makes more.
const CORNERS: usize = 4096;

/// The shortest time in nanoseconds over which a clock is compared with the host's; over a shorter one, the delay of a
/// read would be taken for an error of the clock.
const COMPARED_NS: u64 = 200_000_000;

impl Envelope {
    fn add(&mut self, guest_ns: u64, host_ns: u64) {
        let point = (guest_ns, host_ns);
        // A guest whose clock went back starts anew.
        if self.corners.last().is_some_and(|last| last.0 >= guest_ns) || self.corners.len() >= CORNERS {
            self.corners.clear();
        }
        while let [.., a, b] = self.corners[..]
            && !is_below(a, b, point)
        {
            self.corners.pop();
        }
        self.corners.push(point);
    }

    /// The guest's clock: the edge of the hull in the middle of its time, which late looks move least.
    fn clock(&self) -> Option<Clock> {
        let (first, last) = (*self.corners.first()?, *self.corners.last()?);
        let middle = first.0 + (last.0 - first.0) / 2;
        let edge = self.corners.windows(2).find(|edge| edge[1].0 >= middle);
        let is_long = last.0 - first.0 >= COMPARED_NS && last.1.saturating_sub(first.1) >= COMPARED_NS;
        let Some([from, to]) = edge.filter(|_| is_long) else {
            // The tick that was seen soonest.
            let soonest = self.corners.iter().min_by_key(|(guest, host)| i128::from(*host) - i128::from(*guest))?;
            return Some(Clock { at: *soonest, rate: 1.0 });
        };
        let rate = (to.1 as f64 - from.1 as f64) / (to.0 - from.0) as f64;
        Some(Clock { at: *to, rate })
    }
}

/// Whether `b` is below the line from `a` to `c`.
fn is_below(a: (u64, u64), b: (u64, u64), c: (u64, u64)) -> bool {
    let difference = |to: u64, from: u64| i128::from(to) - i128::from(from);
    difference(b.1, a.1) * difference(c.0, a.0) < difference(c.1, a.1) * difference(b.0, a.0)
}

/// A guest's clock, by the host's.
#[derive(Clone, Copy)]
struct Clock {
    /// A time of both, in nanoseconds: the guest's, and the host's.
    at: (u64, u64),
    /// How long a nanosecond of the guest takes by the host's clock, in nanoseconds.
    rate: f64,
}

impl Clock {
    /// The host's time in microseconds at that time of the guest.
    fn host_us(&self, guest_ns: u64) -> i64 {
        let since = guest_ns as f64 - self.at.0 as f64;
        ((self.at.1 as f64 + since * self.rate) / 1000.0) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: u64, first_ns: u64, last_ns: u64) -> [u8; tick_page::LENGTH] {
        let words = [tick_page::MAGIC, count, first_ns, last_ns];
        let mut bytes = [0; tick_page::LENGTH];
        for (place, word) in bytes.chunks_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_tick_that_was_seen_soonest_sets_the_clock() {
        let mut seen = TickStats::default();
        // The guest's clock started 5 s before the host's; the second tick is seen 40 µs late, the others more.
        seen.take(&page(1, 5_001_000_000, 5_001_000_000), 1_900);
        seen.take(&page(2, 5_001_000_000, 5_002_000_000), 2_040);
        seen.take(&page(9, 5_001_000_000, 5_009_000_000), 9_700);
        let span = seen.span().unwrap();
        assert_eq!((span.first_us, span.last_us, span.count), (1_040, 9_040, 9));
        assert_eq!(seen.last_change_us, 9_700);
    }

    /// A guest that ticks each millisecond of its own clock, which runs at `percent` of the host's, from `first_us` of
    /// the host's clock on. It is looked at from `looked_us` until `left_us`, each look with another delay; the guest's
    /// clock shows 7 s at its first tick.
    fn ticked(percent: u64, first_us: u64, looked_us: u64, left_us: u64) -> Ticks {
        let mut looks = Vec::new();
        let first_ns = 7_000_000_000;
        for (number, at_us) in (looked_us..=left_us).step_by(1000).enumerate() {
            // Some looks come late, as on a busy host.
            let delay_us = [300, 20, 700, 5, 90_000][number % 5] + number as u64 % 7 * 11;
            let ticks = (at_us - first_us) * percent / 100 / 1000;
            let last_ns = first_ns + ticks * 1_000_000;
            // A tick is made when the guest's clock has reached it.
            let made_us = first_us + (ticks * 100_000).div_ceil(percent);
            looks.push((page(ticks + 1, first_ns, last_ns), made_us.max(at_us) + delay_us));
        }
        let looks = std::cell::RefCell::new(looks);
        Ticks::asked(Box::new(move || looks.take()))
    }

    #[test]
    fn the_hosts_clock_judges_and_a_guests_that_differs_is_told() {
        // The source is left at 4 s and the target ticks first at 6.4 s; it is looked at from 7.5 s on.
        let over = |percent| {
            blackout(&ticked(100, 1_000_000, 2_000_000, 4_000_000), &ticked(percent, 6_400_000, 7_500_000, 9_500_000))
                .unwrap()
        };
        for percent in [50, 90, 110, 200] {
            let found = over(percent);
            let by_guest_us = found.by_guest_us.unwrap();
            assert!(found.duration_us.abs_diff(2_400_000) < 10_000, "{percent} %: {found:?}");
            // The guest says of 1.1 s that they were so many.
            let expected = 2_400_000 + 1_100_000 - 1_100_000 * percent / 100;
            assert!(by_guest_us.abs_diff(expected) < 10_000, "{percent} %: {by_guest_us} is not {expected}");
        }
        let right = over(100);
        assert_eq!(right.by_guest_us, None);
        assert!(right.duration_us.abs_diff(2_400_000) < 10_000, "{right:?}");
    }

    #[test]
    fn a_clock_that_is_wrong_enough_to_lead_before_the_start_is_no_lack_of_ticks() {
        let source = ticked(100, 1_000_000, 2_000_000, 4_000_000);
        // By its own clock it had ticked for 33 s before it was looked at.
        let target = ticked(3000, 6_400_000, 7_500_000, 9_500_000);
        let found = blackout(&source, &target).unwrap();
        assert!(found.duration_us.abs_diff(2_400_000) < 10_000, "{found:?}");
        assert_eq!(found.by_guest_us, Some(0));
    }

    #[test]
    fn ticks_that_were_seen_for_a_moment_only_say_nothing_of_a_clock() {
        let target = ticked(100, 6_400_000, 7_500_000, 7_600_000);
        let found = blackout(&ticked(100, 1_000_000, 2_000_000, 4_000_000), &target).unwrap();
        assert!(found.duration_us.abs_diff(2_400_000) < 10_000 && found.by_guest_us.is_none(), "{found:?}");
    }

    #[test]
    fn a_guest_that_writes_any_times_takes_bounded_memory() {
        let mut envelope = Envelope::default();
        // A parabola: each point is a corner.
        for at in 0..3 * CORNERS as u64 {
            envelope.add(at, at * at);
        }
        assert!(envelope.corners.len() <= CORNERS && envelope.clock().is_some());
        envelope.add(1, u64::MAX / 2);
        assert_eq!(envelope.corners.len(), 1);
    }

    #[test]
    fn what_is_no_tick_page_or_does_not_grow_is_not_a_tick() {
        let mut seen = TickStats::default();
        seen.take(&[0xff; tick_page::LENGTH], 10);
        assert!(seen.span().is_none());
        seen.take(&page(5, 1, 1), 20);
        seen.take(&page(5, 1, 1), 30);
        seen.take(&page(4, 1, 1), 40);
        assert_eq!(seen.last_change_us, 20);
    }
}
