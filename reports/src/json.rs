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

    const SCHEMA: &str = include_str!("../../docs/run.schema.json");

    /// To make it anew: `LUQUAL_UPDATE_SCHEMA=1 cargo test -p luqual-reports schema`.
    #[test]
    fn the_schema_in_docs_is_that_of_the_record() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(RunRecord)).unwrap() + "\n";
        if std::env::var_os("LUQUAL_UPDATE_SCHEMA").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/run.schema.json"), &schema).unwrap();
        }
        assert!(schema == SCHEMA, "docs/run.schema.json is not that of the record; see above how to make it anew");
    }

    #[test]
    fn a_record_is_valid_by_its_schema_and_a_broken_one_is_not() {
        let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let mut value = serde_json::to_value(crate::samples::record()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        value["cells"][0]["outcome"] = "fine".into();
        assert!(!validator.is_valid(&value));
    }
}
