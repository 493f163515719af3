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
        self.span().map(|span| span.last_us)
    }
}

/// The blackout: from the last tick of `source` to the first tick of `target`. `None` if one has no ticks.
pub(crate) fn blackout(source: &Ticks, target: &Ticks) -> Option<Blackout> {
    let late_us = source.late_us() + target.late_us();
    let (source, target) = (source.span()?, target.span()?);
    Some(Blackout {
        duration_us: target.first_us.saturating_sub(source.last_us),
        // The error of each end is at most one tick period, plus the delay of a read.
        resolution_us: 2 * TICK_PERIOD_MS * 1000 + late_us,
        last_tick: source.count,
    })
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
    /// The smallest observed difference between the host's clock and the guest's, in nanoseconds. A tick is never
    /// seen before it is made, so that the smallest difference is the most exact.
    offset_ns: Option<i64>,
}

struct Span {
    first_us: u64,
    last_us: u64,
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
        self.count = count;
        self.first_ns = word(tick_page::OFFSET_FIRST_NS);
        self.last_ns = word(tick_page::OFFSET_LAST_NS);
        self.last_change_us = now_us;
        let offset = (now_us as i64) * 1000 - self.last_ns as i64;
        self.offset_ns = Some(self.offset_ns.map_or(offset, |known| known.min(offset)));
    }

    /// The first and the last tick on the host's clock.
    fn span(&self) -> Option<Span> {
        let offset = self.offset_ns?;
        let host_us = |guest_ns: u64| u64::try_from((guest_ns as i64 + offset) / 1000).ok();
        Some(Span { first_us: host_us(self.first_ns)?, last_us: host_us(self.last_ns)?, count: self.count })
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
