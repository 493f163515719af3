//! Watches the nested virtual machines from the host: when each resumes after an update, and whether its own clock
//! advanced as much as the host's.

use super::poll::{PERIOD, Poller};
use super::ticks::micros;
use super::witness::{Deaf, Hears, REPORT_IT};
use crate::judge::Stop;
use luqual_model::{Measure, PauseTimes, Probe, VmCounter, VmEvent, VmReport};
use luqual_program::{MAGIC, Word};
use luqual_protocol::{PausedMachine, Said, clock_tolerance_ms};
use luqual_vm::Ram;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A machine since its pause. Times are in microseconds since the boot's start.
struct NestedVm {
    /// When the pause was reported, and the report.
    told_us: u64,
    paused: PausedMachine,
    seen: Arc<ResumeTimes>,
    poller: Poller,
}

/// A value of 0 means not yet.
#[derive(Default)]
struct ResumeTimes {
    went_on_us: AtomicU64,
    released_us: AtomicU64,
}

impl NestedVm {
    /// Begins to watch a machine whose report page the host sees.
    fn watch(ram: Ram, paused: PausedMachine, told_us: u64, started: Instant) -> Result<Self, Deaf> {
        let word = |word: Word| read(&ram, paused.account, word);
        let shows = [(Word::Magic, Some(MAGIC)), (Word::Holding, paused.holds.then_some(1))];
        let is_there = shows.iter().all(|(at, is)| is.is_none_or(|is| word(*at) == Some(is)));
        Hears::by(is_there && word(Word::Beat).is_some_and(|beat| beat > 0), || Deaf {
            witness: "the RAM file",
            why: format!("at {:#x} it has no report of a virtual machine that is paused", paused.account),
            remedy: REPORT_IT,
        })?;
        let seen = Arc::new(ResumeTimes::default());
        let poller = Poller::start(PERIOD, {
            let (seen, account, holds) = (seen.clone(), paused.account, paused.holds);
            let word = move |word: Word| read(&ram, account, word);
            let beat = word(Word::Beat);
            let started = started.into_std();
            move || {
                let now_us = micros(started.elapsed());
                let mut went_on = seen.went_on_us.load(Ordering::Relaxed) > 0;
                if !went_on && word(Word::Beat) != beat {
                    seen.went_on_us.store(now_us, Ordering::Relaxed);
                    went_on = true;
                }
                let is_over = if holds { word(Word::Holding) == Some(0) } else { went_on };
                if !is_over {
                    return ControlFlow::Continue(());
                }
                seen.released_us.store(now_us, Ordering::Relaxed);
                ControlFlow::Break(())
            }
        });
        Ok(Self { told_us, paused, seen, poller })
    }

    /// The pause times, if the end of the pause was seen.
    fn stood(&self) -> Option<PauseTimes> {
        let end = |end: &AtomicU64| Some(end.load(Ordering::Relaxed)).filter(|end_us| *end_us > 0);
        Some(PauseTimes {
            held_us: self.told_us.saturating_sub(self.paused.held_us),
            paused_us: self.told_us.saturating_sub(self.paused.paused_us),
            went_on_us: end(&self.seen.went_on_us)?,
            released_us: end(&self.seen.released_us)?,
        })
    }
}

/// A word of a report page.
fn read(ram: &Ram, account: u64, word: Word) -> Option<u64> {
    let mut bytes = [0; 8];
    ram.read(account + word as u64 * 8, &mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
}

/// The paused virtual machine of each part.
pub(crate) struct NestedVms(Vec<Option<NestedVm>>);

/// The results of an update.
#[derive(Default)]
pub(crate) struct WentOn {
    pub(crate) probes: Vec<Probe>,
    pub(crate) measures: Vec<Measure>,
    pub(crate) vm_reports: Vec<VmReport>,
}

impl NestedVms {
    pub(crate) fn of(parts: usize) -> Self {
        Self((0..parts).map(|_| None).collect())
    }

    /// Starts to watch the machine that a part has paused, if there is one.
    pub(crate) fn paused(
        &mut self,
        part: usize,
        said: &Said,
        ram: &Ram,
        now_us: u64,
        started: Instant,
    ) -> Result<(), Stop> {
        if let Some(paused) = said.paused.clone() {
            let watched = NestedVm::watch(ram.clone(), paused, now_us, started);
            self.0[part] = Some(watched.map_err(|deaf| Stop::Host(deaf.to_string()))?);
        }
        Ok(())
    }

    /// The results after the machines of a part were verified, after `hop` kexecs.
    pub(crate) fn went_on(&mut self, part: usize, said: &Said, hop: u32) -> Result<WentOn, Stop> {
        let mut seen = self.0[part].take().map(|it| (it.stood(), it.poller.late()));
        let mut told = WentOn::default();
        for account in &said.vm_reports {
            // The first machine is the watched one.
            let (seen, late) = seen.take().unzip();
            if let (Some(stood), Some(late), Some(moved_us)) = (seen, late, account.moved_us()) {
                let held_us = stood.map(|it| it.released_us - it.held_us);
                let probe = clock(held_us, late, moved_us, account.apart_us);
                told.probes.push(probe.map_err(|deaf| Stop::Host(deaf.to_string()))?);
                told.measures.extend(stood.map(|stood| Measure {
                    what: "virtual machine stood still, by the host's clock".to_owned(),
                    size: 1,
                    unit: "machines".to_owned(),
                    hop,
                    duration_us: stood.went_on_us - stood.paused_us,
                }));
            }
            told.vm_reports.push(recorded(account, hop.saturating_sub(1), seen.flatten()));
        }
        Ok(told)
    }
}

fn recorded(account: &luqual_protocol::VmReport, hop: u32, seen: Option<PauseTimes>) -> VmReport {
    let moments = account.moments.iter().map(|(what, at_us)| VmEvent { what: what.clone(), at_us: *at_us });
    let count =
        |(what, before, after): &(String, u64, u64)| VmCounter { what: what.clone(), before: *before, after: *after };
    VmReport {
        machine: account.machine.clone(),
        hop,
        seen,
        moments: moments.collect(),
        counts: account.counts.iter().map(count).collect(),
    }
}

/// Compares the advance of a machine's own clock with the time for which the host saw it paused. A host that looked `late`
/// says nothing if it can have missed the end, or if its delay can be the difference.
fn clock(held_us: Option<u64>, late: Duration, moved_us: u64, apart_us: u64) -> Result<Probe, Deaf> {
    let name = "machine host: clock over the update".to_owned();
    let (held_ms, moved_ms) = (held_us.map(|us| us / 1000), moved_us / 1000);
    let late_ms = micros(late) / 1000;
    let tolerance_ms = clock_tolerance_ms(held_ms.unwrap_or_default(), apart_us / 1000);
    let (expected, observed, apart_ms) = match held_ms {
        Some(held_ms) => (
            format!("{held_ms} ms on, or {tolerance_ms} ms from it at most"),
            format!("{moved_ms} ms on"),
            held_ms.abs_diff(moved_ms),
        ),
        // An end that was missed came while the host did not look.
        None => {
            let (expected, observed) = ("as long as the host saw it paused", "the host did not see the pause end");
            (expected.to_owned(), observed.to_owned(), late_ms.max(tolerance_ms + 1))
        }
    };
    let passed = apart_ms <= tolerance_ms;
    let is_excused = late_ms > tolerance_ms && apart_ms <= tolerance_ms + late_ms;
    Hears::by(passed || !is_excused, || Deaf {
        witness: "the host's look at a virtual machine",
        why: format!("it came {late_ms} ms late, and has to come within {tolerance_ms} ms; {observed}"),
        remedy: "run fewer machines at once (--jobs)",
    })?;
    Ok(Probe { name, expected, observed, passed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_that_is_no_report_of_a_paused_machine_is_no_witness() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ram");
        let watch = |words: &[(Word, u64)], holds| {
            let mut page = [0; 4096];
            for (word, value) in words {
                page[*word as usize * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
            std::fs::write(&path, page).unwrap();
            let paused = PausedMachine { account: 0, held_us: 0, paused_us: 0, holds };
            NestedVm::watch(Ram::of_file(&path, 4096).unwrap(), paused, 0, Instant::now()).is_ok()
        };
        let (magic, beat, holding) = ((Word::Magic, MAGIC), (Word::Beat, 7), (Word::Holding, 1));
        assert!(watch(&[magic, beat, holding], true) && watch(&[magic, beat], false));
        assert!(!watch(&[], false) && !watch(&[beat, holding], true) && !watch(&[magic, holding], true));
        assert!(!watch(&[magic, beat], true));
    }

    #[test]
    fn a_clock_has_to_move_as_long_as_the_host_saw() {
        let at_once = |held_us, moved_us| clock(held_us, Duration::ZERO, moved_us, 0).unwrap().passed;
        assert!(at_once(Some(2_500_000), 2_600_000));
        assert!(!at_once(Some(2_500_000), 12_500_000));
        assert!(!at_once(Some(2_500_000), 0));
        // Of a short update too, one that stood still.
        assert!(!at_once(Some(400_000), 20_000));
        assert!(at_once(Some(20_000_000), 22_000_000));
        assert!(!at_once(None, 2_500_000));
        // One that looks now and then may have looked before, or look after.
        let apart = clock(Some(2_500_000), Duration::ZERO, 3_000_000, 200_000);
        assert!(!at_once(Some(2_500_000), 3_000_000) && apart.unwrap().passed);
    }

    #[test]
    fn a_host_that_looked_too_late_says_nothing_against_a_kernel() {
        let looked = |held_us, late_ms, moved_us| clock(held_us, Duration::from_millis(late_ms), moved_us, 0);
        assert!(looked(None, 1300, 2_500_000).is_err() && !looked(None, 250, 2_500_000).unwrap().passed);
        let deaf = looked(Some(3_800_000), 1300, 2_500_000).unwrap_err().to_string();
        assert!(deaf.contains("1300 ms late") && deaf.contains("--jobs"), "{deaf}");
        // A delay that is shorter than what is tolerated excuses nothing, and what agrees needs no excuse.
        assert!(!looked(Some(12_500_000), 1300, 2_500_000).unwrap().passed);
        assert!(!looked(Some(2_500_000), 1300, 12_500_000).unwrap().passed);
        assert!(looked(Some(2_500_000), 1300, 2_600_000).unwrap().passed);
    }
}
