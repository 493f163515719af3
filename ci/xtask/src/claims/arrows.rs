//! Which crate of the workspace uses which, by cargo.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate of the workspace, named for its folder.
#[derive(Debug, PartialEq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// The crates of the workspace that it is built from, without those of its tests and build scripts.
    pub(crate) uses: BTreeSet<String>,
    /// The files with which its library and its programs begin.
    pub(crate) roots: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

/// The crates of the workspace.
pub(crate) fn crates(root: &Path) -> Result<Vec<Crate>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(words).current_dir(root).output();
    let output = output.map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    parse(&output.stdout)
}

fn parse(metadata: &[u8]) -> Result<Vec<Crate>, String> {
    let Metadata { packages } = serde_json::from_slice(metadata)
        .map_err(|error| format!("cargo metadata says what is not understood: {error}"))?;
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let crates = packages.into_iter().map(|package| {
        let folder = package.manifest_path.parent().unwrap_or(Path::new("")).to_owned();
        let plain = package.dependencies.into_iter().filter(|dependency| dependency.kind.is_none());
        let is_code = |target: &Target| target.kind.iter().any(|kind| ["lib", "bin"].contains(&kind.as_str()));
        Crate {
            name: name(&folder),
            uses: plain.filter_map(|dependency| dependency.path.map(|path| name(&path))).collect(),
            roots: package.targets.into_iter().filter(is_code).map(|target| target.src_path).collect(),
            folder,
        }
    });
    Ok(crates.collect())
}

/// The lines of the block that do not say what cargo does: `crate -> crate, crate`, or `crate` alone.
pub(crate) fn wrong(crates: &[Crate], block: &[&str]) -> Vec<String> {
    let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in block.iter().filter(|line| !line.trim().is_empty()) {
        let (name, uses) = line.split_once("->").unwrap_or((line, ""));
        let uses = uses.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if told.insert(name.trim(), uses).is_some() {
            wrong.push(format!("ARCHITECTURE.md: two lines of the block `crates` are about {}", name.trim()));
        }
    }
    for one in crates {
        let uses: BTreeSet<&str> = one.uses.iter().map(String::as_str).collect();
        if told.remove(one.name.as_str()) != Some(uses) {
            wrong.push(format!("ARCHITECTURE.md: the block `crates` has to say: {}", line(one)));
        }
    }
    let gone = told.keys().map(|name| format!("ARCHITECTURE.md: the block `crates` has {name}, which is no crate"));
    wrong.extend(gone);
    wrong
}

fn line(one: &Crate) -> String {
    let uses: Vec<&str> = one.uses.iter().map(String::as_str).collect();
    if uses.is_empty() { one.name.clone() } else { format!("{} -> {}", one.name, uses.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages": [
        {"manifest_path": "/w/a/cli/Cargo.toml", "dependencies": [
            {"kind": null, "path": "/w/a/model"}, {"kind": "dev", "path": "/w/a/vm"}, {"kind": null}],
         "targets": [{"kind": ["bin"], "src_path": "/w/a/cli/src/main.rs"}, {"kind": ["test"], "src_path": "/x"}]},
        {"manifest_path": "/w/a/model/Cargo.toml", "dependencies": [],
         "targets": [{"kind": ["lib"], "src_path": "/w/a/model/src/lib.rs"}]}]}"#;

    #[test]
    fn a_crate_uses_what_it_is_built_from() {
        let crates = parse(METADATA.as_bytes()).unwrap();
        assert_eq!(crates[0].uses, BTreeSet::from(["model".to_owned()]));
        assert_eq!(crates[0].roots, [PathBuf::from("/w/a/cli/src/main.rs")]);
        assert!(parse(b"{}").is_err());
    }

    #[test]
    fn an_arrow_that_is_missing_or_too_much_is_told() {
        let crates = parse(METADATA.as_bytes()).unwrap();
        assert_eq!(wrong(&crates, &["cli -> model", "model"]), Vec::<String>::new());
        let told = "ARCHITECTURE.md: the block `crates` has to say: cli -> model";
        for block in [&["cli", "model"][..], &["cli -> model, vm", "model"], &["model"]] {
            assert_eq!(wrong(&crates, block), [told], "{block:?}");
        }
        let block = ["cli -> model", "model", "model -> cli", "vm"];
        assert_eq!(wrong(&crates, &block).len(), 3, "{:?}", wrong(&crates, &block));
    }
}
