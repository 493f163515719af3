//! Kernels with one fault each, for measuring what a suite of workloads finds: many small patches of one kernel, built one
//! after the other in a tree that is kept, so that each costs what it changes.

use crate::build::{build, build_again};
use crate::catalog::{Catalog, Entry};
use crate::error::KernelError;
use crate::patches::{self, Patch, Series};
use crate::progress::Progress;
use crate::store::{Store, patches_of, series_error};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One fault.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The name of its patch's file.
    pub name: String,
    /// What is wrong in it, in one line.
    pub subject: String,
    /// The workloads that are there for such a fault, as its patch's `Found-by:` names them.
    pub found_by: Vec<String>,
    /// Why no workload can find it, as its patch's `Survives:` says.
    pub survives: Option<String>,
    /// Its kernel; the name begins with the one of which it is a mutant.
    pub entry: Entry,
}

/// The mutants of `of` whose patches are in `folder`, by name.
pub fn mutants(catalog: &Catalog, of: &str, folder: &Path) -> Result<Vec<Mutant>, KernelError> {
    let entry = catalog.find(of).ok_or_else(|| KernelError::Unknown {
        name: of.to_owned(),
        known: catalog.versions().into_iter().map(str::to_owned).collect(),
    })?;
    let files = patches::patch_files(folder).map_err(|trouble| series_error(entry, trouble))?;
    let mutant = |path: PathBuf| -> Result<Mutant, KernelError> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = fs::read_to_string(&path).map_err(KernelError::file(&path))?;
        let found_by = text.lines().filter_map(|line| line.strip_prefix("Found-by:"));
        let found_by = found_by.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let survives = text.lines().find_map(|line| line.strip_prefix("Survives:")).map(|why| why.trim().to_owned());
        let series = Series::Path(path);
        let patches = patches::read(&series).map_err(|trouble| series_error(entry, trouble))?;
        let subject = patches.first().map(|patch| patch.subject.clone()).unwrap_or_default();
        let entry = Entry { version: format!("{of}-{name}"), patches: Some(series), ..entry.clone() };
        Ok(Mutant { name, subject, found_by, survives, entry })
    };
    files.into_iter().map(mutant).collect()
}

/// A tree in which a kernel was built, and is built again with one patch after the other.
pub struct Tree<'a> {
    store: &'a Store,
    base: &'a Entry,
    folder: PathBuf,
    tree: PathBuf,
    /// Held as long as the tree is used.
    _lock: File,
}

/// What is applied to the tree at the moment: a build that was cut off leaves it there.
const APPLIED: &str = "applied.patch";
/// Where the tree is, once it was built.
const PLACE: &str = "tree.path";

impl<'a> Tree<'a> {
    /// The tree of `base`, built if it is not there.
    pub async fn open(store: &'a Store, base: &'a Entry, progress: &dyn Progress) -> Result<Tree<'a>, KernelError> {
        let folder = store.mutant_folder(base)?;
        fs::create_dir_all(&folder).map_err(KernelError::file(&folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(KernelError::file(&path))?;
        lock.try_lock().map_err(|_| {
            KernelError::file(&path)(std::io::Error::other("another luqual builds mutants of this kernel; wait for it"))
        })?;
        let place = folder.join(PLACE);
        let known = fs::read_to_string(&place).ok().map(PathBuf::from).filter(|tree| tree.join(".config").exists());
        let tree = match known {
            Some(tree) => tree,
            None => {
                store.can_build(&folder)?;
                let patches = patches_of(base)?;
                let package = store.fetch(base, progress).await?;
                let work = folder.join("work");
                if work.exists() {
                    fs::remove_dir_all(&work).map_err(KernelError::file(&work))?;
                }
                fs::create_dir_all(&work).map_err(KernelError::file(&work))?;
                let log = folder.join("build.log");
                let tree = build(base, &patches, package.as_deref(), &work, &log, progress).await?;
                fs::write(&place, tree.as_os_str().as_encoded_bytes()).map_err(KernelError::file(&place))?;
                tree
            }
        };
        let tree = Tree { store, base, folder, tree, _lock: lock };
        tree.clean().await?;
        Ok(tree)
    }

    /// Takes back what a build that was cut off left.
    async fn clean(&self) -> Result<(), KernelError> {
        let applied = self.folder.join(APPLIED);
        let Ok(diff) = fs::read(&applied) else { return Ok(()) };
        let patch = Patch { subject: "what was applied before".to_owned(), diff };
        // It may have been cut off before the patch was applied: then there is nothing to take back.
        let _ = patches::take_back(&self.base.version, &patch, &self.tree, &self.folder).await;
        fs::remove_file(&applied).map_err(KernelError::file(&applied))
    }

    /// Builds one mutant into the store, unless it is there.
    pub async fn build(&self, mutant: &Mutant, progress: &dyn Progress) -> Result<(), KernelError> {
        if self.store.ready(&mutant.entry)?.is_some() {
            return Ok(());
        }
        let started = Instant::now();
        let patches = patches_of(&mutant.entry)?;
        let [patch] = patches.as_slice() else {
            return Err(KernelError::Series {
                version: mutant.entry.version.clone(),
                why: "a mutant is one patch".to_owned(),
                hint: "one file, with one diff in it".to_owned(),
            });
        };
        let applied = self.folder.join(APPLIED);
        fs::write(&applied, &patch.diff).map_err(KernelError::file(&applied))?;
        patches::apply(&mutant.entry.version, &patches, &self.tree, &self.folder).await?;
        let log = self.folder.join(format!("{}.log", mutant.name));
        let built = build_again(&mutant.entry, &self.tree, &log, progress).await;
        let kept = match built {
            Ok(()) => self.store.keep(&mutant.entry, &patches, &self.tree, &log, started),
            Err(error) => Err(error),
        };
        self.clean().await?;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "From: a <a@example.org>\nSubject: [PATCH] luo: take any name\n\nIt does.\n\n\
        Found-by: luo.name-empty luo.name-longest\n---\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-1\n+2\n";

    #[test]
    fn a_mutant_is_named_after_its_kernel_and_its_patch() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("name-any.patch"), PATCH).unwrap();
        let catalog = Catalog::load(None).unwrap();
        let found = mutants(&catalog, "7.3.4", folder.path()).unwrap();
        let mutant = &found[0];
        assert_eq!((mutant.name.as_str(), mutant.subject.as_str()), ("name-any", "luo: take any name"));
        assert_eq!(mutant.entry.version, "7.3.4-name-any");
        assert_eq!(mutant.found_by, ["luo.name-empty", "luo.name-longest"]);
        assert!(mutants(&catalog, "1.2.3", folder.path()).is_err());
        assert!(mutants(&catalog, "7.3.4", &folder.path().join("nowhere")).is_err());
    }
}
