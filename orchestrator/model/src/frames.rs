use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the numbered frames that the host sent to a device over an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frames {
    /// Microseconds between two of them, as it was meant.
    pub period_us: u64,
    /// By when they were sent, in order: while the source ran, in the blackout, while the target had not taken the device
    /// again, and after.
    pub spans: Vec<Span>,
    /// The numbers that were received, in runs: the first of each and its last.
    pub received: Vec<(u32, u32)>,
}

/// The frames that were sent in one part of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// `source`, `blackout`, `target` or `after`.
    pub when: String,
    /// The number of the first.
    pub first: u32,
    /// How many were sent.
    pub sent: u32,
    /// How many of them the guest found.
    pub received: u32,
}
