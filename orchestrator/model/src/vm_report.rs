use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a nested VM reports about an update, and what the host saw of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmReport {
    /// The name of the nested VM, as probes have it.
    pub machine: String,
    /// The number of kexecs before the one that it reports about.
    pub hop: u32,
    /// When the host saw the nested VM paused; only for the first one of each cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<PauseTimes>,
    /// What the nested VM noticed, in order, by its own clock.
    pub moments: Vec<VmEvent>,
    /// The counters of its first processor.
    pub counts: Vec<VmCounter>,
}

/// When a nested VM was paused, in microseconds since the start of the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseTimes {
    /// When the nested VM was known to be quiescent. One that cannot be asked for it has the time of the pause.
    pub held_us: u64,
    /// When the monitor had paused it.
    pub paused_us: u64,
    /// When its heartbeat was seen again.
    pub went_on_us: u64,
    /// When it was told to leave the quiescent state.
    pub released_us: u64,
}

/// Something that a nested VM noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmEvent {
    /// What it noticed.
    pub what: String,
    /// When, by its own clock, in microseconds.
    pub at_us: u64,
}

/// A counter of a nested VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmCounter {
    /// What is counted.
    pub what: String,
    /// The value when the nested VM was paused.
    pub before: u64,
    /// The value when it was read in the target.
    pub after: u64,
}
