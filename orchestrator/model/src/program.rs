use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An external program that runs as a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramInfo {
    /// What the program asserts, in one sentence.
    pub asserts: String,
    /// Where the program comes from: a file, or a kernel's selftests.
    pub origin: String,
    /// Whether other workloads may run in the same boot.
    pub shares_boot: bool,
    /// The file, or why there is none.
    #[serde(flatten)]
    pub file: ProgramFile,
}

impl ProgramInfo {
    /// Whether both are the same program. The path does not matter; the digest does.
    pub fn runs_as(&self, other: &Self) -> bool {
        match (&self.file, &other.file) {
            (ProgramFile::Here { sha256: own, .. }, ProgramFile::Here { sha256: others, .. }) => own == others,
            (ProgramFile::Missing { .. }, ProgramFile::Missing { .. }) => true,
            _ => false,
        }
    }
}

/// Whether the file of a program exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "file")]
pub enum ProgramFile {
    /// The file exists.
    Here {
        /// Its absolute path.
        path: String,
        /// Its digest, as hex.
        sha256: String,
    },
    /// The file is missing, and the cells of the program are skipped.
    Missing {
        /// Why it is missing, and what to do.
        why: String,
    },
}
