//! Sends numbered frames to a device of the guest during an update, and counts those that arrive.

use super::ticks::micros;
use super::witness::{Deaf, Hears};
use luqual_model::{Frames, Probe, Span};
use luqual_protocol::Workload;
use luqual_protocol::frames::numbered;
use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a frame waits for QEMU to accept it, as in a switch; then it is lost. After the target is told to open
/// the card again, no frame is lost by waiting, so that a busy host does no harm.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends frames until it is dropped.
pub(crate) struct Sender {
    /// The send times in microseconds since the boot's start, by frame number.
    sent: Arc<Mutex<Vec<u64>>>,
    /// Waiting frames with lower numbers are lost.
    lost_below: Arc<AtomicU32>,
    period_ms: u64,
    ended: Arc<AtomicBool>,
}

impl Sender {
    /// Starts to send a frame each period to the socket `input`; QEMU sends to `output`.
    pub(crate) fn start(input: &Path, output: &Path, started: Instant, period_ms: u64) -> io::Result<Self> {
        let socket = UnixDatagram::bind(output)?;
        socket.connect(input)?;
        socket.set_nonblocking(true)?;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let lost_below = Arc::new(AtomicU32::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        // A thread of its own sends the frames in time, whatever else the host does, and records when.
        thread::spawn({
            let (sent, lost_below, ended) = (sent.clone(), lost_below.clone(), ended.clone());
            move || {
                let mut waiting = VecDeque::new();
                let mut due = Instant::now();
                for number in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let at = Instant::now();
                    sent.lock().unwrap_or_else(PoisonError::into_inner).push(micros(started.elapsed()));
                    waiting.push_back((at, number));
                    let lost_below = lost_below.load(Ordering::Relaxed);
                    waiting.retain(|(since, number): &(Instant, u32)| {
                        *number >= lost_below && (lost_below > 0 || since.elapsed() <= PATIENCE)
                    });
                    // QEMU accepts no frames while the card cannot receive, and few while the host is busy.
                    while let Some((_, number)) = waiting.front()
                        && socket.send(&numbered(*number)).is_ok()
                    {
                        waiting.pop_front();
                    }
                    // Discard what the device sends.
                    while socket.recv(&mut [0; 64]).is_ok() {}
                    due += Duration::from_millis(period_ms);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        });
        Ok(Self { sent, lost_below, period_ms, ended })
    }

    /// The time between two frames, in microseconds.
    pub(crate) fn period_us(&self) -> u64 {
        self.period_ms * 1000
    }

    /// The send times so far.
    pub(crate) fn sent(&self) -> Vec<u64> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the waiting frames; they waited for the previous kernel.
    pub(crate) fn forget_waiting(&self) {
        let count = self.sent.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.lost_below.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Stops sending.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The times of an update, in microseconds since the boot's start.
pub(crate) struct Times {
    /// The time between two frames.
    pub(crate) period_us: u64,
    /// The source's last tick.
    pub(crate) last_tick_us: u64,
    /// When the target was told to open the device again.
    pub(crate) taken_us: u64,
}

/// Counts the frames by phase: `sent` has the send times, `before` and `after` the runs of frames that each kernel
/// received. The first frame that the target received shows when it listened again.
pub(crate) fn account(sent: &[u64], before: &[(u32, u32)], after: &[(u32, u32)], times: &Times) -> Frames {
    let number_at = |us: u64| sent.partition_point(|at| *at < us) as u32;
    let count = sent.len() as u32;
    // Frames that wait for a card that cannot receive arrive late; they do not belong to the target.
    let taken = number_at(times.taken_us);
    let after: Vec<(u32, u32)> =
        after.iter().filter(|(_, last)| *last >= taken).map(|(first, last)| ((*first).max(taken), *last)).collect();
    let again = after.first().map_or(count, |(first, _)| *first);
    // Frames after the last received one had no time to arrive.
    let end = after.last().map_or(count, |(_, last)| last.saturating_add(1)).min(count);
    let bounds = [0, number_at(times.last_tick_us), taken, again.min(end), end];
    let received: Vec<(u32, u32)> = before.iter().chain(&after).copied().collect();
    let within = |first: u32, end: u32| {
        let overlap = |run: &(u32, u32)| run.1.saturating_add(1).min(end).saturating_sub(run.0.max(first));
        received.iter().map(overlap).sum()
    };
    let spans = ["source", "blackout", "target", "after"].iter().zip(bounds.windows(2)).map(|(when, bound)| {
        let (first, end) = (bound[0], bound[1].max(bound[0]));
        Span { when: (*when).to_owned(), first, sent: end - first, received: within(first, end) }
    });
    Frames { period_us: times.period_us, spans: spans.collect(), received: received.clone() }
}

/// The probes: the device has to receive all frames of the target, those of the blackout too if its descriptor is
/// preserved, and some of the blackout if it is a control. Some frames of the source must have
/// arrived, where the card listens: otherwise the host does not reach it.
pub(crate) fn probes(frames: &Frames, workload: &Workload) -> Result<Vec<Probe>, Deaf> {
    let reached = frames.spans.iter().any(|span| span.when == "source" && span.received > 0);
    Hears::by(reached, || Deaf {
        witness: "the sender of frames",
        why: "none of its frames arrived in the source".to_owned(),
        remedy: "see qemu.stderr, and whether the host is too busy",
    })?;
    if workload.control {
        let seen = frames.spans.iter().any(|span| span.when == "blackout" && span.received > 0);
        let told = |seen| if seen { "seen" } else { "not seen" }.to_owned();
        let name = "control host: frames of the blackout".to_owned();
        return Ok(vec![Probe { name, expected: told(true), observed: told(seen), passed: seen }]);
    }
    let of = |name: &str, when: &str| {
        let span = frames.spans.iter().find(|span| span.when == when);
        let (sent, received) = span.map_or((0, 0), |span| (span.sent, span.received));
        let passed = sent > 0 && received == sent;
        let expected = format!("all of {sent}, and some");
        Probe { name: name.to_owned(), expected, observed: format!("{received} of {sent}"), passed }
    };
    let blackout = workload.preserves_device.then(|| of("D5 host: frames of the blackout", "blackout"));
    Ok(blackout.into_iter().chain([of("D1 host: frames of the target", "after")]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &Frames, name: &str) -> Result<Vec<Probe>, Deaf> {
        probes(frames, luqual_protocol::find_workload(name).unwrap())
    }

    const PRESERVED: &str = "vfio.e1000e.preserved-busy";
    const CONTROL: &str = "vfio.e1000e.bus-master";

    fn sent(count: u64) -> Vec<u64> {
        (0..count).map(|number| number * 1000).collect()
    }

    const TIMES: Times = Times { period_us: 1000, last_tick_us: 300_500, taken_us: 2_000_500 };

    fn spans(frames: &Frames) -> Vec<(&str, u32, u32, u32)> {
        frames.spans.iter().map(|it| (it.when.as_str(), it.first, it.sent, it.received)).collect()
    }

    #[test]
    fn frames_are_counted_by_when_they_were_sent() {
        let frames = account(&sent(2500), &[(0, 280)], &[(2300, 2330), (2332, 2400)], &TIMES);
        assert_eq!(
            spans(&frames),
            [("source", 0, 301, 281), ("blackout", 301, 1700, 0), ("target", 2001, 299, 0), ("after", 2300, 101, 100)]
        );
        let probes = of(&frames, PRESERVED).unwrap();
        assert_eq!((probes[0].observed.as_str(), probes[0].passed), ("0 of 1700", false));
        assert_eq!((probes[1].observed.as_str(), probes[1].passed), ("100 of 101", false));
    }

    #[test]
    fn all_of_them_is_what_holds_and_none_at_all_is_not() {
        let all = of(&account(&sent(2500), &[(0, 2100)], &[(2300, 2400)], &TIMES), PRESERVED).unwrap();
        assert!(all.iter().all(|probe| probe.passed), "{all:?}");
        // A host whose frames never arrived does not know why none arrived later.
        assert!(of(&account(&[], &[], &[], &TIMES), PRESERVED).is_err());
        assert!(of(&account(&sent(2500), &[], &[(2300, 2400)], &TIMES), PRESERVED).is_err());
        let deaf = account(&sent(2500), &[(0, 280)], &[], &TIMES);
        assert_eq!(spans(&deaf)[2..], [("target", 2001, 499, 0), ("after", 2500, 0, 0)]);
        assert!(!of(&deaf, PRESERVED).unwrap()[1].passed);
        let stock: Vec<String> = of(&deaf, "vfio.e1000e.busy").unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(stock, ["D1 host: frames of the target"]);
        assert!(!of(&deaf, CONTROL).unwrap()[0].passed);
        assert!(of(&account(&sent(2500), &[(0, 400)], &[], &TIMES), CONTROL).unwrap()[0].passed);
        // What had waited is not counted.
        let kept = account(&sent(2500), &[(0, 280)], &[(1500, 1510), (2300, 2319)], &TIMES);
        assert_eq!(spans(&kept)[1..], [("blackout", 301, 1700, 0), ("target", 2001, 299, 0), ("after", 2300, 20, 20)]);
    }
}
