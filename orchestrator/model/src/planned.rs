use crate::{CellKey, Expectation, Prediction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cell to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCell {
    /// source, target, profile, workload.
    #[serde(flatten)]
    pub key: CellKey,
    /// The outcome that the ABI strings of the two kernels predict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What the cell is known to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expectation: Option<Expectation>,
}
