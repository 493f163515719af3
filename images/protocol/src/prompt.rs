//! The state of the boot, for an interactive prompt in the guest.

use crate::Request;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The content of the environment variable [`PROMPT`], as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// `source` or `target`.
    pub side: String,
    /// The number of kexecs since the first source.
    pub hop: u32,
    /// The seed of a workload that is not in `seeds`, unless the user gives one.
    pub seed: u64,
    /// The seeds of this boot's workloads, by name.
    pub seeds: BTreeMap<String, u64>,
    /// The PCI addresses of the workloads' devices, by workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, String>,
    /// The request that loads the next kernel; `None` if this guest has no kernel image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Request>,
}

/// The name of the environment variable.
pub const PROMPT: &str = "LUQUAL_PROMPT";
