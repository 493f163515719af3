use crate::{
    Account, CellId, CellKey, Event, Expectation, Frames, KernelInfo, OtherProbes, Outcome, Phase, Prediction, Rate,
    SCHEMA_VERSION, Side, Stamped, Status, Told,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// `run.json`: everything that a report needs.
// It may be large: luqual itself writes it a cell at a time, with `C` as the place that the cells come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord<R = Run, C = Vec<CellRecord>> {
    /// All but the cells that ended.
    #[serde(flatten)]
    pub run: R,
    /// The cells that ended, in plan order.
    pub cells: C,
}

/// A run without what became of its cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run's id, also the name of its folder unless another was asked for.
    pub id: String,
    /// `luqual VERSION (COMMIT)`.
    pub tool: String,
    /// The command line of the tool, as given.
    pub command: Vec<String>,
    /// When the run started, RFC 3339, UTC.
    pub started: String,
    /// How long it took, in microseconds; absent while it runs and after it was cut off.
    #[serde(default)]
    pub duration_us: Option<u64>,
    /// Whether it was ended by the user before all cells were done.
    #[serde(default)]
    pub interrupted: bool,
    /// The machine that ran it.
    pub host: HostInfo,
    /// The kernels of the run, by name.
    pub kernels: BTreeMap<String, KernelInfo>,
    /// Other people's programs that are workloads of the run, by the workload's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, ProgramInfo>,
    /// With what it was run; a run that was cut off goes on with the same.
    pub settings: Settings,
    /// Which part of a larger run it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The cells that were to run, in plan order.
    pub planned: Vec<Planned>,
}

/// Which part of a larger run a run is. The parts are run by themselves, on other machines perhaps, and then merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Which, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// How many cells the whole has.
    pub cells: usize,
    /// The places of this one's in the plan of the whole, from 0.
    pub places: Vec<usize>,
    /// The digest of all ids of the whole's cells, as hex: parts of different selections have different ones.
    pub selection: String,
}

impl Run {
    /// A new run of nothing yet.
    pub fn new(id: String, tool: String, command: Vec<String>, started: String, host: HostInfo) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            id,
            tool,
            command,
            started,
            duration_us: None,
            interrupted: false,
            host,
            kernels: BTreeMap::new(),
            programs: BTreeMap::new(),
            settings: Settings::default(),
            partition: None,
            planned: Vec::new(),
        }
    }

    /// Takes in the end of the run, which is none if it then goes on.
    pub fn fold(&mut self, stamped: &Stamped) {
        match stamped.event {
            Event::RunFinished { interrupted } => {
                self.duration_us = Some(stamped.at_us);
                self.interrupted = interrupted;
            }
            Event::RunResumed { .. } => {
                self.duration_us = None;
                self.interrupted = false;
            }
            _ => {}
        }
    }
}

/// Somebody's program that runs as a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramInfo {
    /// What it asserts, in one sentence.
    pub asserts: String,
    /// Where it comes from: a file, or one of a kernel's own programs.
    pub origin: String,
    /// Whether others may run beside it in one boot.
    pub shares_boot: bool,
    /// Its file, if there is one.
    #[serde(flatten)]
    pub file: ProgramFile,
}

impl ProgramInfo {
    /// Whether it does the same as that one, wherever either is.
    pub fn runs_as(&self, other: &Self) -> bool {
        match (&self.file, &other.file) {
            (ProgramFile::Here { sha256: own, .. }, ProgramFile::Here { sha256: others, .. }) => own == others,
            (ProgramFile::Missing { .. }, ProgramFile::Missing { .. }) => true,
            _ => false,
        }
    }
}

/// Whether there is a program's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "file")]
pub enum ProgramFile {
    /// There is, and this is it.
    Here {
        /// Where, as an absolute path.
        path: String,
        /// Its digest, as hex.
        sha256: String,
    },
    /// There is not, and its cells are skipped.
    Missing {
        /// Why, and what to do.
        why: String,
    },
}

/// What a run was told beside its cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Seconds that each phase may take on this host.
    pub deadlines: BTreeMap<Phase, u64>,
    /// Machines at once.
    pub jobs: u64,
    /// Their memory together, in MiB, where that was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// What the seeds of all attempts are drawn from.
    #[serde(default)]
    pub seed: u64,
    /// How often a cell that is not as expected is tried again.
    pub retries: u32,
    /// How often each cell is run.
    pub repeat: u32,
    /// Whether each boot does the same every time, instruction by instruction.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// Whether each machine's memory is kept.
    pub keep: bool,
    /// Of which machines the memory is kept as an ELF core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmcore: Option<Vmcore>,
    /// A fault planted on purpose, as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<String>,
    /// What it repeats of an earlier run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeated>,
}

/// What decides how cells end, beside the seed: the parts of a run have it in common, and so has a run that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course<'a> {
    /// See [`Settings::retries`].
    pub retries: u32,
    /// See [`Settings::repeat`].
    pub repeat: u32,
    /// See [`Settings::deterministic`].
    pub deterministic: bool,
    /// See [`Settings::plant`].
    pub plant: Option<&'a str>,
}

impl Course<'_> {
    /// All of it and the seed, for messages.
    pub const WORDS: &'static str = "seed, retries, repeat, deterministic or a planted fault";
}

impl Settings {
    /// See [`Course`].
    pub fn course(&self) -> Course<'_> {
        let Self { retries, repeat, deterministic, .. } = *self;
        Course { retries, repeat, deterministic, plant: self.plant.as_deref() }
    }

    /// Whether attempts wait around preserve: where each cell is run several times, and where one of those is made again.
    pub fn waits(&self) -> bool {
        self.repeats.as_ref().map_or(self.repeat > 1, |it| it.waits)
    }
}

/// Of which machines the memory is kept as an ELF core (QEMU docs, dump-guest-memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vmcore {
    /// Of which.
    pub of: VmcoreOf,
    /// How much all cores of the run may take on disk, in MiB.
    pub limit_mib: u64,
}

/// Which machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmcoreOf {
    /// Those whose kernel panicked or hung.
    Crashed,
    /// All.
    All,
}

/// An attempt at a cell that is made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeated {
    /// The id of the run that it was made in.
    pub run: String,
    /// Which cell's it was.
    pub cell: CellId,
    /// What its timing and its contents were drawn from, and are again.
    pub seed: u64,
    /// Whether it waited around preserve, for as long as its seed says.
    pub waits: bool,
    /// The file of the bundle that it was packed in, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// A cell that is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// source, target, profile, workload.
    #[serde(flatten)]
    pub key: CellKey,
    /// What it should do, by the kernels' ABI strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What it is known to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expectation: Option<Expectation>,
}

/// The machine that ran the tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// The host's architecture, such as `x86_64`.
    pub arch: String,
    /// The host's own kernel release.
    pub release: String,
    /// What QEMU said of its version, such as `7.2.22`.
    pub qemu: String,
    /// The accelerator that was used: `kvm` or `tcg`.
    pub accel: String,
    /// Why that accelerator, in one line.
    pub accel_reason: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
}

/// One cell, ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellRecord {
    /// The cell's id.
    pub id: CellId,
    /// source, target, profile, workload, and what was thought of it before.
    #[serde(flatten)]
    pub plan: Planned,
    /// How it ended; of several attempts, the worst.
    pub outcome: Outcome,
    /// That against what was expected.
    pub status: Status,
    /// One line that says why; the first crash line where a kernel crashed. Empty for a clean survival.
    pub title: String,
    /// What spoils a survival: the lines of new warnings, splats and taints.
    pub tainted: Vec<String>,
    /// The phase in which the outcome was decided.
    pub phase: Phase,
    /// What its timing and, with the workload's name, its content were drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Of a deterministic boot: the SHA-256 of its console (`console.raw`) and then its answers (`answers.jsonl`), byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A fault planted on purpose with `--plant`, as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<String>,
    /// The phases that were entered, in order.
    pub phases: Vec<PhaseRecord>,
    /// What the workload checked.
    pub probes: Vec<Probe>,
    /// How long the kernels took for something of a size, where the workload measures that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// What became of the frames that the host sent to a device over the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<Frames>,
    /// What virtual machines inside of the guest say of the updates that they came through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Account>,
    /// The gap in the ticks, where both sides ticked.
    pub blackout: Option<Blackout>,
    /// The console lines that matter.
    pub findings: Vec<Finding>,
    /// From the start of the cell to its end, in microseconds.
    pub duration_us: u64,
    /// The cell's folder, relative to the run's: console, QMP log, agent output, QEMU's stderr, command line.
    pub folder: String,
    /// The workloads that ran in the same boot; phases without a turn of their own, the console and the blackout are
    /// those of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<String>,
    /// All attempts in order, where there was more than one; the rest of the record is the worst one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl CellRecord {
    /// Whether it survived and nothing spoils that.
    pub fn survived_clean(&self) -> bool {
        self.outcome == Outcome::Survived && self.tainted.is_empty()
    }

    /// How it ended against what is known of it.
    pub fn against_expectation(&self) -> Status {
        let told = Told::of(&self.probes);
        Status::of(self.outcome, !self.tainted.is_empty(), &told, self.plan.expectation.as_ref())
    }

    /// Where its loss is not the one that is known, though it is one.
    pub fn other_probes(&self) -> Option<OtherProbes<'_>> {
        let known = self.plan.expectation.as_ref().filter(|known| known.outcome == self.outcome)?;
        Some(known.other_probes(&Told::of(&self.probes).broken)).filter(|other| *other != OtherProbes::default())
    }

    /// How it ended, each attempt at it.
    pub fn ends(&self) -> impl Iterator<Item = Outcome> {
        std::iter::once(self.outcome).chain(self.attempts.iter().map(|attempt| attempt.outcome))
    }

    /// Whether it ended as another attempt at the same did: with the same outcome, of a crash by the same line, where nothing is known
    /// for the same reason, else by the same probes. What they observed may differ.
    pub fn ended_as(&self, other: &Self) -> bool {
        let end = |it: &Self| {
            let broken: BTreeSet<String> = Told::of(&it.probes).broken.into_iter().map(str::to_owned).collect();
            let is_by_its_title = it.outcome == Outcome::Crashed || !it.outcome.says_something();
            let line = Some(it.title.clone()).filter(|_| is_by_its_title);
            (it.outcome, it.tainted.is_empty(), line, broken)
        };
        end(self) == end(other)
    }

    /// Whether it is another's equal to the last byte; `None` where not both have a digest.
    pub fn is_identical_to(&self, other: &Self) -> Option<bool> {
        self.digest.as_ref().zip(other.digest.as_ref()).map(|(own, other)| own == other)
    }

    /// Whether the kernels did what their ABI strings say; `None` where nothing was predicted or nothing is known.
    pub fn as_predicted(&self) -> Option<bool> {
        self.plan
            .prediction
            .as_ref()
            .filter(|_| self.outcome.says_something())
            .map(|prediction| prediction.outcome == self.outcome)
    }

    /// How often it did not survive untainted, where it was run more than once. Retries are no sample, since only what
    /// failed is retried; and what says nothing of the kernels does not count.
    pub fn rate(&self) -> Option<Rate> {
        let counts = |attempt: &&Attempt| !attempt.retry && attempt.outcome.says_something();
        let tries = || self.attempts.iter().filter(counts);
        let failed = tries().filter(|attempt| attempt.outcome != Outcome::Survived || attempt.tainted).count();
        (tries().count() > 1).then(|| Rate::new(failed as u64, tries().count() as u64))
    }
}

/// One of several attempts at a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one line.
    pub title: String,
    /// Whether a survival was spoilt.
    pub tainted: bool,
    /// What its timing and its content were drawn from.
    pub seed: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The gap in the ticks.
    pub blackout: Option<Blackout>,
    /// Its folder, relative to the run's.
    pub folder: String,
    /// Whether it was made only because the one before was not as expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// One phase of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// The number of kexecs before it: 0 in the source, 1 in the target of a plain cell.
    pub hop: u32,
    /// When it started, in microseconds since the cell did.
    pub started_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub end: PhaseEnd,
}

/// How a phase ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "end", content = "why")]
pub enum PhaseEnd {
    /// It did what it is for.
    Done,
    /// It did not; the reason in one line.
    Failed(String),
}

/// One thing that a workload checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// What was checked, such as `memfd 64m content`.
    pub name: String,
    /// What should be.
    pub expected: String,
    /// What was.
    pub observed: String,
    /// Whether that is the same.
    pub held: bool,
}

/// How long a kernel took for so much of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// For which step, such as `preserve`: its calls alone, without what the workload does besides.
    pub what: String,
    /// Of how much.
    pub size: u64,
    /// Of what, such as `files`.
    pub unit: String,
    /// The number of kexecs before it.
    pub hop: u32,
    /// In microseconds, by the guest's clock.
    pub duration_us: u64,
}

/// From the last tick in the source to the first in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blackout {
    /// Its length in microseconds.
    pub duration_us: u64,
    /// How wrong that may be at most, in microseconds: the tick period and the host's polling on both sides.
    pub resolution_us: u64,
    /// The count of the source's last tick.
    pub last_tick: u64,
}

/// A console line that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Which kernel said it.
    pub side: Side,
    /// When the host read it, in microseconds since the cell started.
    pub at_us: u64,
    /// The line's number in `console.log`, from 1.
    pub line: u64,
    /// The line, without its time stamp.
    pub text: String,
}

/// What a console line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// `Kernel panic - not syncing`.
    Panic,
    /// An oops, a general protection fault, a bad page access in the kernel.
    Oops,
    /// `kernel BUG at`, `BUG:` from a kernel checker.
    Bug,
    /// `WARNING:` with a cut-here block, or a sanitizer's splat.
    Warning,
    /// `INFO: task … blocked for more than`.
    HungTask,
    /// A soft or hard lockup or an RCU stall.
    Stall,
    /// The target refused the handover as a whole.
    HandoverRefused,
    /// Any other line of KHO.
    Kho,
    /// Any other line of LUO.
    Luo,
}

impl FindingKind {
    /// Whether the kernel that says this did not survive it.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::Panic | Self::Oops | Self::Bug | Self::HungTask | Self::Stall)
    }

    /// Whether this spoils a survival.
    pub const fn taints(self) -> bool {
        self.is_crash() || matches!(self, Self::Warning)
    }

    /// The word as it stands in records and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Oops => "oops",
            Self::Bug => "bug",
            Self::Warning => "warning",
            Self::HungTask => "hung-task",
            Self::Stall => "stall",
            Self::HandoverRefused => "handover-refused",
            Self::Kho => "kho",
            Self::Luo => "luo",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
