//! The kernel store: one folder for each kernel, named by everything that determines its bytes.

mod by_path;
mod metadata;

use crate::build::{ARTIFACTS, MODULES, build};
use crate::catalog::{Catalog, Entry, Source};
use crate::configure::{BASE, WITH_ALL_MODULES};
use crate::error::KernelError;
use crate::fetch::{Downloads, Fetched};
use crate::kernel::Kernel;
use crate::progress::BuildProgress;
use crate::recipe::Recipe;
use crate::workplace::{Workplace, sweep};
use crate::{clone, commits, lock, packages};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The kernel store.
#[derive(Clone)]
pub struct Store {
    root: PathBuf,
    catalog: Catalog,
    mirror: Option<String>,
}

/// The cache folder, whose content can be created again: `$XDG_CACHE_HOME/luqual`, else `~/.cache/luqual`.
pub fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("luqual")
}

/// The kinds of artifacts; each has a folder in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Kernels, with their other build results.
    Kernels,
    /// The live update selftests of a kernel.
    Selftests,
    /// Trees for the builds of mutants.
    Mutants,
    /// Packages of kernels, unpacked.
    Packages,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Selftests => "selftests",
            Self::Mutants => "mutants",
            Self::Packages => "packages",
        }
    }
}

impl Store {
    /// Opens the store below `root` (see [`cache_folder`]) for the kernels of `catalog`, and removes the working
    /// folders of killed builds.
    pub fn new(root: PathBuf, catalog: Catalog, mirror: Option<String>) -> Self {
        let store = Self { root, catalog, mirror };
        for kind in [Kind::Kernels, Kind::Selftests, Kind::Packages] {
            sweep(&store.place(kind));
        }
        store
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The kernel that `spec` names: a version of the catalog or a commit, which is built if necessary, or a path.
    pub async fn resolve(&self, spec: &str, progress: &dyn BuildProgress) -> Result<Kernel, KernelError> {
        match self.entry(spec)? {
            Some(entry) => self.ensure(&entry, progress).await,
            None => self.read_path(spec),
        }
    }

    /// The kernel that `spec` names, if it exists. Nothing is built.
    pub fn find(&self, spec: &str) -> Result<Option<Kernel>, KernelError> {
        match self.entry(spec)? {
            Some(entry) => self.ready(&entry),
            None => self.read_path(spec).map(Some),
        }
    }

    /// The permanent name of a kernel: a commit by its id, any other by `spec` itself.
    pub fn name(&self, spec: &str) -> Result<String, KernelError> {
        Ok(self.entry(spec)?.map_or_else(|| spec.to_owned(), |entry| entry.version.clone()))
    }

    /// The release of the kernel that `spec` names; for a kernel of the catalog, its name. Nothing is built.
    pub fn release(&self, spec: &str) -> Result<String, KernelError> {
        match self.entry(spec)?.as_deref() {
            Some(Entry { source: Source::Commit { release, .. }, .. }) => Ok(release.clone()),
            Some(entry) => Ok(entry.version.clone()),
            None => by_path::release(spec, &self.known_path(spec)?),
        }
    }

    /// What tells the kernel that `spec` names from every other: its image and its command line, or what its image will
    /// be built from. Nothing is built.
    pub fn identity(&self, spec: &str) -> Result<String, KernelError> {
        if let Some(kernel) = self.find(spec)? {
            let modules: String = kernel.info.modules.values().map(|digest| format!(" {digest}")).collect();
            return Ok(format!("{} {}{modules}", kernel.info.image_sha256, kernel.info.command_line));
        }
        let Some(entry) = self.entry(spec)? else { return Ok(spec.to_owned()) };
        match self.folder(Kind::Kernels, &Recipe::read(&entry)?) {
            // Without a compiler, nothing is built.
            Err(KernelError::Tools(_)) => Ok(entry.version.clone()),
            folder => Ok(format!("{} {}", folder?.display(), entry.command_line)),
        }
    }

    /// The entry of the kernel that `spec` names; `None` if it is the path of a built kernel.
    fn entry(&self, spec: &str) -> Result<Option<Cow<'_, Entry>>, KernelError> {
        match self.catalog.find(spec) {
            Some(entry) => Ok(Some(Cow::Borrowed(entry))),
            None => Ok(commits::entry(spec, &self.catalog)?.map(Cow::Owned)),
        }
    }

    /// The kernel in the store whose image has that digest, whatever it was built from; it gets the name.
    pub fn with_digest(&self, name: &str, image_sha256: &str) -> Option<Kernel> {
        let folders = fs::read_dir(self.place(Kind::Kernels)).ok()?;
        folders.flatten().find_map(|folder| metadata::load_digest(&folder.path(), name, image_sha256))
    }

    /// The kernel at that path, if there is an image or a tree in which one was built. Nothing is built.
    pub fn at_path(&self, path: &str) -> Option<Result<Kernel, KernelError>> {
        match self.read_path(path) {
            Err(KernelError::Unknown { .. }) => None,
            read => Some(read),
        }
    }

    fn read_path(&self, spec: &str) -> Result<Kernel, KernelError> {
        by_path::read(spec, &self.known_path(spec)?)
    }

    /// The path that `spec` names: itself, or the folder into which the packages were unpacked.
    fn known_path(&self, spec: &str) -> Result<PathBuf, KernelError> {
        if let Some(files) = packages::files_of(spec) {
            return packages::unpacked(&files, &self.place(Kind::Packages));
        }
        if Path::new(spec).exists() {
            return Ok(spec.into());
        }
        let known = self.catalog.versions().into_iter().map(str::to_owned).collect();
        Err(KernelError::Unknown { name: spec.to_owned(), known })
    }

    /// The kernel of a catalog entry, if it is in the store and unchanged.
    pub fn ready(&self, entry: &Entry) -> Result<Option<Kernel>, KernelError> {
        match self.folder(Kind::Kernels, &Recipe::read(entry)?) {
            // Without a compiler, the kernel is not in the store.
            Err(KernelError::Tools(_)) => Ok(None),
            folder => Ok(metadata::load(&folder?, entry)),
        }
    }

    /// Removes the kernel of an entry, so that it is built again, unless another luqual is building it now.
    pub fn forget(&self, entry: &Entry) -> Result<(), KernelError> {
        let folder = self.folder(Kind::Kernels, &Recipe::read(entry)?)?;
        if !folder.exists() {
            return Ok(());
        }
        let Some(_lock) = lock::try_take(&lock::beside(&folder)) else { return Ok(()) };
        fs::remove_dir_all(&folder).map_err(KernelError::file(&folder))
    }

    /// The folder of a kind.
    pub(crate) fn place(&self, kind: Kind) -> PathBuf {
        self.root.join(kind.folder())
    }

    /// The folder for the result of a recipe.
    pub(crate) fn folder(&self, kind: Kind, recipe: &Recipe<'_>) -> Result<PathBuf, KernelError> {
        recipe.folder(&self.place(kind))
    }

    /// The log of a build until it succeeds; simultaneous builds have different names.
    pub(crate) fn log(&self, kind: Kind, folder: &Path) -> PathBuf {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        self.root.join(format!("{}-{name}.log", kind.folder()))
    }

    /// Builds the kernel if necessary; one process builds, and the others wait.
    async fn ensure(&self, entry: &Entry, progress: &dyn BuildProgress) -> Result<Kernel, KernelError> {
        let recipe = Recipe::read(entry)?;
        let folder = self.folder(Kind::Kernels, &recipe)?;
        if let Some(kernel) = metadata::load(&folder, entry) {
            return Ok(kernel);
        }
        let _lock = self.lock(&folder, &entry.version, progress).await?;
        if let Some(kernel) = metadata::load(&folder, entry) {
            return Ok(kernel);
        }
        self.make(&recipe, progress).await?;
        metadata::load(&folder, entry).ok_or_else(|| KernelError::Unexpected {
            path: folder,
            why: "the new kernel cannot be read back".to_owned(),
        })
    }

    /// Locks a folder of the store until the returned file is closed; other processes wait.
    pub(crate) async fn lock(
        &self,
        folder: &Path,
        what: &str,
        progress: &dyn BuildProgress,
    ) -> Result<File, KernelError> {
        let place = folder.parent().unwrap_or(&self.root);
        fs::create_dir_all(place).map_err(KernelError::file(place))?;
        lock::take(&lock::beside(folder), &format!("builds {what}"), progress).await
    }

    /// Builds in a temporary folder, and keeps the results.
    async fn make(&self, recipe: &Recipe<'_>, progress: &dyn BuildProgress) -> Result<(), KernelError> {
        if let Source::Commit { tree, id, .. } = &recipe.entry.source {
            return self.make_commit(recipe, (tree, id), progress).await;
        }
        let work = Workplace::for_build(&self.place(Kind::Kernels))?;
        self.make_in(work.path(), recipe, progress).await
    }

    async fn make_in(&self, work: &Path, recipe: &Recipe<'_>, progress: &dyn BuildProgress) -> Result<(), KernelError> {
        let started = Instant::now();
        let log = self.log(Kind::Kernels, &self.folder(Kind::Kernels, recipe)?);
        let fetched = self.fetch(recipe.entry, progress).await?;
        let tree = build(recipe, &fetched, work, &log, progress).await?;
        self.keep(recipe, &tree, &log, started)?;
        if recipe.check_source().is_err() {
            let tree = recipe.entry.source.provenance();
            progress.note(&format!("{tree} changed after it was copied; the kernel was built from the copy"));
        }
        Ok(())
    }

    /// Builds a commit. All commits of a tree share one clone, which is locked until the results are copied.
    async fn make_commit(
        &self,
        recipe: &Recipe<'_>,
        (tree, id): (&Path, &str),
        progress: &dyn BuildProgress,
    ) -> Result<(), KernelError> {
        let started = Instant::now();
        let log = self.log(Kind::Kernels, &self.folder(Kind::Kernels, recipe)?);
        let folder = clone::folder_of(&self.root.join("trees"), tree);
        let _lock = self.lock(&folder, &tree.display().to_string(), progress).await?;
        let fetched = self.fetch(recipe.entry, progress).await?;
        let built = clone::build(recipe.entry, (tree, id), &fetched, &folder, &log, progress).await?;
        self.keep(recipe, &built, &log, started)
    }

    /// Copies the results in `tree` to a temporary folder in the store, and renames that into place.
    pub(crate) fn keep(
        &self,
        recipe: &Recipe<'_>,
        tree: &Path,
        log: &Path,
        started: Instant,
    ) -> Result<(), KernelError> {
        let work = Workplace::new(&self.place(Kind::Kernels))?;
        let new = work.path().join("new");
        fs::create_dir(&new).map_err(KernelError::file(&new))?;
        let mut sizes = BTreeMap::new();
        for (from, to) in ARTIFACTS {
            let (from, to_path) = (tree.join(from), new.join(to));
            let size = fs::copy(&from, &to_path).map_err(KernelError::file(&from))?;
            sizes.insert(to.to_owned(), size);
        }
        for name in [BASE, WITH_ALL_MODULES] {
            let from = tree.join(name);
            if from.is_file() {
                fs::copy(&from, new.join(name)).map_err(KernelError::file(&from))?;
            }
        }
        // As they are installed: lib/modules/VERSION.
        let modules = tree.join(MODULES).join("lib");
        if modules.is_dir() {
            fs::rename(&modules, new.join("lib")).map_err(KernelError::file(&modules))?;
        }
        metadata::write(recipe, &new, sizes, started)?;
        put(&new, log, &self.folder(Kind::Kernels, recipe)?)
    }

    /// Downloads what an entry needs, unless it is there.
    pub(crate) async fn fetch(&self, entry: &Entry, progress: &dyn BuildProgress) -> Result<Fetched, KernelError> {
        let downloads = Downloads { mirror: self.mirror.as_deref(), folder: self.root.join("downloads") };
        downloads.of(entry, progress).await
    }
}

/// Moves the results and the log of a build into place, completely or not at all.
pub(crate) fn put(new: &Path, log: &Path, folder: &Path) -> Result<(), KernelError> {
    fs::rename(log, new.join("build.log")).map_err(KernelError::file(log))?;
    if folder.exists() {
        // The old folder could not be used, so it is replaced.
        fs::remove_dir_all(folder).map_err(KernelError::file(folder))?;
    }
    fs::rename(new, folder).map_err(KernelError::file(folder))
}

#[cfg(test)]
mod tests;
