use crate::{
    CellId, End, Finding, FindingKind, Frames, Outcome, Phase, PlannedCell, Probe, ProbeMismatch, ProbeNames, Rate,
    Refusal, Side, Status, VmReport,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The result of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellRecord {
    /// The id of the cell.
    pub id: CellId,
    /// source, target, profile and workload, with prediction and expectation.
    #[serde(flatten)]
    pub plan: PlannedCell,
    /// The outcome; the worst one if there were several attempts.
    pub outcome: Outcome,
    /// The outcome against the expectation.
    pub status: Status,
    /// The reason for the outcome, in one line; for a crash, its signature. Empty for an untainted survival.
    pub title: String,
    /// The call that a kernel refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The side of the kernel that refused or crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// What taints the cell: the lines of new warnings and splats, and new taint flags.
    pub tainted: Vec<String>,
    /// The phase that decided the outcome.
    pub phase: Phase,
    /// The random seed of the timing and, with the name of the workload, of the memory contents.
    #[serde(default)]
    pub seed: u64,
    /// For a deterministic boot: the SHA-256 of its console (`console.raw`) followed by its answers
    /// (`answers.jsonl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The injected fault, as the user wrote it.
    #[serde(rename = "planted", default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<String>,
    /// The phases that the cell entered, in order.
    pub phases: Vec<PhaseRecord>,
    /// The probes of the workload and of the host.
    pub probes: Vec<Probe>,
    /// How long the kernels took, for a workload that measures it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// The frames that the host sent to a device during the update, and which of them arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<Frames>,
    /// What the nested VMs of the workload report about the update.
    #[serde(rename = "accounts", default, skip_serializing_if = "Vec::is_empty")]
    pub vm_reports: Vec<VmReport>,
    /// The gap in the ticks; absent unless both kernels ticked.
    pub blackout: Option<Blackout>,
    /// The console lines that matter.
    pub findings: Vec<Finding>,
    /// The duration from the start of the cell to its end, in microseconds.
    pub duration_us: u64,
    /// The cell's folder, relative to the run's: console, QMP log, agent output, QEMU's stderr, command line.
    pub folder: String,
    /// The other workloads of the same boot. They share the console, the blackout, and every phase that has no turn
    /// for each workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<String>,
    /// All attempts in order, if there were several. The rest of the record is the worst attempt's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl CellRecord {
    /// The record of a cell that ended in [`Phase::Finish`], without evidence. For generated records and tests: the
    /// record of a boot names each field.
    pub fn new(plan: PlannedCell, outcome: Outcome, status: Status) -> Self {
        Self {
            id: plan.key.id(),
            plan,
            outcome,
            status,
            title: String::new(),
            refusal: None,
            side: None,
            tainted: Vec::new(),
            phase: Phase::Finish,
            seed: 0,
            digest: None,
            injected: None,
            phases: Vec::new(),
            probes: Vec::new(),
            measures: Vec::new(),
            frames: None,
            vm_reports: Vec::new(),
            blackout: None,
            findings: Vec::new(),
            duration_us: 0,
            folder: String::new(),
            shared_with: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// Whether the cell survived untainted.
    pub fn survived_clean(&self) -> bool {
        self.outcome == Outcome::Survived && self.tainted.is_empty()
    }

    /// How the cell ended.
    pub fn end(&self) -> End<'_> {
        End {
            outcome: self.outcome,
            tainted: &self.tainted,
            probes: ProbeNames::of(&self.probes),
            title: &self.title,
            refusal: self.refusal.as_ref(),
            side: self.side,
            phase: self.phase,
        }
    }

    /// The status of the end against the expectation.
    pub fn against_expectation(&self) -> Status {
        Status::of(&self.end(), self.plan.expectation.as_ref())
    }

    /// What of a refusal or a crash is not as expected, if the outcome is.
    pub fn end_mismatch(&self) -> Option<String> {
        let known = self.plan.expectation.as_ref().filter(|known| known.outcome == self.outcome)?;
        known.end_mismatch(&self.end())
    }

    /// The status as it follows from the rest of the record, whatever a journal says that somebody may have written.
    /// Attempts with the same outcome can differ in their probes, which the record does not have.
    pub fn derived_status(&self) -> Status {
        let ends = || self.attempts.iter().map(|attempt| (attempt.outcome, attempt.tainted));
        let differ = ends().any(|end| Some(end) != ends().next());
        let is_flaky = differ || self.status == Status::Flaky && self.attempts.len() > 1;
        if is_flaky { Status::Flaky } else { self.against_expectation() }
    }

    /// What in the record contradicts the rest of it; `None` if nothing does. Such a record is not luqual's.
    pub fn contradiction(&self) -> Option<String> {
        let worst = self.attempts.iter().map(|attempt| attempt.outcome.severity()).max();
        if worst.is_some_and(|worst| worst != self.outcome.severity()) {
            return Some(format!("it {}, and an attempt ended worse or none so", self.outcome));
        }
        if self.outcome != Outcome::Survived {
            return None;
        }
        if let Some(probe) = self.probes.iter().find(|probe| !probe.passed) {
            return Some(format!("it survived, and the probe `{}` failed", probe.name));
        }
        if self.probes.is_empty() {
            return Some("it survived, and has no probes".to_owned());
        }
        let crash =
            |finding: &&Finding| matches!(finding.kind, FindingKind::Panic | FindingKind::Oops | FindingKind::Bug);
        if let Some(finding) = self.findings.iter().find(crash) {
            return Some(format!("it survived, and a kernel said: {}", finding.text));
        }
        let taints = self.findings.iter().find(|finding| finding.kind.taints()).filter(|_| self.tainted.is_empty());
        taints.map(|finding| format!("it survived untainted, and a kernel said: {}", finding.text))
    }

    /// How the failed probes differ from the expected ones, if the outcome is as expected and they do.
    pub fn probe_mismatch(&self) -> Option<ProbeMismatch<'_>> {
        let known = self.plan.expectation.as_ref().filter(|known| known.outcome == self.outcome)?;
        Some(known.probe_mismatch(&ProbeNames::of(&self.probes).failed))
            .filter(|other| *other != ProbeMismatch::default())
    }

    /// The outcome of the cell and of each attempt.
    pub fn ends(&self) -> impl Iterator<Item = Outcome> {
        std::iter::once(self.outcome).chain(self.attempts.iter().map(|attempt| attempt.outcome))
    }

    /// Whether two attempts ended alike: the same outcome, taint and failed probes, the same call and errno of a
    /// refusal, and for a crash or an inconclusive outcome the same reason. The observed values may differ.
    pub fn ended_as(&self, other: &Self) -> bool {
        let end = |it: &Self| {
            let has_reason = it.outcome == Outcome::Crashed || !it.outcome.is_conclusive();
            let line = Some(it.title.clone()).filter(|_| has_reason);
            let refusal = it.refusal.as_ref().map(|refusal| (refusal.call.clone(), refusal.errno.clone()));
            (it.outcome, it.tainted.is_empty(), line, refusal)
        };
        end(self) == end(other) && self.failed_probes() == other.failed_probes()
    }

    /// The names of the failed probes, each once.
    pub fn failed_probes(&self) -> BTreeSet<&str> {
        ProbeNames::of(&self.probes).failed.into_iter().collect()
    }

    /// Whether two deterministic boots are equal bit for bit; `None` unless both have a digest.
    pub fn is_identical_to(&self, other: &Self) -> Option<bool> {
        self.digest.as_ref().zip(other.digest.as_ref()).map(|(own, other)| own == other)
    }

    /// Whether the outcome is the predicted one; `None` without a prediction or with an inconclusive outcome.
    pub fn as_predicted(&self) -> Option<bool> {
        self.plan
            .prediction
            .as_ref()
            .filter(|_| self.outcome.is_conclusive())
            .map(|prediction| prediction.outcome == self.outcome)
    }

    /// How often the cell did not survive untainted, if it ran more than once. Retries do not count, since only a
    /// failed attempt is retried. Inconclusive attempts do not count either.
    pub fn rate(&self) -> Option<Rate> {
        let counts = |attempt: &&Attempt| !attempt.retry && attempt.outcome.is_conclusive();
        let tries = || self.attempts.iter().filter(counts);
        let failed = tries().filter(|attempt| attempt.outcome != Outcome::Survived || attempt.tainted).count();
        (tries().count() > 1).then(|| Rate::new(failed as u64, tries().count() as u64))
    }
}

/// One of several attempts at a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// The outcome.
    pub outcome: Outcome,
    /// The reason for the outcome, in one line.
    pub title: String,
    /// Whether the attempt was tainted.
    pub tainted: bool,
    /// The random seed of timing and memory contents.
    pub seed: u64,
    /// The duration in microseconds.
    pub duration_us: u64,
    /// The gap in the ticks.
    pub blackout: Option<Blackout>,
    /// The folder of the attempt, relative to the run's.
    pub folder: String,
    /// Whether the attempt was made only because the one before was not as expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// One phase of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    /// The phase.
    pub phase: Phase,
    /// The number of kexecs before it: 0 in the source, 1 in the target of a plain cell.
    pub hop: u32,
    /// The start, in microseconds since the start of the cell.
    pub started_us: u64,
    /// The duration in microseconds.
    pub duration_us: u64,
    /// How the phase ended.
    pub end: PhaseEnd,
}

/// How a phase ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "end", content = "why")]
pub enum PhaseEnd {
    /// The phase was completed.
    Done,
    /// The phase failed; the reason in one line.
    Failed(String),
}

/// How long a kernel took for an amount of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// The step, such as `preserve`. Only the calls into the kernel count.
    pub what: String,
    /// The amount.
    pub size: u64,
    /// The unit of the amount, such as `files`.
    pub unit: String,
    /// The number of kexecs before it.
    pub hop: u32,
    /// The duration in microseconds, by the guest's clock.
    pub duration_us: u64,
}

/// The time from the source's last tick to the target's first tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blackout {
    /// The length in microseconds.
    pub duration_us: u64,
    /// The largest error in microseconds: the tick period and the host's polling interval, on both sides.
    pub resolution_us: u64,
    /// The count of the source's last tick.
    pub last_tick: u64,
    /// The length in microseconds if the target's clock is believed, where that differs by more than the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_guest_us: Option<u64>,
}
