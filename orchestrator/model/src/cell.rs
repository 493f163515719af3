use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a cell is: source × target × profile × workload, each by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct CellKey {
    /// The name of the source kernel.
    pub source: String,
    /// The name of the target kernel.
    pub target: String,
    /// The name of the machine profile.
    pub profile: String,
    /// The name of the workload, `family.case`.
    pub workload: String,
}

impl CellKey {
    /// The cell's id: unique in a run, and fit for a folder name and a shell word.
    pub fn id(&self) -> CellId {
        let part = |text: &str| -> String {
            text.chars().map(|c| if c.is_ascii_alphanumeric() || "-.+~".contains(c) { c } else { '-' }).collect()
        };
        CellId(format!(
            "{}_{}_{}_{}",
            part(&self.source),
            part(&self.target),
            part(&self.profile),
            part(&self.workload)
        ))
    }
}

/// `SOURCE_TARGET_PROFILE_WORKLOAD`, with anything outside `[A-Za-z0-9.+~-]` replaced by `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CellId(pub String);

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_shell_word_and_one_folder_name() {
        let key = CellKey {
            source: "../b7.3 tree/bzImage".into(),
            target: "7.3.4".into(),
            profile: "q35-intel".into(),
            workload: "memfd.basic".into(),
        };
        assert_eq!(key.id().to_string(), "..-b7.3-tree-bzImage_7.3.4_q35-intel_memfd.basic");
    }
}
