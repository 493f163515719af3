//! The store: one folder per kernel, named after everything that determines its bytes.

use crate::build::{ARTIFACTS, NEEDED_MIB, build};
use crate::catalog::{Base, Catalog, Entry, Source};
use crate::config::KernelConfig;
use crate::error::KernelError;
use crate::fetch::{debian_mirror, fetch};
use crate::patches::{self, Patch};
use crate::progress::Progress;
use crate::{commits, digest, image, tools};
use luqual_model::KernelInfo;
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What is known of it.
    pub info: KernelInfo,
    /// Its bzImage.
    pub image: PathBuf,
    /// The vmlinux that it was made of, if that is there.
    pub symbols: Option<PathBuf>,
}

/// What `metadata.json` says of a kernel in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    schema_version: u32,
    release: String,
    build_id: Option<String>,
    abi: Vec<String>,
    provenance: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patches: Vec<luqual_model::Patch>,
    image_sha256: String,
    compiler: String,
    build_seconds: u64,
    /// Bytes, by file name.
    sizes: BTreeMap<String, u64>,
}

/// Grows when the way in which kernels are built changes their bytes: then all are built again.
const RECIPE: u32 = 1;

/// Grows when more or other things are read out of a kernel: then it is read again.
const METADATA: u32 = 2;

/// Where kernels are kept and how they come there.
pub struct Store {
    root: PathBuf,
    catalog: Catalog,
    mirror: Option<String>,
}

/// The folder for everything that can be made again: `$XDG_CACHE_HOME/luqual`, else `~/.cache/luqual`.
pub fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("luqual")
}

impl Store {
    /// The store below `root` (see [`cache_folder`]), of the kernels of `catalog`.
    pub fn new(root: PathBuf, catalog: Catalog, mirror: Option<String>) -> Self {
        Self { root, catalog, mirror }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Where everything is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The kernel that `spec` names: a version of the catalog or a commit, built if need be, or a path.
    pub async fn resolve(&self, spec: &str, progress: &dyn Progress) -> Result<Kernel, KernelError> {
        match self.entry(spec)? {
            Some(entry) => self.ensure(&entry, progress).await,
            None => self.read_path(spec),
        }
    }

    /// The kernel of `spec` if it is there; nothing is built.
    pub fn find(&self, spec: &str) -> Result<Option<Kernel>, KernelError> {
        match self.entry(spec)? {
            Some(entry) => self.ready(&entry),
            None => self.read_path(spec).map(Some),
        }
    }

    /// What the kernel that `spec` names is called ever after: a commit by its own name, any other as it is.
    pub fn name(&self, spec: &str) -> Result<String, KernelError> {
        Ok(self.entry(spec)?.map_or_else(|| spec.to_owned(), |entry| entry.version.clone()))
    }

    /// The release of the kernel that `spec` names, which for one of the catalog is its name; nothing is built.
    pub fn release(&self, spec: &str) -> Result<String, KernelError> {
        match self.entry(spec)?.as_deref() {
            Some(Entry { source: Source::Commit { release, .. }, .. }) => Ok(release.clone()),
            Some(entry) => Ok(entry.version.clone()),
            None => self.read_path(spec).map(|kernel| kernel.info.release),
        }
    }

    /// How the kernel that `spec` names is built, unless it is a path to one that is.
    fn entry(&self, spec: &str) -> Result<Option<Cow<'_, Entry>>, KernelError> {
        match self.catalog.find(spec) {
            Some(entry) => Ok(Some(Cow::Borrowed(entry))),
            None => Ok(commits::entry(spec, &self.catalog)?.map(Cow::Owned)),
        }
    }

    /// The kernel of a catalog entry, if it is in the store and as it was put there.
    pub fn ready(&self, entry: &Entry) -> Result<Option<Kernel>, KernelError> {
        match self.folder(entry, &patches_of(entry)?) {
            // Where it could not even be built.
            Err(KernelError::Tools(_)) => Ok(None),
            folder => Ok(load(&folder?, entry)),
        }
    }

    /// Removes the kernel of an entry, so that it is built again.
    pub fn forget(&self, entry: &Entry) -> Result<(), KernelError> {
        let folder = self.folder(entry, &patches_of(entry)?)?;
        if folder.exists() { fs::remove_dir_all(&folder).map_err(KernelError::file(&folder)) } else { Ok(()) }
    }

    fn folder(&self, entry: &Entry, patches: &[Patch]) -> Result<PathBuf, KernelError> {
        self.folder_of("kernels", entry, patches)
    }

    /// The place of what is made from an entry, among others of its kind.
    pub(crate) fn folder_of(&self, kind: &str, entry: &Entry, patches: &[Patch]) -> Result<PathBuf, KernelError> {
        // A commit's begins with the path of its tree.
        let name = entry.version.rsplit('/').next().unwrap_or_default();
        let determined = determined(entry, patches)?;
        let folder = |gcc: &str| self.root.join(kind).join(format!("{name}-{}", &key(&determined, gcc)[..16]));
        match tools::compiler() {
            Ok((major, _)) => Ok(folder(&major)),
            // A machine that builds none takes what was built for it.
            Err(none) => built_by_any(folder).ok_or(none),
        }
    }

    /// One process builds, the others wait for it.
    async fn ensure(&self, entry: &Entry, progress: &dyn Progress) -> Result<Kernel, KernelError> {
        // Read once: what is built is what the folder is named after.
        let patches = patches_of(entry)?;
        let folder = self.folder(entry, &patches)?;
        if let Some(kernel) = load(&folder, entry) {
            return Ok(kernel);
        }
        let _lock = self.lock(&folder, &entry.version, progress).await?;
        if let Some(kernel) = load(&folder, entry) {
            return Ok(kernel);
        }
        self.make(entry, &patches, progress).await?;
        load(&folder, entry).ok_or_else(|| KernelError::NotAKernel {
            path: folder,
            why: "what was built cannot be read back".to_owned(),
        })
    }

    /// One process makes what belongs into `folder`, and the others wait for it: until the file is closed.
    pub(crate) async fn lock(&self, folder: &Path, what: &str, progress: &dyn Progress) -> Result<File, KernelError> {
        for needed in [folder.parent().unwrap_or(&self.root), &self.root.join("downloads")] {
            fs::create_dir_all(needed).map_err(KernelError::file(needed))?;
        }
        let mut path = folder.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = File::create(&path).map_err(KernelError::file(&path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.note(&format!("another luqual builds {what}; waiting for it"));
            let waiting = file.try_clone().map_err(KernelError::file(&path))?;
            let waited = tokio::task::spawn_blocking(move || flock(&waiting, FlockOperation::LockExclusive)).await;
            let failed = |why: String| KernelError::file(&path)(std::io::Error::other(why));
            waited.map_err(|error| failed(error.to_string()))?.map_err(|errno| failed(errno.to_string()))?;
        }
        Ok(file)
    }

    /// Whether there can be a build in `place`.
    pub(crate) fn can_build(&self, place: &Path) -> Result<(), KernelError> {
        let missing = tools::missing();
        if !missing.is_empty() {
            return Err(KernelError::Tools(missing));
        }
        let free = free_mib(place)?;
        if free < NEEDED_MIB {
            return Err(KernelError::NoSpace { path: place.to_owned(), free, needed: NEEDED_MIB });
        }
        Ok(())
    }

    /// A folder below `place` for a build, if there can be one. It is removed whatever happens, with all that is in it.
    pub(crate) fn workplace(&self, place: &Path) -> Result<TempDir, KernelError> {
        self.can_build(place)?;
        tempfile::Builder::new().prefix(".build-").tempdir_in(place).map_err(KernelError::file(place))
    }

    /// Builds in a folder of its own, of which the result alone is kept.
    async fn make(&self, entry: &Entry, patches: &[Patch], progress: &dyn Progress) -> Result<(), KernelError> {
        let started = Instant::now();
        let log = self.root.join(format!("build-{}.log", entry.version.rsplit('/').next().unwrap_or_default()));
        if let Source::Commit { tree, id, .. } = &entry.source {
            let tree = commits::build(self, entry, (tree, id), &log, progress).await?;
            return self.keep(entry, patches, &tree, &log, started);
        }
        let work = self.workplace(&self.root.join("kernels"))?;
        let package = self.fetch(entry, progress).await?;
        let tree = build(entry, patches, package.as_deref(), work.path(), &log, progress).await?;
        self.keep(entry, patches, &tree, &log, started)
    }

    /// Copies what was built in `tree` beside its place in the store, and renames it into that.
    pub(crate) fn keep(
        &self,
        entry: &Entry,
        patches: &[Patch],
        tree: &Path,
        log: &Path,
        started: Instant,
    ) -> Result<(), KernelError> {
        let (kernels, folder) = (self.root.join("kernels"), self.folder(entry, patches)?);
        fs::create_dir_all(&kernels).map_err(KernelError::file(&kernels))?;
        let work =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&kernels).map_err(KernelError::file(&kernels))?;
        let new = work.path().join("new");
        fs::create_dir(&new).map_err(KernelError::file(&new))?;
        let mut sizes = BTreeMap::new();
        for (from, to) in ARTIFACTS {
            let (from, to_path) = (tree.join(from), new.join(to));
            let size = fs::copy(&from, &to_path).map_err(KernelError::file(&from))?;
            sizes.insert(to.to_owned(), size);
        }
        fs::rename(log, new.join("build.log")).map_err(KernelError::file(log))?;
        let metadata = describe(entry, patches, &new, sizes, started)?;
        let path = new.join("metadata.json");
        let text = serde_json::to_vec_pretty(&metadata).map_err(|error| KernelError::file(&path)(error.into()))?;
        fs::write(&path, text).map_err(KernelError::file(&path))?;
        if folder.exists() {
            // It was there and could not be read: what is new is better.
            fs::remove_dir_all(&folder).map_err(KernelError::file(&folder))?;
        }
        fs::rename(&new, &folder).map_err(KernelError::file(&folder))
    }

    /// Where the tree is kept in which mutants of a kernel are built.
    pub(crate) fn mutant_folder(&self, entry: &Entry) -> Result<PathBuf, KernelError> {
        self.folder_of("mutants", entry, &patches_of(entry)?)
    }

    pub(crate) async fn fetch(&self, entry: &Entry, progress: &dyn Progress) -> Result<Option<PathBuf>, KernelError> {
        let (url, name, sha256) = match &entry.source {
            Source::Tree(_) | Source::Commit { .. } => return Ok(None),
            Source::Debian { package, version, sha256 } => {
                let name = format!("{package}_{version}_all.deb");
                let mirror = debian_mirror(self.mirror.as_deref());
                (format!("{mirror}/pool/main/l/linux/{name}"), name, sha256)
            }
            Source::Tarball { url, sha256 } => {
                (url.clone(), url.rsplit('/').next().unwrap_or("source").to_owned(), sha256)
            }
        };
        let file = self.root.join("downloads").join(name);
        fetch(&url, sha256, &file, progress).await?;
        Ok(Some(file))
    }

    fn read_path(&self, spec: &str) -> Result<Kernel, KernelError> {
        let path = Path::new(spec);
        if !path.exists() {
            let known = self.catalog.versions().into_iter().map(str::to_owned).collect();
            return Err(KernelError::Unknown { name: spec.to_owned(), known });
        }
        let wrong = |why: String| KernelError::NotAKernel { path: path.to_owned(), why };
        let image = if path.is_dir() { path.join("arch/x86/boot/bzImage") } else { path.to_owned() };
        let bytes = fs::read(&image).map_err(|error| wrong(format!("{}: {error}", image.display())))?;
        let mut facts = image::read(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut symbols = None;
        if path.is_dir() {
            // A tree says more than its image, if it is the same build.
            facts.config = facts.config.or_else(|| fs::read_to_string(path.join(".config")).ok());
            let elf = fs::read(path.join("vmlinux")).ok();
            if facts.abi.is_none() {
                facts.abi = elf.as_deref().map(image::abi_strings);
            }
            let is_same = |elf: &[u8]| facts.build_id.is_none() || image::build_id(elf) == facts.build_id;
            symbols = elf.filter(|elf| is_same(elf)).and_then(|_| fs::canonicalize(path.join("vmlinux")).ok());
        }
        let image = fs::canonicalize(&image).map_err(KernelError::file(&image))?;
        let info = KernelInfo {
            name: spec.to_owned(),
            release: facts.release,
            build_id: facts.build_id,
            image_sha256: digest::of_bytes(&bytes),
            provenance: format!("file {}", image.display()),
            abi: facts.abi,
            abilities: facts.config.map(|config| KernelConfig::parse(&config).abilities()),
            command_line: "console=ttyS0 kho=on liveupdate=on".to_owned(),
            patches: Vec::new(),
            facts: BTreeMap::from([("size of bzImage".to_owned(), format!("{} bytes", bytes.len()))]),
        };
        Ok(Kernel { info, image, symbols })
    }
}

pub(crate) fn patches_of(entry: &Entry) -> Result<Vec<Patch>, KernelError> {
    let read = |series| patches::read(series).map_err(|trouble| series_error(entry, trouble));
    entry.patches.as_ref().map_or_else(|| Ok(Vec::new()), read)
}

/// Why the patches of an entry cannot be had.
pub(crate) fn series_error(entry: &Entry, trouble: patches::Trouble) -> KernelError {
    KernelError::Series { version: entry.version.clone(), why: trouble.why, hint: trouble.hint }
}

/// Everything that determines the bytes of a kernel, and what is said of its patches.
fn key(determined: &Determined, gcc: &str) -> String {
    let Determined { before, after } = determined;
    let parts = before.iter().cloned().chain([format!("gcc {gcc}")]).chain(after.iter().cloned());
    let digests: Vec<String> = parts.map(|part| digest::of_bytes(part.as_bytes())).collect();
    digest::of_bytes(digests.join(" ").as_bytes())
}

/// What else a kernel's bytes depend on: before the compiler in its key, and after it.
struct Determined {
    before: Vec<String>,
    after: Vec<String>,
}

fn determined(entry: &Entry, patches: &[Patch]) -> Result<Determined, KernelError> {
    let source = match &entry.source {
        Source::Debian { sha256, .. } | Source::Tarball { sha256, .. } => sha256.clone(),
        Source::Tree(path) => digest::of_bytes(listing(path)?.as_bytes()),
        Source::Commit { id, .. } => format!("commit {id}"),
    };
    let before = vec![RECIPE.to_string(), entry.version.clone(), source, entry.fragment.clone()];
    // An entry without them has the key that it had before there were any.
    let mut after = Vec::new();
    if let Base::File { text, .. } = &entry.base {
        after.push(format!("base {text}"));
    }
    for luqual_model::Patch { subject, sha256 } in patches.iter().map(Patch::described) {
        after.push(format!("patch {sha256} {subject}"));
    }
    Ok(Determined { before, after })
}

/// The folder that is there of those which compilers of different major versions build, the newest.
fn built_by_any(folder: impl Fn(&str) -> PathBuf) -> Option<PathBuf> {
    // 8 is the oldest that builds these kernels (Documentation/process/changes.rst).
    (8..64).rev().map(|major| folder(&major.to_string())).find(|folder| folder.is_dir())
}

/// A tree's files with their sizes and times: another edit is another kernel.
fn listing(path: &Path) -> Result<String, KernelError> {
    use std::fmt::Write;
    use std::os::unix::fs::MetadataExt;
    let mut text = String::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(KernelError::file(&folder))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let metadata = path.symlink_metadata().map_err(KernelError::file(&path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{} {} {} {}",
                    path.display(),
                    metadata.size(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                );
            }
        }
    }
    Ok(text)
}

fn describe(
    entry: &Entry,
    patches: &[Patch],
    folder: &Path,
    sizes: BTreeMap<String, u64>,
    started: Instant,
) -> Result<Metadata, KernelError> {
    let (image_sha256, release, build_id, abi) = read_artifacts(folder)?;
    Ok(Metadata {
        schema_version: METADATA,
        release,
        build_id,
        abi,
        provenance: entry.provenance(),
        patches: patches.iter().map(Patch::described).collect(),
        image_sha256,
        compiler: tools::compiler()?.1,
        build_seconds: started.elapsed().as_secs(),
        sizes,
    })
}

/// The bzImage's digest and release, and the ELF's build id and ABI strings.
fn read_artifacts(folder: &Path) -> Result<(String, String, Option<String>, Vec<String>), KernelError> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(KernelError::file(folder.join(name)));
    let (image, elf) = (read("bzImage")?, read("vmlinux")?);
    let facts = image::read(&image)
        .map_err(|error| KernelError::NotAKernel { path: folder.join("bzImage"), why: error.to_string() })?;
    Ok((digest::of_bytes(&image), facts.release, image::build_id(&elf), image::abi_strings(&elf)))
}

/// The metadata of a kernel in the store; what an older luqual read out of it is read again.
fn metadata_of(folder: &Path) -> Option<Metadata> {
    let path = folder.join("metadata.json");
    let known: Metadata = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    if known.schema_version == METADATA {
        return Some(known);
    }
    let (image_sha256, release, build_id, abi) = read_artifacts(folder).ok()?;
    if image_sha256 != known.image_sha256 {
        return None;
    }
    let metadata = Metadata { schema_version: METADATA, release, build_id, abi, ..known };
    let beside = folder.join("metadata.new");
    fs::write(&beside, serde_json::to_vec_pretty(&metadata).ok()?).ok()?;
    fs::rename(&beside, &path).ok()?;
    Some(metadata)
}

/// `None` when it is not there or not what it was: then it is built again.
fn load(folder: &Path, entry: &Entry) -> Option<Kernel> {
    let metadata = metadata_of(folder)?;
    let image = folder.join("bzImage");
    if digest::of_file(&image).ok()? != metadata.image_sha256 {
        return None;
    }
    let config = fs::read_to_string(folder.join("config")).ok()?;
    let mut facts = BTreeMap::from([
        ("compiler".to_owned(), metadata.compiler),
        ("build time".to_owned(), format!("{} s", metadata.build_seconds)),
    ]);
    facts.extend(metadata.sizes.into_iter().map(|(name, size)| (format!("size of {name}"), format!("{size} bytes"))));
    let info = KernelInfo {
        name: entry.version.clone(),
        release: metadata.release,
        build_id: metadata.build_id,
        image_sha256: metadata.image_sha256,
        provenance: metadata.provenance,
        abi: Some(metadata.abi),
        abilities: Some(KernelConfig::parse(&config).abilities()),
        command_line: entry.command_line.clone(),
        patches: metadata.patches,
        facts,
    };
    Some(Kernel { info, image, symbols: Some(folder.join("vmlinux")).filter(|path| path.is_file()) })
}

fn free_mib(path: &Path) -> Result<u64, KernelError> {
    let stat = statvfs(path).map_err(|errno| KernelError::file(path)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            version: "9.9.9".into(),
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

    /// A folder as a build leaves it.
    fn stored(folder: &Path) {
        let image = crate::image::tests::image(&crate::image::tests::elf());
        fs::write(folder.join("bzImage"), &image).unwrap();
        fs::write(folder.join("vmlinux"), crate::image::tests::elf()).unwrap();
        fs::write(folder.join("config"), "CONFIG_LIVEUPDATE=y\n").unwrap();
        let metadata = describe(&entry(), &[patch("b")], folder, BTreeMap::new(), Instant::now()).unwrap();
        fs::write(folder.join("metadata.json"), serde_json::to_vec(&metadata).unwrap()).unwrap();
    }

    #[test]
    fn a_kernel_that_was_damaged_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        stored(folder.path());
        let kernel = load(folder.path(), &entry()).unwrap();
        assert_eq!(kernel.info.release, "9.9.9-x");
        assert_eq!(kernel.info.patches, [patch("b").described()]);
        fs::write(folder.path().join("bzImage"), "cut off").unwrap();
        assert!(load(folder.path(), &entry()).is_none());
    }

    #[test]
    fn what_an_older_luqual_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        stored(folder.path());
        let path = folder.path().join("metadata.json");
        let old = fs::read_to_string(&path).unwrap().replace("\"schema_version\":2", "\"schema_version\":1");
        fs::write(&path, old.replace("memfd-v2", "old-v0")).unwrap();
        let abi = load(folder.path(), &entry()).unwrap().info.abi.unwrap();
        assert!(abi.contains(&"memfd-v2".to_owned()), "{abi:?}");
        assert!(!fs::read_to_string(&path).unwrap().contains("old-v0"));
    }

    #[test]
    fn everything_that_determines_the_bytes_is_in_the_key() {
        let key = |entry: Entry| super::key(&determined(&entry, &[]).unwrap(), "14");
        let base = key(entry());
        let other_source = Source::Tarball { url: "x".into(), sha256: "cd".into() };
        assert_ne!(base, key(Entry { source: other_source, ..entry() }));
        assert_ne!(base, key(Entry { fragment: "CONFIG_A=n\n".into(), ..entry() }));
        // How it is booted is not.
        assert_eq!(base, key(Entry { command_line: "quiet".into(), ..entry() }));

        let with = |text: &str| Entry { base: Base::File { name: "x".into(), text: text.into() }, ..entry() };
        assert_ne!(base, key(with("CONFIG_B=m\n")));
        assert_ne!(key(with("")), key(with("CONFIG_B=m\n")));
        let patched = |patches: &[Patch]| super::key(&determined(&entry(), patches).unwrap(), "14");
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
        let plain = determined(&entry(), &[]).unwrap();
        assert_eq!(key(&plain, "14"), digest::of_bytes(joined.as_bytes()));
        assert_ne!(key(&plain, "14"), key(&plain, "15"));
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
