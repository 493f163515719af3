use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The parts of a cell: source × target × profile × workload, each by name.
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
    /// The id of the cell. It is unique in a run, and valid as a folder name and as a shell word.
    pub fn id(&self) -> CellId {
        let parts = [&self.source, &self.target, &self.profile, &self.workload].map(String::as_str);
        let words = parts.map(word);
        let id = words.join("_");
        if words == parts {
            return CellId(id);
        }
        // ./a/b and ./a-b are different kernels.
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(parts.join("\0")).into();
        CellId(format!("{id}-{:08x}", u32::from_be_bytes([a, b, c, d])))
    }
}

/// The part of an id for one name. A long name keeps its end, which is the telling part of a path. A leading dot
/// would hide the folder.
fn word(name: &str) -> String {
    const LONGEST: usize = 48;
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-.+~".contains(c) { c } else { '-' });
    let end: String = plain.skip(name.chars().count().saturating_sub(LONGEST)).collect();
    end.trim_start_matches(['.', '-']).to_owned()
}

/// `SOURCE_TARGET_PROFILE_WORKLOAD`. Each name keeps at most its last 48 characters; `-` replaces a character outside
/// `[A-Za-z0-9.+~-]`, and leading `.` and `-` are removed. If this changed a name, a digest of the names follows.
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
        let id = key.id().to_string();
        assert!(id.starts_with("b7.3-tree-bzImage_7.3.4_q35-intel_memfd.basic-"), "{id}");
    }

    #[test]
    fn ids_differ_as_their_cells_do() {
        let id = |source: &str, target: &str| {
            let (profile, workload) = ("q35-intel".into(), "memfd.basic".into());
            CellKey { source: source.into(), target: target.into(), profile, workload }.id().to_string()
        };
        assert_eq!(id("7.2.12", "7.3.4-mine"), "7.2.12_7.3.4-mine_q35-intel_memfd.basic");
        let (long, other) = (format!("./{}/bzImage", "x".repeat(300)), format!("./{}/bzImage", "x".repeat(301)));
        let names = ["./a/b", "./a-b", "./a_b", "7.3.4-mine", "7.3.4_mine", "a", "a_b", ".", &long, &other];
        let ids: Vec<String> = names.iter().flat_map(|from| names.map(|to| id(from, to))).collect();
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len() * names.len());
        assert!(ids.iter().all(|id| id.len() < 200), "{ids:?}");
    }
}
