//! Measures luqual itself on a large run, with a simulated machine in place of QEMU.

use crate::context::Context;
use crate::durations::Durations;
use crate::error::EngineError;
use crate::folder::read_folder;
use crate::kernels::open_store;
use crate::plan::{boots_and_loads, planned, slots};
use crate::profiles::Profiles;
use crate::registry::Registry;
use crate::report_files::{write_html, write_json};
use crate::request::KernelSource;
use crate::selection::Chosen;
use luqual_config::{Budget, DEFAULT_MACHINE, Deadlines, Expectations};
use luqual_model::{
    Blackout, CellKey, CellRecord, End, Event, Finding, FindingKind, Outcome, Phase, PhaseEnd, PhaseRecord,
    PlannedCell, Probe, ProbeNames, Settings, Side, Stamped, Status,
};
use luqual_runner::{Arrival, Dispatcher, JOURNAL, Slots, run_all};
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Each cell whose number is a multiple of this is lost.
const LOST_EVERY: usize = 50;

/// The resources of one step of a large run.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The step.
    pub what: String,
    /// The duration of the step.
    pub time: Duration,
    /// The resident memory of this process, in MiB.
    pub resident_mib: f64,
    /// The size of the file that it wrote, in MiB, if there is one.
    pub file_mib: Option<f64>,
}

/// The number of cells at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleTotals {
    /// Planned cells.
    pub cells: usize,
    /// Lost cells.
    pub lost: usize,
    /// Cells without a result.
    pub not_run: usize,
}

/// Plans, runs and reports `count` cells. `tell` gets the resources of each step.
pub async fn scale(
    context: &Context<'_>,
    count: usize,
    kernels: &KernelSource,
    tell: &dyn Fn(Taken),
) -> Result<ScaleTotals, EngineError> {
    let store = &open_store(kernels)?;
    let folder = tempfile::tempdir().map_err(EngineError::own("a temporary folder"))?;
    let folder = folder.path();
    let meter = RefCell::new(Meter { folder, since: Instant::now() });
    let told = |what: &str, file: Option<&str>| tell(meter.borrow_mut().taken(what, file));
    told("start", None);

    let chosen = Chosen {
        partition: None,
        seed: None,
        cells: cells(&store.catalog().versions(), count),
        deadlines: Deadlines::default(),
        budget: Budget::default(),
        expectations: Expectations::default(),
        registry: Registry::new(&[], Profiles::default(), store)?,
    };
    let info = |name: &str| store.find(name).ok().flatten().map(|kernel| kernel.info);
    let slots = Slots { jobs: 2, ..slots(None, chosen.budget) };
    let mut run = context.new_run();
    run.id = "scale".to_owned();
    run.planned = planned(&chosen, info, store);
    run.settings = Settings { jobs: slots.jobs, repeat: 1, ..Settings::default() };
    let all: Vec<&PlannedCell> = run.planned.iter().collect();
    let (_, loads) = boots_and_loads(&all, &chosen.registry, |_| true, slots, &Durations::default())?;
    drop(all);
    drop(chosen);
    told("planned", None);

    let (mut done, tenth) = (0, (count / 10).max(1));
    let mut observer = |stamped: &Stamped| {
        if let Event::CellFinished { .. } = stamped.event {
            done += 1;
            if done % tenth == 0 {
                told(&format!("run, {done} ended"), Some(JOURNAL));
            }
        }
    };
    let dispatcher = Dispatcher::create(folder, &run, &mut observer).map_err(EngineError::own("the journal"))?;
    let start = |number: usize, events: mpsc::UnboundedSender<Event>| {
        let plan = run.planned[number].clone();
        async move {
            for event in life(plan, number) {
                // The dispatcher receives until the run has ended.
                let _ = events.send(event);
                tokio::task::yield_now().await;
            }
            true
        }
    };
    let mut all = Some(loads);
    let arrive = async |_: &mpsc::UnboundedSender<Event>| all.take().map_or(Arrival::All, Arrival::Boots);
    run_all(dispatcher, slots, arrive, start).await.map_err(EngineError::own("the journal"))?;
    drop(run);

    let record = read_folder(folder)?;
    told("journal read", Some(JOURNAL));
    write_json(folder, &record)?;
    told("run.json", Some("run.json"));
    write_html(folder, &record)?;
    told("report.html", Some("report.html"));
    let totals = record.totals();
    let lost = totals.by_outcome.get(&Outcome::Lost).copied().unwrap_or_default();
    Ok(ScaleTotals { cells: record.run.planned.len(), lost, not_run: totals.not_run })
}

/// Measures each step since the previous one.
struct Meter<'a> {
    folder: &'a Path,
    since: Instant,
}

impl Meter<'_> {
    fn taken(&mut self, what: &str, file: Option<&str>) -> Taken {
        let size = file.and_then(|name| self.folder.join(name).metadata().ok());
        let time = self.since.elapsed();
        self.since = Instant::now();
        let file_mib = size.map(|it| it.len() as f64 / 1_048_576.0);
        Taken { what: what.to_owned(), time, resident_mib: resident_mib(), file_mib }
    }
}

/// VmRSS of /proc/self/status (proc_pid_status(5)), in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// All pairs of the kernels, with as many workloads as `count` needs.
fn cells(kernels: &[&str], count: usize) -> Vec<CellKey> {
    let pairs = || kernels.iter().flat_map(|source| kernels.iter().map(move |target| (source, target)));
    let key = |workload: usize, source: &str, target: &str| CellKey {
        source: source.to_owned(),
        target: target.to_owned(),
        profile: DEFAULT_MACHINE.to_owned(),
        workload: format!("scale.{workload}"),
    };
    let all = (0..).flat_map(|workload| pairs().map(move |(source, target)| key(workload, source, target)));
    all.take(count).collect()
}

/// The events of a typical cell.
fn life(plan: PlannedCell, number: usize) -> Vec<Event> {
    let (id, lost) = (plan.key.id(), number % LOST_EVERY == LOST_EVERY - 1);
    let us = 350_000 + (number as u64 * 7919) % 10_000;
    let outcome = if lost { Outcome::Lost } else { Outcome::Survived };
    let phases: Vec<PhaseRecord> = Phase::ALL
        .into_iter()
        .zip(0..)
        .map(|(phase, at)| PhaseRecord { phase, hop: 0, started_us: at * us, duration_us: us, end: PhaseEnd::Done })
        .collect();
    let probe = |name: usize| Probe {
        name: format!("memfd {name} content"),
        expected: "every byte as it was".to_owned(),
        observed: if lost { "page 3 offset 17 is 0x01, was 0x00" } else { "every byte as it was" }.to_owned(),
        passed: !lost,
    };
    let finding = |line: u64| Finding {
        kind: FindingKind::Luo,
        side: Side::Target,
        hop: 1,
        at_us: 9 * us,
        line,
        text: "luo: restored 2 sessions from the previous kernel".to_owned(),
        function: None,
    };
    let started = Event::CellStarted { cell: id.clone(), key: plan.key.clone() };
    let mut events = vec![started];
    for record in &phases {
        let (phase, hop) = (record.phase, record.hop);
        events.push(Event::PhaseStarted { cell: id.clone(), phase, hop });
        let end = record.end.clone();
        events.push(Event::PhaseEnded { cell: id.clone(), phase, hop, duration_us: us, end });
    }
    let probes: Vec<Probe> = (0..15).map(probe).collect();
    let status =
        Status::of(&End { probes: ProbeNames::of(&probes), ..End::of(outcome, &[]) }, plan.expectation.as_ref());
    let record = CellRecord {
        title: if lost { "memfd 0 content: expected every byte as it was".to_owned() } else { String::new() },
        seed: number as u64,
        duration_us: us * phases.len() as u64,
        phases,
        probes,
        blackout: Some(Blackout { duration_us: 5 * us, resolution_us: 2000, last_tick: 1000, by_guest_us: None }),
        findings: (0..6).map(finding).collect(),
        folder: format!("cells/{id}"),
        ..CellRecord::new(plan, outcome, status)
    };
    events.push(Event::CellFinished { record: Box::new(record) });
    events
}

/// A cell that ended so, for tests.
#[cfg(test)]
pub(crate) fn ended(outcome: luqual_model::Outcome) -> CellRecord {
    let [source, target, profile, workload] = ["7.2.12", "7.3.4", "p", "memfd.basic"].map(str::to_owned);
    let key = CellKey { source, target, profile, workload };
    match life(PlannedCell { key, prediction: None, expectation: None }, 1).pop() {
        Some(Event::CellFinished { record }) => CellRecord { outcome, ..*record },
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_different_cells_as_were_asked_for() {
        let keys = cells(&["a", "b", "c"], 100);
        let ids: std::collections::BTreeSet<String> = keys.iter().map(|key| key.id().to_string()).collect();
        assert_eq!((keys.len(), ids.len()), (100, 100));
    }
}
