//! `ci/xtask/exceptions.toml`: what does not hold yet.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Paths are relative to the root of the workspace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Exceptions {
    /// Files with more lines of code than files may have, and how many they may have at most.
    pub(crate) long_files: BTreeMap<String, usize>,
    /// The same of commands.
    pub(crate) long_commands: BTreeMap<String, usize>,
    /// Files in circles of more than two, by the crate's name.
    pub(crate) circles: BTreeMap<String, BTreeSet<String>>,
}

impl Exceptions {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!("ci/xtask/exceptions.toml: {error}"))
    }
}
