use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbered frames that the host sent to a device during an update, and which of them arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frames {
    /// The intended time between two frames, in microseconds.
    pub period_us: u64,
    /// The frames by the time when they were sent, in order: while the source ran, during the blackout, before the
    /// target had reopened the device, and after that.
    pub spans: Vec<Span>,
    /// The received numbers as ranges: the first and the last of each.
    pub received: Vec<(u32, u32)>,
}

/// The frames that were sent in one span of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// `source`, `blackout`, `target` or `after`.
    pub when: String,
    /// The number of the first.
    pub first: u32,
    /// How many were sent.
    pub sent: u32,
    /// How many of them the guest received.
    pub received: u32,
}
