//! The durations of cells on this host, in the cache folder. The longest cells start first.

use crate::host::cache_folder;
use luqual_model::CellKey;
use luqual_reports::{Brief, Record};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Durations in milliseconds, by cell id. They only help to plan; errors of reading and writing are ignored.
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

    /// Adds the durations of a run to those that other runs may have added meanwhile.
    pub(crate) fn add(record: &Record) {
        let mut durations = Self::load();
        for (planned, brief) in record.briefs() {
            // A fault or a failure of the harness changes the duration of a cell.
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
