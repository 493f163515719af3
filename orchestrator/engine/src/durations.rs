//! How long cells took when they were last run here, kept in the cache folder: what is longest is started first.

use crate::host::cache_folder;
use luqual_model::CellKey;
use luqual_reports::{Brief, Record};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Milliseconds by cell id. Only a help for planning: what cannot be read or written is not missed.
#[derive(Default)]
pub(crate) struct Durations(BTreeMap<String, u64>);

fn file() -> PathBuf {
    cache_folder().join("durations.json")
}

impl Durations {
    pub(crate) fn load() -> Self {
        Self(fs::read(file()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    pub(crate) fn of(&self, key: &CellKey) -> Option<Duration> {
        self.0.get(&key.id().to_string()).copied().map(Duration::from_millis)
    }

    /// Takes in what a run measured, beside what other runs did meanwhile.
    pub(crate) fn add(record: &Record) {
        let mut durations = Self::load();
        for (planned, brief) in record.briefs() {
            // A fault, or a failure of the host, makes a cell shorter or longer than it is.
            let says = |brief: &&Brief| !brief.injected && brief.outcome.is_conclusive();
            if let Some(brief) = brief.filter(says) {
                durations.0.insert(planned.key.id().to_string(), brief.duration_us / 1000);
            }
        }
        let beside = file().with_extension(format!("{}.new", std::process::id()));
        let written = serde_json::to_vec(&durations.0).is_ok_and(|bytes| fs::write(&beside, bytes).is_ok());
        if !written || fs::rename(&beside, file()).is_err() {
            let _ = fs::remove_file(beside);
        }
    }
}
