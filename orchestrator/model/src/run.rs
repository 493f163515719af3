use crate::{CellRecord, KernelInfo, PlannedCell, Profile, ProgramInfo, SCHEMA_VERSION, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `run.json`: everything that a report needs.
// It may be large, so luqual writes it one cell at a time; `C` is then where the cells come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord<R = RunInfo, C = Vec<CellRecord>> {
    /// Everything but the cells that ended.
    #[serde(flatten)]
    pub run: R,
    /// The cells that ended, in plan order.
    pub cells: C,
}

/// The head of a run's record: everything but the results of its cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The id of the run. It is also the name of the folder, unless the user named another.
    pub id: String,
    /// `luqual VERSION (COMMIT)`.
    pub tool: String,
    /// The command line of the tool, as given.
    pub command: Vec<String>,
    /// When the run started, RFC 3339, UTC.
    pub started: String,
    /// The duration in microseconds; absent while the run goes on and after it was killed.
    #[serde(default)]
    pub duration_us: Option<u64>,
    /// Whether the user ended the run before all cells were done.
    #[serde(default)]
    pub interrupted: bool,
    /// The host that ran it.
    pub host: HostInfo,
    /// The kernels of the run, by name.
    pub kernels: BTreeMap<String, KernelInfo>,
    /// The external programs that are workloads of the run, by the name of the workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, ProgramInfo>,
    /// The machines of the run, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<String, Profile>,
    /// The settings of the run. A resumed run keeps them.
    pub settings: Settings,
    /// Which part of a larger run this is; absent for a whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The cells to run, in plan order.
    pub planned: Vec<PlannedCell>,
}

/// One part of a larger run. Each part runs by itself, possibly on another host, and the parts are merged later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// The number of the part, from 1.
    pub number: u32,
    /// How many parts there are.
    pub of: u32,
    /// How many cells the whole run has.
    pub cells: usize,
    /// The index of each cell of this part in the plan of the whole run, from 0.
    pub places: Vec<usize>,
    /// The digest of the ids of all cells of the whole run, as hex. Parts with different digests are not parts of one
    /// run.
    pub selection: String,
}

impl RunInfo {
    /// A new run without kernels and cells.
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
            machines: BTreeMap::new(),
            settings: Settings::default(),
            partition: None,
            planned: Vec::new(),
        }
    }
}

/// The host that ran luqual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// The host's architecture, such as `x86_64`.
    pub arch: String,
    /// The host's own kernel release.
    pub release: String,
    /// The version that QEMU reports, such as `7.2.22`.
    pub qemu: String,
    /// The accelerator: `kvm` or `tcg`.
    pub accel: String,
    /// Why this accelerator was chosen, in one line.
    pub accel_reason: String,
    /// How many processors luqual may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
}
