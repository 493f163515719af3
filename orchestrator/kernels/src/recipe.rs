//! The recipe of a kernel, which is read once, and the key in the store that follows from it.

use crate::base::Base;
use crate::catalog::{Entry, Source};
use crate::debian::DebianPackage;
use crate::error::KernelError;
use crate::patches::{self, Patch};
use crate::tools;
use luqual_files::digest;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of the build process. It rises when a change of the process changes the bytes; all kernels are then
/// built again.
const VERSION: u32 = 1;

/// Everything that determines the bytes of a kernel, except the compiler.
///
/// It is read once before the build, so that the build matches the name of its folder in the store even if the
/// catalog's files and trees change meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) entry: &'a Entry,
    /// The patches, in the order in which they are applied.
    pub(crate) patches: Vec<Patch>,
    /// The identity of the source.
    source: String,
}

impl<'a> Recipe<'a> {
    pub(crate) fn read(entry: &'a Entry) -> Result<Self, KernelError> {
        let source = match &entry.source {
            Source::Debian(DebianPackage { sha256, .. }) | Source::Tarball { sha256, .. } => sha256.clone(),
            Source::Tree(path) => state_of(path)?,
            Source::Commit { id, .. } => format!("commit {id}"),
        };
        Ok(Self { entry, patches: patches_of(entry)?, source })
    }

    /// The recipe of `entry`, for the same source in the state that this recipe has read.
    pub(crate) fn of_same_source<'b>(&self, entry: &'b Entry) -> Result<Recipe<'b>, KernelError> {
        Ok(Recipe { entry, patches: patches_of(entry)?, source: self.source.clone() })
    }

    /// Checks that the source has not changed since this was read. Only a local tree can change.
    pub(crate) fn check_source(&self) -> Result<(), KernelError> {
        match &self.entry.source {
            Source::Tree(tree) if state_of(tree)? != self.source => {
                Err(KernelError::TreeChanged { tree: tree.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The folder for the result, below `parent`.
    pub(crate) fn folder(&self, parent: &Path) -> Result<PathBuf, KernelError> {
        // The name of a commit begins with the path of its tree.
        let name = self.entry.built_as.rsplit('/').next().unwrap_or_default();
        let folder = |gcc: &str| parent.join(format!("{name}-{}", &self.key(gcc)[..16]));
        match tools::compiler() {
            Ok((major, _)) => Ok(folder(&major)),
            // A host without a compiler uses kernels that were built elsewhere.
            Err(none) => built_by_any(folder).ok_or(none),
        }
    }

    fn key(&self, gcc: &str) -> String {
        let Entry { built_as, fragment, base, .. } = self.entry;
        let mut parts =
            vec![VERSION.to_string(), built_as.clone(), self.source.clone(), fragment.clone(), format!("gcc {gcc}")];
        // An entry without these options keeps the key from before they existed.
        if let Base::Whole(whole) = base {
            parts.extend(whole.key());
        }
        for luqual_model::Patch { subject, sha256 } in self.patches.iter().map(Patch::described) {
            parts.push(format!("patch {sha256} {subject}"));
        }
        let digests: Vec<String> = parts.iter().map(|part| digest::of_bytes(part.as_bytes())).collect();
        digest::of_bytes(digests.join(" ").as_bytes())
    }
}

fn patches_of(entry: &Entry) -> Result<Vec<Patch>, KernelError> {
    let read = |series| patches::read(series).map_err(|trouble| trouble.of(&entry.version));
    entry.patches.as_ref().map_or_else(|| Ok(Vec::new()), read)
}

/// The existing folder of the newest compiler version.
fn built_by_any(folder: impl Fn(&str) -> PathBuf) -> Option<PathBuf> {
    // 8 is the oldest compiler for these kernels (Documentation/process/changes.rst).
    (8..64).rev().map(|major| folder(&major.to_string())).find(|folder| folder.is_dir())
}

/// The identity of a tree: its files with their sizes and times. An edited tree is another kernel.
fn state_of(tree: &Path) -> Result<String, KernelError> {
    use std::fmt::Write;
    use std::os::unix::fs::MetadataExt;
    let mut text = String::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(KernelError::named(&folder))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let metadata = path.symlink_metadata().map_err(KernelError::named(&path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let (size, seconds, nanoseconds) = (metadata.size(), metadata.mtime(), metadata.mtime_nsec());
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} {size} {seconds} {nanoseconds}", path.display());
            }
        }
    }
    Ok(digest::of_bytes(text.as_bytes()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::{Origin, Whole};
    use std::collections::BTreeMap;

    /// An entry that is in no catalog.
    pub(crate) fn entry() -> Entry {
        Entry {
            version: "9.9.9".into(),
            built_as: "9.9.9".into(),
            source: Source::Tarball { url: "x".into(), sha256: "ab".into() },
            patches: None,
            base: Base::AllNo,
            fragment: "CONFIG_A=y\n".into(),
            not_applicable: BTreeMap::new(),
            command_line: "console=ttyS0".into(),
        }
    }

    fn patch(diff: &str) -> Patch {
        Patch { subject: "a: change".into(), diff: diff.into() }
    }

    #[test]
    fn everything_that_determines_the_bytes_is_in_the_key() {
        let key = |entry: Entry| Recipe::read(&entry).unwrap().key("14");
        let base = key(entry());
        let other_source = Source::Tarball { url: "x".into(), sha256: "cd".into() };
        assert_ne!(base, key(Entry { source: other_source, ..entry() }));
        assert_ne!(base, key(Entry { fragment: "CONFIG_A=n\n".into(), ..entry() }));
        // How it is booted is not.
        assert_eq!(base, key(Entry { command_line: "quiet".into(), version: "9.9.9-quiet".into(), ..entry() }));

        let whole = |from: Origin, modules: &[&str]| {
            let modules = modules.iter().map(|name| (*name).to_owned()).collect();
            Entry { base: Base::Whole(Whole { name: "x".into(), from, modules }), ..entry() }
        };
        let with = |text: &str| whole(Origin::File(text.into()), &[]);
        let of_package = |sha256: &str| {
            whole(Origin::Debian(DebianPackage { name: "p".into(), version: "1".into(), sha256: sha256.into() }), &[])
        };
        assert_ne!(key(of_package("ab")), key(of_package("cd")));
        assert_ne!(key(with("CONFIG_B=m\n")), key(whole(Origin::File("CONFIG_B=m\n".into()), &["b"])));
        assert_ne!(base, key(with("CONFIG_B=m\n")));
        assert_ne!(key(with("")), key(with("CONFIG_B=m\n")));
        let plain = entry();
        let patched =
            |patches: &[Patch]| Recipe { patches: patches.to_vec(), ..Recipe::read(&plain).unwrap() }.key("14");
        let keys = [
            base,
            patched(&[patch("b")]),
            patched(&[patch("c")]),
            patched(&[patch("b"), patch("c")]),
            patched(&[patch("c"), patch("b")]),
            patched(&[Patch { subject: "a: more".into(), ..patch("b") }]),
        ];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len());
    }

    /// A kernel takes minutes to build: one that has neither patches nor another base stays where it is.
    #[test]
    fn the_key_of_a_plain_entry_is_what_it_was() {
        let parts = ["1", "9.9.9", "ab", "CONFIG_A=y\n", "gcc 14"];
        let joined = parts.map(|part| digest::of_bytes(part.as_bytes())).join(" ");
        let entry = entry();
        let plain = Recipe::read(&entry).unwrap();
        assert_eq!(plain.key("14"), digest::of_bytes(joined.as_bytes()));
        assert_ne!(plain.key("14"), plain.key("15"));
    }

    #[test]
    fn a_tree_that_changes_is_another_source() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("main.c"), "1").unwrap();
        let entry = Entry { source: Source::Tree(tree.path().to_owned()), ..entry() };
        let before = Recipe::read(&entry).unwrap();
        before.check_source().unwrap();
        fs::write(tree.path().join("main.c"), "22").unwrap();
        let error = before.check_source().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("changed"), "{error}");
        let after = Recipe::read(&entry).unwrap();
        assert_ne!(before.key("14"), after.key("14"));
        assert_eq!(before.of_same_source(&entry).unwrap().key("14"), before.key("14"));

        let missing = Entry { source: Source::Tree("/nowhere/linux".into()), ..entry };
        let error = Recipe::read(&missing).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with("/nowhere/linux: "), "{error}");
    }

    #[test]
    fn without_a_compiler_the_newest_that_is_there_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let folder = |gcc: &str| root.path().join(gcc);
        assert_eq!(built_by_any(folder), None);
        ["9", "14", "12"].iter().for_each(|gcc| fs::create_dir(folder(gcc)).unwrap());
        assert_eq!(built_by_any(folder), Some(folder("14")));
    }
}
