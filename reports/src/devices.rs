//! What became of devices: of each workload `vfio.<device>.<case>`, the levels that its probes say were kept.

use crate::frames::Strip;
use crate::latest::Latest;
use crate::record::Record;
use crate::words::end;
use luqual_model::{CellKey, CellRecord, Level, Outcome, Probe};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The devices of runs, and each way in which one failed a level.
pub(crate) struct Devices {
    /// By device, machine and pair; pairs in the order of the plans.
    pub(crate) rows: Vec<Row>,
    /// By level, then by what is told.
    pub(crate) failures: Vec<LevelFailure>,
    /// A cell each to whose device frames were sent, by device, case, machine and pair.
    pub(crate) sent: Vec<Sent>,
    /// The kernels of the rows, in their runs.
    pub(crate) kernels: BTreeSet<(usize, String)>,
}

/// A device on one machine and pair. One of which some cases got as far as their probes and others did not has a row
/// for each of both.
pub(crate) struct Row {
    /// With the cases, where they are not all.
    pub(crate) device: String,
    pub(crate) profile: String,
    pub(crate) pair: String,
    pub(crate) told: RowResult,
}

/// The frames that were sent to a device on one profile and pair.
pub(crate) struct Sent {
    /// With the case: a control is left at work on purpose.
    pub(crate) device: String,
    pub(crate) profile: String,
    pub(crate) pair: String,
    pub(crate) strip: Strip,
}

/// What a row says.
pub(crate) enum RowResult {
    /// The probes of each level.
    Levels([Checked; Level::ALL.len()]),
    /// The cell ended before its probes: how, in words.
    End(Outcome, String),
    /// The cell has no result.
    NotRun,
}

/// How many probes there are, and how many of them failed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checked {
    pub(crate) probes: usize,
    pub(crate) failed: usize,
}

impl Checked {
    /// A field of the table.
    pub(crate) fn word(self) -> String {
        match self {
            Self { probes: 0, .. } => "–".to_owned(),
            Self { failed: 0, .. } => "yes".to_owned(),
            Self { probes, failed } => format!("no ({failed} of {probes})"),
        }
    }
}

/// A failure of a level, and in how many rows it occurs.
pub(crate) struct LevelFailure {
    told: String,
    rows: usize,
}

impl LevelFailure {
    pub(crate) fn told(&self) -> String {
        format!("{} ({} row{})", self.told, self.rows, if self.rows == 1 { "" } else { "s" })
    }
}

/// Device, profile, and the place of the pair.
type RowKey = (String, String, usize);

/// The cells of a place.
#[derive(Default)]
struct Cells {
    pair: String,
    levels: [Checked; Level::ALL.len()],
    /// The cases of which those are.
    checked: Vec<String>,
    /// The other cases, by how they ended, if they did.
    others: BTreeMap<Option<(Outcome, String)>, Vec<String>>,
}

impl Devices {
    /// Of several runs, of which a cell counts in the last that has it.
    pub(crate) fn of(records: &[&Record]) -> io::Result<Self> {
        let latest = Latest::of(records.iter().copied());
        let mut pairs: Vec<String> = Vec::new();
        let mut rows_by_key: BTreeMap<RowKey, Cells> = BTreeMap::new();
        let mut failures: BTreeMap<(usize, String), BTreeSet<RowKey>> = BTreeMap::new();
        let mut sent = BTreeMap::new();
        let mut kernels = BTreeSet::new();
        for (run, record) in records.iter().enumerate() {
            for (number, (plan, brief)) in record.briefs().enumerate() {
                let Some((device, case)) = device_and_case(&plan.key) else { continue };
                if !latest.counts(run, plan) {
                    continue;
                }
                let pair = format!("{} → {}", plan.key.source, plan.key.target);
                let at = pairs.iter().position(|known| *known == pair).unwrap_or_else(|| {
                    pairs.push(pair.clone());
                    pairs.len() - 1
                });
                kernels.extend([(run, plan.key.source.clone()), (run, plan.key.target.clone())]);
                let key = (device.clone(), plan.key.profile.clone(), at);
                let cells = rows_by_key.entry(key.clone()).or_default();
                cells.pair.clone_from(&pair);
                let cell = brief.map(|_| record.cell(number)).transpose()?;
                if let Some(frames) = cell.as_ref().and_then(|cell| cell.frames.as_ref()) {
                    let (device, profile) = (format!("{device} ({case})"), plan.key.profile.clone());
                    let strip = Strip::of(frames);
                    sent.insert((device.clone(), profile.clone(), at), Sent { device, profile, pair, strip });
                }
                for failure in cells.take(case, cell.as_ref()) {
                    failures.entry(failure).or_default().insert(key.clone());
                }
            }
        }
        let rows =
            rows_by_key.into_iter().flat_map(|((device, profile, _), cells)| cells.rows(&device, &profile)).collect();
        let failures = failures.into_iter().map(|((_, told), rows)| LevelFailure { told, rows: rows.len() }).collect();
        Ok(Self { rows, failures, sent: sent.into_values().collect(), kernels })
    }
}

impl Cells {
    /// Takes a cell in, and gives what of it was not kept, each with the place of its level.
    fn take(&mut self, case: &str, cell: Option<&CellRecord>) -> Vec<(usize, String)> {
        let Some(cell) = cell.filter(|cell| is_checked(cell)) else {
            let how = cell.map(|cell| (cell.outcome, end(cell)));
            self.others.entry(how).or_default().push(case.to_owned());
            return Vec::new();
        };
        self.checked.push(case.to_owned());
        let mut failures = Vec::new();
        for probe in &cell.probes {
            let level = probe.level();
            if let Some(level) = level {
                let checked = &mut self.levels[level as usize];
                checked.probes += 1;
                checked.failed += usize::from(!probe.passed);
            }
            if !probe.passed {
                let told = format!("{}: expected {}, observed {}", probe.name, probe.expected, alike(&probe.observed));
                failures.push((level.map_or(Level::ALL.len(), |level| level as usize), told));
            }
        }
        // What taints a survival, or ended a cell before all of its probes.
        let names = |probe: &Probe| cell.title.starts_with(&format!("{}: expected ", probe.name));
        let is_told = cell.probes.iter().any(|probe| !probe.passed && names(probe));
        if !is_told && !cell.title.is_empty() {
            failures.push((Level::ALL.len(), end(cell)));
        }
        failures
    }

    fn rows(self, device: &str, profile: &str) -> Vec<Row> {
        let is_split = self.others.len() + usize::from(!self.checked.is_empty()) > 1;
        let row = |cases: &[String], told| {
            let device = if is_split { format!("{device} ({})", cases.join(", ")) } else { device.to_owned() };
            Row { device, profile: profile.to_owned(), pair: self.pair.clone(), told }
        };
        let levels = (!self.checked.is_empty()).then(|| row(&self.checked, RowResult::Levels(self.levels)));
        let others = self.others.iter().map(|(how, cases)| {
            let told =
                how.as_ref().map_or(RowResult::NotRun, |(outcome, words)| RowResult::End(*outcome, words.clone()));
            row(cases, told)
        });
        levels.into_iter().chain(others).collect()
    }
}

/// What the host counted, without how often, and when or where it came first: that is another each time.
fn alike(observed: &str) -> &str {
    if observed.contains(", first ") { "some" } else { observed }
}

/// Whether its probes say what became of the device. A loss that no probe tells of is told by its title.
fn is_checked(cell: &CellRecord) -> bool {
    match cell.outcome {
        Outcome::Survived => true,
        Outcome::Lost => cell.probes.iter().any(|probe| !probe.passed),
        _ => false,
    }
}

/// The device, and the case. A device whose descriptor is preserved has a row of its own.
fn device_and_case(key: &CellKey) -> Option<(String, &str)> {
    let (device, case) = key.workload.strip_prefix("vfio.")?.split_once('.')?;
    let kind = if case.starts_with("preserved") { ", preserved" } else { "" };
    Some((format!("{device}{kind}"), case))
}
