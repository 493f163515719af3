//! What a prompt in the guest is told of the boot that it stands in.

use crate::Request;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// In the environment variable [`PROMPT`], as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// `source` or `target`.
    pub side: String,
    /// How many kexecs were made since the first source.
    pub hop: u32,
    /// What a workload's content is made from, where neither the next field nor the user says it.
    pub seed: u64,
    /// The same of the workloads of this boot.
    pub seeds: BTreeMap<String, u64>,
    /// Where the devices are that they own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, String>,
    /// How the next kernel is loaded, if this guest carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Request>,
}

/// The environment variable that has it.
pub const PROMPT: &str = "LUQUAL_PROMPT";
