//! The time in which a machine could not run: QEMU was stopped, waited for a processor or for the disk, or luqual
//! itself did not run. A kernel that was given no time does not hang.

use super::poll::Poller;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time in which a machine could not run, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// QEMU was stopped by a signal or a tracer.
    pub stopped: Duration,
    /// QEMU was ready, and the host gave its processors to others.
    pub waiting: Duration,
    /// QEMU waited for the disk, as when the host swaps.
    pub blocked: Duration,
    /// luqual did not run, as when its container is frozen.
    pub unseen: Duration,
}

impl Withheld {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.reasons().into_iter().map(|(time, _)| time).sum()
    }

    /// What came since an earlier look.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            stopped: self.stopped.saturating_sub(earlier.stopped),
            waiting: self.waiting.saturating_sub(earlier.waiting),
            blocked: self.blocked.saturating_sub(earlier.blocked),
            unseen: self.unseen.saturating_sub(earlier.unseen),
        }
    }

    fn reasons(&self) -> [(Duration, &'static str); 4] {
        [
            (self.stopped, "QEMU was stopped by a signal"),
            (self.waiting, "QEMU waited for a processor"),
            (self.blocked, "QEMU waited for the disk"),
            (self.unseen, "luqual itself did not run"),
        ]
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longer = self.reasons().into_iter().filter(|(time, _)| *time >= PERIOD);
        let said: Vec<String> = longer.map(|(time, why)| format!("{why} for {:.1} s", time.as_secs_f64())).collect();
        f.write_str(&said.join(", "))
    }
}

/// Tells how long a machine could not run since it was started.
#[derive(Clone)]
pub struct MachineTime(Rc<dyn Fn() -> Withheld>);

impl MachineTime {
    /// Watches a process and all of its threads until this and its clones are dropped.
    pub(crate) fn watch(pid: i32) -> Self {
        let seen = Arc::new(Mutex::new(Times::default()));
        let poller = Poller::start(PERIOD, {
            let (seen, started) = (seen.clone(), Instant::now());
            let tasks = format!("/proc/{pid}/task");
            move || {
                let (at, threads) = (started.elapsed(), threads(Path::new(&tasks)));
                seen.lock().unwrap_or_else(PoisonError::into_inner).look(at, &threads);
                ControlFlow::Continue(())
            }
        });
        Self(Rc::new(move || {
            // The closure keeps the poller.
            let _ = &poller;
            seen.lock().unwrap_or_else(PoisonError::into_inner).withheld
        }))
    }

    /// The time that a fake machine says.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn asked(told: impl Fn() -> Withheld + 'static) -> Self {
        Self(Rc::new(told))
    }

    /// The time in which the machine could not run.
    pub fn withheld(&self) -> Withheld {
        (self.0)()
    }
}

/// How often a process is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// A gap between two looks from which on luqual did not run. A busy host delays a look by less.
const UNSEEN: Duration = Duration::from_secs(1);

/// A thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread {
    /// Its state (proc_pid_stat(5)).
    state: u8,
    /// How long it was ready without a processor, since its start (Documentation/scheduler/sched-stats.rst).
    waited: Duration,
}

/// The threads of a process by their ids; empty if it has ended.
fn threads(tasks: &Path) -> BTreeMap<u32, Thread> {
    let Ok(entries) = fs::read_dir(tasks) else { return BTreeMap::new() };
    let thread = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
        // A kernel without CONFIG_SCHED_INFO does not tell how long a thread waited.
        let waited = read("schedstat").and_then(|text| waited(&text)).unwrap_or_default();
        Some((id, Thread { state: state(&read("stat")?)?, waited }))
    };
    entries.flatten().filter_map(thread).collect()
}

/// The state in a line of /proc/PID/stat: after the name, which can have any character.
fn state(stat: &str) -> Option<u8> {
    stat.rsplit_once(") ")?.1.bytes().next()
}

/// The second number of a line of /proc/PID/schedstat.
fn waited(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// What was seen of a process so far.
#[derive(Default)]
struct Times {
    withheld: Withheld,
    /// When it was looked at last.
    last: Option<Duration>,
    /// How long each thread had waited when it was seen first.
    first: BTreeMap<u32, Duration>,
}

impl Times {
    /// Adds a look at the threads, `at` that time.
    fn look(&mut self, at: Duration, threads: &BTreeMap<u32, Thread>) {
        let gap = at.saturating_sub(self.last.replace(at).unwrap_or(at));
        let has = |state: u8| threads.values().any(|thread| thread.state == state);
        // A signal stops all threads; QEMU starts others in the meantime only to end them.
        if has(b'T') || has(b't') {
            self.withheld.stopped += gap;
        } else if gap >= UNSEEN {
            self.withheld.unseen += gap;
        } else if has(b'D') && !has(b'R') {
            self.withheld.blocked += gap;
        }
        // A thread's number grows when it gets a processor at last, so that it can jump by more than the gap. Threads
        // that wait at the same time are one wait.
        for (id, thread) in threads {
            let first = *self.first.entry(*id).or_insert(thread.waited);
            self.withheld.waiting = self.withheld.waiting.max(thread.waited.saturating_sub(first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const MS: Duration = Duration::from_millis(1);

    fn threads_in(states: &[u8], waited_ms: u32) -> BTreeMap<u32, Thread> {
        (1..).zip(states.iter().map(|state| Thread { state: *state, waited: MS * waited_ms })).collect()
    }

    fn after(looks: &[(u32, &[u8], u32)]) -> Withheld {
        let mut times = Times::default();
        for (at_ms, states, waited_ms) in looks {
            times.look(MS * *at_ms, &threads_in(states, *waited_ms));
        }
        times.withheld
    }

    #[test]
    fn each_reason_is_counted_once() {
        assert_eq!(after(&[(0, b"SR", 7), (100, b"SR", 7), (200, b"SS", 7)]), Withheld::default());
        // A tracer's stop counts as a signal's; the gap of a look that came late counts as stopped.
        let stopped = after(&[(0, b"SR", 0), (100, b"TT", 0), (200, b"tt", 0), (3200, b"TT", 0), (3300, b"SR", 0)]);
        assert_eq!(stopped, Withheld { stopped: 3200 * MS, ..Withheld::default() });
        // What waited before it was first seen, and what waits in two threads at once, does not count twice.
        let waiting = after(&[(0, b"RR", 50), (100, b"RR", 50), (200, b"RR", 350), (300, b"RR", 360)]);
        assert_eq!(waiting, Withheld { waiting: 310 * MS, ..Withheld::default() });
        // A thread that writes a file stops no processor.
        let blocked = after(&[(0, b"SD", 0), (100, b"RD", 0), (200, b"SD", 0)]);
        assert_eq!(blocked, Withheld { blocked: 100 * MS, ..Withheld::default() });
        let unseen = after(&[(0, b"SR", 0), (900, b"SR", 0), (30_900, b"SR", 0)]);
        assert_eq!(unseen, Withheld { unseen: 30_000 * MS, ..Withheld::default() });
        // A process that has ended.
        assert_eq!(after(&[(0, b"SR", 0), (100, b"", 0)]), Withheld::default());
    }

    #[test]
    fn a_state_is_after_the_name_whatever_that_is() {
        assert_eq!(state("71 (qemu) T 1 71 71 0 -1"), Some(b'T'));
        assert_eq!(state("71 (a) R (b) S 1 71"), Some(b'S'));
        assert_eq!([state(""), state("71 (qemu)")], [None, None]);
        assert_eq!(
            [waited("12 109845 1"), waited(""), waited("1 x 2")],
            [Some(Duration::from_nanos(109_845)), None, None]
        );
    }

    #[test]
    fn it_is_told_in_words_by_the_reasons_that_count() {
        let withheld = Withheld { stopped: 31_250 * MS, waiting: 400 * MS, blocked: MS, unseen: Duration::ZERO };
        assert_eq!(
            withheld.to_string(),
            "QEMU was stopped by a signal for 31.2 s, QEMU waited for a processor for 0.4 s"
        );
        assert_eq!(withheld.total(), 31_651 * MS);
        assert_eq!(withheld.since(&withheld), Withheld::default());
    }

    #[test]
    fn a_process_that_a_signal_stops_is_seen_as_stopped() {
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let time = MachineTime::watch(i32::try_from(child.id()).unwrap());
        std::thread::sleep(2 * PERIOD);
        assert_eq!(time.withheld().stopped, Duration::ZERO);
        let stopped = Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        let begun = Instant::now();
        while time.withheld().stopped < 3 * PERIOD {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", time.withheld());
            std::thread::sleep(PERIOD);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
