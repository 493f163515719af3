//! `run.json`.

use luqual_model::{RunRecord, SCHEMA_VERSION};

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not a record.
    #[error("not a run record: {0}")]
    NotARecord(#[from] serde_json::Error),
    /// It was written by another luqual.
    #[error("the record has schema version {found}, this luqual reads {SCHEMA_VERSION}: use the luqual that wrote it")]
    Version {
        /// Its version.
        found: u64,
    },
}

/// The record as JSON, for people too.
pub fn json(record: &RunRecord) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(record).map(|text| text + "\n")
}

/// Reads what [`json`] wrote.
pub fn read(text: &str) -> Result<RunRecord, ReadError> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    match value["schema_version"].as_u64() {
        Some(found) if found != u64::from(SCHEMA_VERSION) => Err(ReadError::Version { found }),
        _ => Ok(serde_json::from_value(value)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let record = crate::samples::record();
        assert_eq!(read(&json(&record).unwrap()).unwrap(), record);
    }

    #[test]
    fn cells_have_the_strings_that_others_rely_on() {
        let value: serde_json::Value = serde_json::from_str(&json(&crate::samples::record()).unwrap()).unwrap();
        for name in ["id", "source", "target", "profile", "workload", "outcome", "status"] {
            assert!(value["cells"][0][name].is_string(), "{name}");
        }
    }

    #[test]
    fn another_version_is_told() {
        let text = json(&crate::samples::record()).unwrap().replace("\"schema_version\": 1", "\"schema_version\": 2");
        assert!(read(&text).unwrap_err().to_string().contains("version 2"));
        assert!(matches!(read("{}"), Err(ReadError::NotARecord(_))));
    }
}
