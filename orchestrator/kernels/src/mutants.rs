//! Mutants: kernels with one fault each, to measure what workloads find. Each is a small patch; all are built in one
//! tree that is kept, so that each build is incremental.

use crate::build::{build, build_again};
use crate::catalog::{Catalog, Entry};
use crate::error::KernelError;
use crate::patches::{self, Patch, Series};
use crate::progress::BuildProgress;
use crate::recipe::Recipe;
use crate::store::{Kind, Store};
use crate::workplace::can_build;
use luqual_model::bounds::TEXT_FILE;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A mutant.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The name of the patch file.
    pub name: String,
    /// The fault, in one line.
    pub subject: String,
    /// The workloads that should find it, from the line `Found-by:` of its patch.
    pub found_by: Vec<String>,
    /// Why no workload can find it, from the line `Survives:` of its patch.
    pub survives: Option<String>,
    /// Its kernel; the name begins with that of the kernel without the fault.
    pub entry: Entry,
}

/// The mutants of `of` with patches in `folder`, by name.
pub fn mutants(catalog: &Catalog, of: &str, folder: &Path) -> Result<Vec<Mutant>, KernelError> {
    let entry = catalog.find(of).ok_or_else(|| KernelError::Unknown {
        name: of.to_owned(),
        known: catalog.versions().into_iter().map(str::to_owned).collect(),
    })?;
    let files = patches::patch_files(folder).map_err(|trouble| trouble.of(of))?;
    let mutant = |path: PathBuf| -> Result<Mutant, KernelError> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = luqual_files::read_text(&path, TEXT_FILE).map_err(KernelError::named(&path))?;
        let found_by = text.lines().filter_map(|line| line.strip_prefix("Found-by:"));
        let found_by = found_by.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let survives = text.lines().find_map(|line| line.strip_prefix("Survives:")).map(|why| why.trim().to_owned());
        let version = format!("{of}-{name}");
        let own = Series::Path(path.clone());
        let patches = patches::read(&own).map_err(|trouble| trouble.of(&version))?;
        let [Patch { subject, .. }] = patches.as_slice() else {
            let (why, hint) = ("a mutant has to be one patch".to_owned(), "write one file with one diff".to_owned());
            return Err(KernelError::Series { version, why, hint });
        };
        let subject = subject.clone();
        // The kernel may have patches of its own.
        let series = match entry.patches.clone() {
            Some(base) => Series::OnTop { base: Box::new(base), patch: path },
            None => own,
        };
        let entry = Entry { built_as: version.clone(), version, patches: Some(series), ..entry.clone() };
        Ok(Mutant { name, subject, found_by, survives, entry })
    };
    files.into_iter().map(mutant).collect()
}

/// A tree with a built kernel, which is built again with one patch after the other.
pub struct Tree<'a> {
    store: &'a Store,
    base: Recipe<'a>,
    folder: PathBuf,
    tree: PathBuf,
    /// Held while the tree is used.
    _lock: File,
}

/// The name of the file with the patch that is applied now; an interrupted build leaves it.
const APPLIED: &str = "applied.patch";
/// The name of the file with the path of the tree, written after the first build. Without it, the tree is unusable.
const PLACE: &str = "tree.path";
/// The folder in which the tree is built.
const WORK: &str = "work";

impl<'a> Tree<'a> {
    /// Opens the tree of `base`. It is built if it is missing or unusable.
    pub async fn open(
        store: &'a Store,
        base: &'a Entry,
        progress: &dyn BuildProgress,
    ) -> Result<Tree<'a>, KernelError> {
        let base = Recipe::read(base)?;
        let folder = store.folder(Kind::Mutants, &base)?;
        let what = format!("mutants of {}", base.entry.version);
        let lock = store.lock(&folder, &what, progress).await?;
        fs::create_dir_all(&folder).map_err(KernelError::file(&folder))?;
        let place = folder.join(PLACE);
        let known = fs::read_to_string(&place).ok().map(PathBuf::from).filter(|tree| tree.join(".config").exists());
        if let Some(tree) = known {
            let tree = Tree { store, base: base.clone(), folder: folder.clone(), tree, _lock: lock };
            match tree.restore().await {
                Ok(()) => return Ok(tree),
                Err(KernelError::MutantTree { why, .. }) => {
                    progress.note(&format!("the tree for {what} is made again: {why}"));
                    return Self::build_tree(store, base, folder, tree._lock, progress).await;
                }
                Err(error) => return Err(error),
            }
        }
        Self::build_tree(store, base, folder, lock, progress).await
    }

    async fn build_tree(
        store: &'a Store,
        base: Recipe<'a>,
        folder: PathBuf,
        lock: File,
        progress: &dyn BuildProgress,
    ) -> Result<Tree<'a>, KernelError> {
        can_build(&folder)?;
        remove_tree(&folder)?;
        let fetched = store.fetch(base.entry, progress).await?;
        let work = folder.join(WORK);
        fs::create_dir_all(&work).map_err(KernelError::file(&work))?;
        let tree = build(&base, &fetched, &work, &folder.join("build.log"), progress).await?;
        let place = folder.join(PLACE);
        fs::write(&place, tree.as_os_str().as_encoded_bytes()).map_err(KernelError::file(&place))?;
        Ok(Tree { store, base, folder, tree, _lock: lock })
    }

    /// Removes the patch that an interrupted build left.
    async fn restore(&self) -> Result<(), KernelError> {
        let applied = self.folder.join(APPLIED);
        let Ok(diff) = fs::read(&applied) else { return Ok(()) };
        let patch = Patch { subject: "what was applied last".to_owned(), diff };
        // The build may have been interrupted before the patch was applied.
        match patches::is_applied(&patch, &self.tree, &self.folder).await? {
            Ok(true) => return self.take_back(&patch).await,
            Ok(false) => {}
            Err(why) => return Err(self.spoilt(&patch, why)?),
        }
        fs::remove_file(&applied).map_err(KernelError::file(&applied))
    }

    async fn take_back(&self, patch: &Patch) -> Result<(), KernelError> {
        if let Err(why) = patches::take_back(patch, &self.tree, &self.folder).await? {
            return Err(self.spoilt(patch, why)?);
        }
        let applied = self.folder.join(APPLIED);
        fs::remove_file(&applied).map_err(KernelError::file(&applied))
    }

    /// Deletes a tree from which a patch cannot be removed: each later mutant would have two faults. Returns the
    /// error.
    fn spoilt(&self, patch: &Patch, why: String) -> Result<KernelError, KernelError> {
        remove_tree(&self.folder)?;
        Ok(KernelError::MutantTree { tree: self.tree.clone(), subject: patch.subject.clone(), why })
    }

    /// Builds a mutant into the store, unless it is there.
    pub async fn build(&self, mutant: &Mutant, progress: &dyn BuildProgress) -> Result<(), KernelError> {
        if self.store.ready(&mutant.entry)?.is_some() {
            return Ok(());
        }
        let started = Instant::now();
        let recipe = self.base.of_same_source(&mutant.entry)?;
        let Some(patch) = recipe.patches.get(self.base.patches.len()..).and_then(<[Patch]>::first) else {
            let path = self.tree.clone();
            return Err(KernelError::Unexpected { path, why: format!("{} does not apply to its kernel", mutant.name) });
        };
        let applied = self.folder.join(APPLIED);
        fs::write(&applied, &patch.diff).map_err(KernelError::file(&applied))?;
        if let Err(error) =
            patches::apply(&mutant.entry.version, std::slice::from_ref(patch), &self.tree, &self.folder).await
        {
            self.restore().await?;
            return Err(error);
        }
        let log = self.folder.join(format!("{}.log", mutant.name));
        let built = build_again(&mutant.entry, &self.tree, &log, progress).await;
        // First, since the result of an unusable tree must not be kept.
        self.take_back(patch).await?;
        built?;
        self.store.keep(&recipe, &self.tree, &log, started)
    }
}

/// Removes the tree of mutants in `folder`, beginning with the file that makes it usable.
fn remove_tree(folder: &Path) -> Result<(), KernelError> {
    for path in [folder.join(PLACE), folder.join(WORK), folder.join(APPLIED)] {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(KernelError::file(&path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::Notes;
    use tempfile::TempDir;

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
    const CHANGE: &str = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-1\n+2\n";

    /// A tree that was built once, and whose make does `then` besides what it is there for.
    struct Built {
        root: TempDir,
        store: Store,
        entry: Entry,
        mutant: Mutant,
    }

    impl Built {
        fn new(then: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let (patches, cache) = (root.path().join("patches"), root.path().join("cache"));
            fs::create_dir(&patches).unwrap();
            fs::write(patches.join("name-any.patch"), PATCH).unwrap();
            let catalog = Catalog::load(None).unwrap();
            let mutant = mutants(&catalog, "7.3.4", &patches).unwrap().remove(0);
            let entry = catalog.find("7.3.4").unwrap().clone();
            let built = Self { root, store: Store::new(cache, catalog, None), entry, mutant };
            let elf = crate::image::tests::elf();
            let image = crate::image::tests::image(&elf);
            let makefile = format!("bzImage:\n\t{then}\n");
            let files: [(&str, &[u8]); 6] = [
                ("Makefile", makefile.as_bytes()),
                ("x.c", b"1\n"),
                (".config", b""),
                ("System.map", b""),
                ("vmlinux", &elf),
                ("arch/x86/boot/bzImage", &image),
            ];
            for (name, content) in files {
                let path = built.tree().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            fs::write(built.folder().join(PLACE), built.tree().as_os_str().as_encoded_bytes()).unwrap();
            built
        }

        fn folder(&self) -> PathBuf {
            self.store.folder(Kind::Mutants, &Recipe::read(&self.entry).unwrap()).unwrap()
        }

        fn tree(&self) -> PathBuf {
            self.folder().join(WORK).join("linux")
        }

        /// Builds the mutant; whether it is in the store then, and whether there is a tree.
        async fn build(&self) -> (Result<(), KernelError>, bool, bool) {
            let tree = Tree::open(&self.store, &self.entry, &Notes::default()).await.unwrap();
            let built = tree.build(&self.mutant, &Notes::default()).await;
            let is_there = self.store.ready(&self.mutant.entry).unwrap().is_some();
            (built, is_there, self.tree().exists() || self.folder().join(PLACE).exists())
        }
    }

    #[tokio::test]
    async fn a_mutant_is_kept_and_its_patch_is_taken_back() {
        let built = Built::new("grep 2 x.c");
        let (done, is_there, has_tree) = built.build().await;
        done.unwrap();
        assert!(is_there && has_tree);
        assert_eq!(fs::read_to_string(built.tree().join("x.c")).unwrap(), "1\n");
        assert!(!built.folder().join(APPLIED).exists() && built.root.path().exists());
    }

    #[tokio::test]
    async fn a_tree_in_which_a_patch_stays_is_removed_and_nothing_is_kept() {
        let (done, is_there, has_tree) = Built::new("echo 3 > x.c").build().await;
        let error = done.unwrap_err();
        assert!(matches!(error, KernelError::MutantTree { .. }) && !error.is_usage(), "{error}");
        assert!(!is_there && !has_tree);
    }

    #[tokio::test]
    async fn what_a_build_that_was_cut_off_left_is_taken_back_or_noticed() {
        for (text, is_well) in [("1\n", true), ("2\n", true), ("3\n", false)] {
            let built = Built::new("true");
            fs::write(built.tree().join("x.c"), text).unwrap();
            fs::write(built.folder().join(APPLIED), CHANGE).unwrap();
            let base = Recipe::read(&built.entry).unwrap();
            let lock = tempfile::tempfile().unwrap();
            let tree = Tree { store: &built.store, base, folder: built.folder(), tree: built.tree(), _lock: lock };
            assert_eq!(tree.restore().await.is_ok(), is_well, "{text}");
            assert_eq!(built.tree().exists(), is_well, "{text}");
            if is_well {
                assert_eq!(fs::read_to_string(built.tree().join("x.c")).unwrap(), "1\n");
            }
        }
    }

    #[test]
    fn a_mutant_of_a_kernel_with_patches_has_those_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("name-any.patch"), PATCH).unwrap();
        let catalog = Catalog::load(None).unwrap();
        let mutant = mutants(&catalog, "7.1.3", folder.path()).unwrap().remove(0);
        let (base, recipe) = (Recipe::read(catalog.find("7.1.3").unwrap()), Recipe::read(&mutant.entry));
        let (base, recipe) = (base.unwrap(), recipe.unwrap());
        assert_eq!(recipe.patches.len(), base.patches.len() + 1);
        assert_eq!(recipe.patches[..base.patches.len()], base.patches);
    }
}
