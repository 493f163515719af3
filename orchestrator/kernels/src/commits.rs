//! Kernels that are commits of a git tree, named `TREE@COMMIT`.

use crate::catalog::{Catalog, Entry, Source};
use crate::error::KernelError;
use crate::git::{Failed, git};
use luqual_model::Version;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A git tree with kernel sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitTree {
    path: PathBuf,
}

/// A commit that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The subject.
    pub subject: String,
}

/// The length of an abbreviated commit id.
const SHORT: usize = 12;

impl GitTree {
    /// Opens the tree at `path`; an error if it is not a git tree.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let path = fs::canonicalize(path).map_err(KernelError::named(path))?;
        let tree = Self { path };
        tree.ask(&["rev-parse", "--git-dir"])?;
        Ok(tree)
    }

    /// The name of a commit's kernel for the user.
    pub fn spec(&self, commit: &str) -> String {
        format!("{}@{}", self.path.display(), commit.get(..SHORT).unwrap_or(commit))
    }

    /// The commit with that name; an error if there is none.
    pub fn commit(&self, name: &str) -> Result<Commit, KernelError> {
        // `--end-of-options` keeps a name from being read as an option.
        let found = self.git(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]);
        let id = found.map_err(|failed| match failed {
            // git's own message does not name what was requested.
            Failed::Git { .. } => self.wrong(format!("the tree has no commit `{name}`")),
            Failed::Start(error) => KernelError::Git(error),
        })?;
        let subject = self.ask(&["log", "-1", "--format=%s", id.trim(), "--"])?;
        Ok(Commit { id: id.trim().to_owned(), subject: subject.trim().to_owned() })
    }

    /// The commits that are ancestors of `bad` but not of `good`. The first one halves them best, and the last one is
    /// `bad` itself.
    pub fn halving(&self, good: &[String], bad: &str) -> Result<Vec<String>, KernelError> {
        let excluded: Vec<String> = good.iter().map(|good| format!("^{good}")).collect();
        let mut words = vec!["rev-list", "--bisect-all", bad];
        words.extend(excluded.iter().map(String::as_str));
        words.push("--");
        let text = self.ask(&words)?;
        let id = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let mut commits: Vec<String> = text.lines().filter_map(id).collect();
        commits.retain(|commit| commit != bad);
        commits.push(bad.to_owned());
        Ok(commits)
    }

    /// Whether `one` is an ancestor of `other`, or the same commit.
    pub fn is_before(&self, one: &str, other: &str) -> Result<bool, KernelError> {
        Ok(self.ask(&["rev-list", "--count", one, &format!("^{other}"), "--"])?.trim() == "0")
    }

    /// The beginning of `make kernelrelease`, from the commit's Makefile; empty if that cannot be read.
    fn release(&self, id: &str) -> String {
        release(&self.ask(&["show", &format!("{id}:Makefile")]).unwrap_or_default())
    }

    fn ask(&self, words: &[&str]) -> Result<String, KernelError> {
        self.git(words).map_err(|failed| failed.of(&self.path))
    }

    fn git(&self, words: &[&str]) -> Result<String, Failed> {
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        Ok(String::from_utf8_lossy(&git(&self.path, &words, None)?).into_owned())
    }

    fn wrong(&self, why: String) -> KernelError {
        KernelError::Commit { tree: self.path.clone(), why }
    }
}

/// The release from VERSION, PATCHLEVEL, SUBLEVEL and EXTRAVERSION of a kernel's Makefile.
fn release(makefile: &str) -> String {
    let value = |name: &str| {
        let of = |line: &str| line.strip_prefix(name)?.trim_start().strip_prefix('=').map(|it| it.trim().to_owned());
        makefile.lines().find_map(of)
    };
    match (value("VERSION"), value("PATCHLEVEL")) {
        (Some(version), Some(level)) => {
            let sub = value("SUBLEVEL").unwrap_or_else(|| "0".to_owned());
            format!("{version}.{level}.{sub}{}", value("EXTRAVERSION").unwrap_or_default())
        }
        _ => String::new(),
    }
}

/// The entry for `TREE@COMMIT`, or `None` if `spec` has another form. It is configured as the catalog's kernels of
/// the same series, or else as the last one. It is named by the commit's id, since a branch can move.
pub(crate) fn entry(spec: &str, catalog: &Catalog) -> Result<Option<Entry>, KernelError> {
    let Some((path, name)) = spec.rsplit_once('@').filter(|(path, _)| Path::new(path).is_dir()) else {
        return Ok(None);
    };
    let tree = GitTree::open(Path::new(path))?;
    let commit = tree.commit(name)?;
    let release = tree.release(&commit.id);
    let like = closest_entry(catalog, &release).ok_or_else(|| KernelError::Commit {
        tree: tree.path.clone(),
        why: "the catalog has no kernel whose configuration the commit could use".to_owned(),
    })?;
    let version = tree.spec(&commit.id);
    let source = Source::Commit { tree: tree.path, id: commit.id, release };
    Ok(Some(Entry { built_as: version.clone(), version, source, patches: None, ..like.clone() }))
}

fn closest_entry<'a>(catalog: &'a Catalog, release: &str) -> Option<&'a Entry> {
    let plain = || catalog.entries().iter().filter(|entry| entry.is_plain());
    let series = |text: &str| text.split(['.', '-']).take(2).map(str::to_owned).collect::<Vec<_>>();
    let newest = |entry: &&Entry| Version::of(&entry.version);
    plain().filter(|entry| series(&entry.version) == series(release)).max_by_key(newest).or(plain().max_by_key(newest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git_in(folder: &Path, words: &[&str]) -> String {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let output = Command::new("git").current_dir(folder).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A line of five commits, the oldest first.
    fn history(folder: &Path) -> Vec<String> {
        git_in(folder, &["init", "--quiet"]);
        let commit = |number: u32| {
            fs::write(folder.join("Makefile"), format!("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = {number}\n")).unwrap();
            git_in(folder, &["add", "."]);
            git_in(folder, &["commit", "--quiet", "-m", &format!("change {number}")]);
            git_in(folder, &["rev-parse", "HEAD"])
        };
        (0..5).map(commit).collect()
    }

    #[test]
    fn a_commit_is_named_and_knows_its_release_and_its_closest_entry() {
        let folder = tempfile::tempdir().unwrap();
        let ids = history(folder.path());
        let tree = GitTree::open(folder.path()).unwrap();
        assert_eq!(tree.commit("HEAD~1").unwrap(), Commit { id: ids[3].clone(), subject: "change 3".into() });
        let catalog = Catalog::load(None).unwrap();
        let spec = tree.spec(&ids[2]);
        assert!(spec.ends_with(&format!("@{}", &ids[2][..12])));
        let entry = |spec: &str| entry(spec, &catalog).unwrap().unwrap();
        assert_eq!(entry(&format!("{}@HEAD~2", folder.path().display())), entry(&spec));
        let entry = entry(&spec);
        let like = catalog.find("7.3.4").unwrap();
        assert_eq!((&entry.version, &entry.fragment, &entry.patches), (&spec, &like.fragment, &None));
        assert!(matches!(&entry.source, Source::Commit { id, release, .. } if *id == ids[2] && release == "7.3.2"));
        for wrong in ["--help", "nowhere", "HEAD:Makefile"] {
            assert!(tree.commit(wrong).is_err(), "{wrong}");
        }
        assert_eq!(super::entry("7.3.4", &catalog).unwrap(), None);
        assert_eq!(super::entry("/nowhere@HEAD", &catalog).unwrap(), None);
        let empty = tempfile::tempdir().unwrap();
        assert!(GitTree::open(empty.path()).is_err());
    }

    #[test]
    fn the_recipe_is_of_the_series_or_the_newest() {
        let catalog = Catalog::load(None).unwrap();
        let of = |release: &str| closest_entry(&catalog, release).unwrap().version.as_str();
        assert_eq!([of("6.19.2"), of("7.2.0-rc3"), of("8.1.0"), of("")], ["6.19.14", "7.2.12", "7.3.4", "7.3.4"]);
        assert_eq!(release("VERSION = 7\nPATCHLEVEL = 4\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\nNAME = x\n"), "7.4.0-rc2");
        assert_eq!(release("all:\n\ttrue\n"), "");
    }

    #[test]
    fn the_middle_comes_first_and_the_bad_one_last() {
        let folder = tempfile::tempdir().unwrap();
        let ids = history(folder.path());
        let tree = GitTree::open(folder.path()).unwrap();
        let left = tree.halving(&ids[..1], &ids[4]).unwrap();
        assert_eq!((left.len(), left.last()), (4, Some(&ids[4])));
        assert!(left[0] == ids[2], "{left:?} of {ids:?}");
        assert_eq!(tree.halving(&ids[..3], &ids[3]).unwrap(), [ids[3].clone()]);
        assert!(tree.is_before(&ids[1], &ids[3]).unwrap() && !tree.is_before(&ids[3], &ids[1]).unwrap());
    }
}
