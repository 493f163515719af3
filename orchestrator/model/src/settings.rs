use crate::{CellId, Phase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The settings of a run, beside its cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The deadline of each phase on this host, in seconds.
    pub deadlines: BTreeMap<Phase, u64>,
    /// How many machines run at once.
    pub jobs: u64,
    /// The limit on the memory of all machines together, in MiB; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// The random seed of the run. The seed of each attempt is derived from it.
    #[serde(default)]
    pub seed: u64,
    /// How many times a cell that is not as expected is run again.
    pub retries: u32,
    /// How many times each cell is run.
    pub repeat: u32,
    /// Whether each boot is bit for bit reproducible from its seed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// Whether the memory of each machine is kept.
    pub keep: bool,
    /// The machines whose memory is kept as an ELF core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmcore: Option<Vmcore>,
    /// What is added to the command lines of the kernels.
    #[serde(default, skip_serializing_if = "Append::is_empty")]
    pub append: Append,
    /// The injected fault, as the user wrote it.
    #[serde(rename = "plant", default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// The attempt of an earlier run that this run reproduces.
    #[serde(rename = "repeats", default, skip_serializing_if = "Option::is_none")]
    pub reproduces: Option<Reproduced>,
}

/// What a user adds to the command lines of the kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Append {
    /// The options of the source, in each of its boots.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The options of the target, in each of its boots.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

impl Append {
    /// The options of both kernels, and behind them those of each.
    pub fn of(both: Option<&str>, source: Option<&str>, target: Option<&str>) -> Self {
        let joined = |own: Option<&str>| both.into_iter().chain(own).collect::<Vec<_>>().join(" ");
        Self { source: joined(source), target: joined(target) }
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty() && self.target.is_empty()
    }
}

/// The settings that can change an outcome, beside the seed. All parts of a run have the same, and so has a resumed
/// run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeSettings<'a> {
    /// See [`Settings::retries`].
    pub retries: u32,
    /// See [`Settings::repeat`].
    pub repeat: u32,
    /// See [`Settings::deterministic`].
    pub deterministic: bool,
    /// See [`Settings::append`].
    pub append: &'a Append,
    /// See [`Settings::inject`].
    pub inject: Option<&'a str>,
}

impl OutcomeSettings<'_> {
    /// The names of these settings and of the seed, for messages.
    pub const WORDS: &'static str = "seed, retries, repeat, deterministic, the kernels' options or the injected fault";
}

impl Settings {
    /// The settings that can change an outcome.
    pub fn outcome_settings(&self) -> OutcomeSettings<'_> {
        let Self { retries, repeat, deterministic, .. } = *self;
        OutcomeSettings { retries, repeat, deterministic, append: &self.append, inject: self.inject.as_deref() }
    }

    /// Whether attempts wait for a random time around preserve. They do if cells are repeated, and if this run
    /// reproduces such an attempt.
    pub fn waits(&self) -> bool {
        self.reproduces.as_ref().map_or(self.repeat > 1, |it| it.waits)
    }
}

/// The machines whose memory is kept as an ELF core (QEMU docs, dump-guest-memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vmcore {
    /// Which machines.
    pub of: VmcoreOf,
    /// The limit on the disk space of all cores of the run, in MiB.
    pub limit_mib: u64,
}

/// The machines whose memory is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmcoreOf {
    /// Machines whose kernel panicked or hung.
    Crashed,
    /// All machines.
    All,
}

/// The attempt of an earlier run that a run reproduces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reproduced {
    /// The id of the earlier run.
    pub run: String,
    /// The id of the cell.
    pub cell: CellId,
    /// The random seed of the attempt, for timing and memory contents.
    pub seed: u64,
    /// Whether the attempt waited for a random time around preserve.
    pub waits: bool,
    /// The bundle file that the earlier run came from; absent if it came from a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}
