use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a virtual machine inside of the guest says of an update, and what the host saw of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// What it is called in probes.
    pub machine: String,
    /// The number of kexecs before the one that it tells of.
    pub hop: u32,
    /// When the host saw it stand still; of each cell's first machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Stand>,
    /// What it came to, in order, by the clock that it sees.
    pub moments: Vec<Moment>,
    /// What its first processor counts.
    pub counts: Vec<Count>,
}

/// When a machine stood still, in microseconds since the start of the cell's boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stand {
    /// When it was known to hold; of one that cannot be asked to, when it was paused.
    pub held_us: u64,
    /// When it was paused.
    pub paused_us: u64,
    /// When its beat was seen again.
    pub went_on_us: u64,
    /// When it held no longer.
    pub released_us: u64,
}

/// Something that a machine came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// What.
    pub what: String,
    /// By its own clock, in microseconds.
    pub at_us: u64,
}

/// Something that a machine counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// What.
    pub what: String,
    /// When it was paused.
    pub before: u64,
    /// When it was looked at in the target.
    pub after: u64,
}
