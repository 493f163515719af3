//! `luqual bench --cells N`: the whole way of a large run, with a machine that is not there in place of QEMU.

use super::execute::{TOOL, write_html, write_json};
use super::history::History;
use super::plan::{boots_and_loads, planned, slots};
use super::registry::Registry;
use super::report::read;
use super::selection::Chosen;
use crate::error::{CliError, Exit};
use luqual_config::{Budget, Deadlines, Expectations};
use luqual_kernels::Store;
use luqual_model::{
    Blackout, CellKey, CellRecord, Event, Finding, FindingKind, HostInfo, Outcome, Phase, PhaseEnd, PhaseRecord,
    Planned, Probe, Run, Settings, Side, Stamped, Status, Told,
};
use luqual_runner::{Dispatcher, JOURNAL, Slots, run_all};
use luqual_vm::profile::PROFILES;
use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Every cell of that number is lost, as one in a run might be.
const LOST_EVERY: usize = 50;

/// Plans, runs and reports `count` cells, and prints what each part takes.
pub(crate) async fn run(count: usize, store: &Store) -> Result<Exit, CliError> {
    println!("{count} cells on a machine that is not there: what the tool itself takes");
    println!("{:<20} {:>8} {:>10} {:>10}", "", "seconds", "RSS, MiB", "file, MiB");
    let folder = tempfile::tempdir().map_err(CliError::file("a temporary folder"))?;
    let folder = folder.path();
    let meter = RefCell::new(Meter { folder, since: Instant::now() });
    let told = |what: &str, file: Option<&str>| meter.borrow_mut().tell(what, file);
    told("start", None);

    let chosen = Chosen {
        partition: None,
        seed: None,
        cells: cells(&store.catalog().versions(), count),
        deadlines: Deadlines::default(),
        budget: Budget::default(),
        expectations: Expectations::default(),
        registry: Registry::new(&[], store)?,
    };
    let info = |name: &str| store.find(name).ok().flatten().map(|kernel| kernel.info);
    let slots = Slots { jobs: 2, ..slots(None, chosen.budget) };
    let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut run =
        Run::new("scale".to_owned(), TOOL.to_owned(), std::env::args().collect(), started, HostInfo::default());
    run.planned = planned(&chosen, info, store);
    run.settings = Settings { jobs: slots.jobs, repeat: 1, ..Settings::default() };
    let all: Vec<&Planned> = run.planned.iter().collect();
    let (_, loads) = boots_and_loads(&all, &chosen.registry, true, slots, &History::default())?;
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
    let dispatcher = Dispatcher::create(folder, &run, &mut observer).map_err(CliError::file("the journal"))?;
    let (_keep, interrupt) = watch::channel(false);
    let start = |number: usize, events: mpsc::UnboundedSender<Event>| {
        let plan = run.planned[number].clone();
        async move {
            for event in life(plan, number) {
                // The dispatcher listens until the run has ended.
                let _ = events.send(event);
                tokio::task::yield_now().await;
            }
            true
        }
    };
    run_all(dispatcher, &loads, slots, &interrupt, start).await.map_err(CliError::file("the journal"))?;
    drop((run, loads));

    let record = read(folder)?;
    told("journal read", Some(JOURNAL));
    write_json(folder, &record)?;
    told("run.json", Some("run.json"));
    write_html(folder, &record)?;
    told("report.html", Some("report.html"));
    let lost = record.totals().by_outcome.get(&Outcome::Lost).copied();
    println!(
        "{} cells, {} lost, {} not run",
        record.run.planned.len(),
        lost.unwrap_or_default(),
        record.totals().not_run
    );
    Ok(Exit::Ok)
}

/// Tells what was taken since it was last asked.
struct Meter<'a> {
    folder: &'a Path,
    since: Instant,
}

impl Meter<'_> {
    fn tell(&mut self, what: &str, file: Option<&str>) {
        let size = file.and_then(|name| self.folder.join(name).metadata().ok());
        let size = size.map_or_else(String::new, |it| format!("{:.1}", it.len() as f64 / 1_048_576.0));
        let seconds = self.since.elapsed().as_secs_f64();
        println!("{what:<20} {seconds:>8.2} {:>10.1} {size:>10}", resident_mib());
        self.since = Instant::now();
    }
}

/// VmRSS of /proc/self/status (proc_pid_status(5)), in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// Every pair of the kernels, with as many workloads as it takes.
fn cells(kernels: &[&str], count: usize) -> Vec<CellKey> {
    let pairs = || kernels.iter().flat_map(|source| kernels.iter().map(move |target| (source, target)));
    let key = |workload: usize, source: &str, target: &str| CellKey {
        source: source.to_owned(),
        target: target.to_owned(),
        profile: PROFILES[0].name.to_owned(),
        workload: format!("scale.{workload}"),
    };
    let all = (0..).flat_map(|workload| pairs().map(move |(source, target)| key(workload, source, target)));
    all.take(count).collect()
}

/// What a cell of an ordinary size tells.
pub(crate) fn life(plan: Planned, number: usize) -> Vec<Event> {
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
        held: !lost,
    };
    let finding = |line: u64| Finding {
        kind: FindingKind::Luo,
        side: Side::Target,
        at_us: 9 * us,
        line,
        text: "luo: restored 2 sessions from the previous kernel".to_owned(),
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
    let record = CellRecord {
        status: Status::of(outcome, false, &Told::of(&probes), plan.expectation.as_ref()),
        title: if lost { "memfd 0 content: expected every byte as it was".to_owned() } else { String::new() },
        tainted: Vec::new(),
        phase: Phase::Finish,
        seed: number as u64,
        digest: None,
        planted: None,
        duration_us: us * phases.len() as u64,
        phases,
        probes,
        blackout: Some(Blackout { duration_us: 5 * us, resolution_us: 2000, last_tick: 1000 }),
        findings: (0..6).map(finding).collect(),
        folder: format!("cells/{id}"),
        shared_with: Vec::new(),
        measures: Vec::new(),
        frames: None,
        accounts: Vec::new(),
        attempts: Vec::new(),
        outcome,
        id,
        plan,
    };
    events.push(Event::CellFinished { record: Box::new(record) });
    events
}

/// A cell that ended so, for tests.
#[cfg(test)]
pub(crate) fn ended(outcome: luqual_model::Outcome) -> CellRecord {
    let [source, target, profile, workload] = ["7.2.12", "7.3.4", "p", "memfd.basic"].map(str::to_owned);
    let key = CellKey { source, target, profile, workload };
    match life(Planned { key, prediction: None, expectation: None }, 1).pop() {
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
