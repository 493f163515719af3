//! Patch series: read from a folder, an mbox or a git branch, and applied to a tree.
//!
//! git reads (git-mailsplit, git-mailinfo, git-format-patch) and applies (git-apply) them, so that luqual accepts
//! what kernel developers send.

use crate::error::{KernelError, says_full};
use crate::git::{Failed, git, plain_git, said};
use luqual_files::digest;
use luqual_model::bounds::TEXT_FILE;
use luqual_model::plain::one_line;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The source of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// A folder of `*.patch` files, or an mbox.
    Path(PathBuf),
    /// A series, and one more patch.
    OnTop {
        /// The series that is applied first.
        base: Box<Series>,
        /// The file of the last patch.
        patch: PathBuf,
    },
    /// luqual's own patches: name and text of each.
    Own(&'static [(&'static str, &'static str)]),
    /// Commits of a git repository on this machine.
    Branch {
        /// A work tree or a bare repository.
        repository: PathBuf,
        /// The range, such as `v7.3.4..mine`.
        range: String,
    },
}

impl Series {
    /// The source of the series, in one line.
    pub fn provenance(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::OnTop { base, patch } => format!("{}, {}", base.provenance(), patch.display()),
            Self::Own(files) => files.iter().map(|(name, _)| *name).collect::<Vec<&str>>().join(", "),
            Self::Branch { repository, range } => format!("git {} {range}", repository.display()),
        }
    }
}

/// One patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) subject: String,
    /// The diff, from the header of its first file.
    pub(crate) diff: Vec<u8>,
}

impl Patch {
    /// The description of the patch for records.
    pub(crate) fn described(&self) -> luqual_model::Patch {
        luqual_model::Patch { subject: self.subject.clone(), sha256: digest::of_bytes(&self.diff) }
    }
}

/// Why a series cannot be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The series has a mistake, with a hint.
    Series { why: String, hint: String },
    /// git could not be started.
    Git(std::io::Error),
    /// A failed operation on a file of luqual's own.
    Own { path: PathBuf, source: std::io::Error },
}

impl Trouble {
    /// The error for the kernel `version`.
    pub(crate) fn of(self, version: &str) -> KernelError {
        match self {
            Self::Series { why, hint } => KernelError::Series { version: version.to_owned(), why, hint },
            Self::Git(error) => KernelError::Git(error),
            Self::Own { path, source } => KernelError::File { path, source },
        }
    }

    /// For `map_err` on a git command: an error with `hint`.
    fn git(hint: &str) -> impl FnOnce(Failed) -> Self {
        move |failed| match failed {
            Failed::Start(error) => Self::Git(error),
            Failed::Git { goal, why } => trouble(format!("`git {goal}` failed: {why}"), hint),
        }
    }

    fn own(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Own { path: path.to_owned(), source }
    }

    /// For `map_err` on an operation on a file that the catalog names.
    fn named(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| {
            trouble(
                format!("{}: {error}", path.display()),
                "set `patches` in the catalog to a folder or an mbox with the series",
            )
        }
    }
}

fn trouble(why: impl Into<String>, hint: impl Into<String>) -> Trouble {
    Trouble::Series { why: why.into(), hint: hint.into() }
}

/// Reads all patches of a series, in the order in which they are applied; at least one.
pub(crate) fn read(series: &Series) -> Result<Vec<Patch>, Trouble> {
    let work = tempfile::tempdir().map_err(Trouble::own(&std::env::temp_dir()))?;
    let mails = match series {
        Series::OnTop { base, patch } => {
            let mut patches = read(base)?;
            patches.extend(read(&Series::Path(patch.clone()))?);
            return Ok(patches);
        }
        Series::Path(path) if path.is_dir() => patch_files(path)?,
        Series::Path(path) if is_patch(path) => vec![path.clone()],
        Series::Own(files) => {
            for (name, text) in *files {
                let path = work.path().join(name);
                fs::write(&path, text).map_err(Trouble::own(&path))?;
            }
            patch_files(work.path())?
        }
        Series::Path(path) => {
            let text = luqual_files::read(path, TEXT_FILE).map_err(Trouble::named(path))?;
            if !text.starts_with(b"From ") {
                let hint =
                    "write the mbox with `git format-patch --stdout`, or put plain diffs into a folder as *.patch";
                return Err(trouble(format!("{} is not an mbox", path.display()), hint));
            }
            split(path, &[], work.path())?
        }
        Series::Branch { repository, range } => {
            let path = work.path().join("series");
            let text = format_patch(repository, range)?;
            fs::write(&path, &text).map_err(Trouble::own(&path))?;
            // Carriage returns belong to the file here; no mail program added them.
            if text.is_empty() { Vec::new() } else { split(&path, &["--keep-cr"], work.path())? }
        }
    };
    let mut patches = Vec::new();
    for mail in &mails {
        patches.extend(patch_of(mail, work.path())?);
    }
    if patches.is_empty() {
        let hint = match series {
            Series::Path(_) | Series::OnTop { .. } | Series::Own(_) => {
                "name a folder with *.patch files, or an mbox with patches".to_owned()
            }
            Series::Branch { repository, range } => {
                format!("give a range for which `git -C {} log {range}` lists commits", repository.display())
            }
        };
        return Err(trouble(format!("there is no patch in {}", series.provenance()), hint));
    }
    Ok(patches)
}

/// The `*.patch` files of a folder, by name.
pub(crate) fn patch_files(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let entries = fs::read_dir(folder).map_err(Trouble::named(folder))?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file() && is_patch(path)).collect();
    paths.sort();
    Ok(paths)
}

fn is_patch(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "patch")
}

/// Splits an mbox into files, one for each mail.
fn split(mbox: &Path, options: &[&str], work: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mbox = std::path::absolute(mbox).map_err(Trouble::named(mbox))?;
    let folder = work.join("mails");
    fs::create_dir_all(&folder).map_err(Trouble::own(&folder))?;
    let mut into = OsString::from("-o");
    into.push(&folder);
    // Eight digits keep the files in order.
    let start = ["mailsplit", "-d8"].iter().chain(options).map(OsStr::new);
    let words: Vec<&OsStr> = start.chain([into.as_os_str(), OsStr::new("--"), mbox.as_os_str()]).collect();
    git(work, &words, None).map_err(Trouble::git("write the mbox with `git format-patch --stdout`"))?;
    let entries = fs::read_dir(&folder).map_err(Trouble::own(&folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The commits of a range as an mbox, independent of the user's configuration of git.
fn format_patch(repository: &Path, range: &str) -> Result<Vec<u8>, Trouble> {
    if !repository.is_dir() {
        let hint = "set `git` under `patches` in the catalog to a git repository on this machine";
        return Err(trouble(format!("there is no repository {}", repository.display()), hint));
    }
    let look = format!("look at it with `git -C {} log {range}`", repository.display());
    let count = git(repository, &["rev-list", "--merges", "--count", range, "--"].map(OsStr::new), None);
    let merges = count.map_err(Trouble::git(&look))?;
    if merges.trim_ascii() != b"0" {
        let merges = String::from_utf8_lossy(&merges).trim().to_owned();
        let why = format!("{range} has merges ({merges}), which cannot be written as patches");
        return Err(trouble(why, "make it a series without merges with `git rebase`"));
    }
    let words = [
        "format-patch",
        "--stdout",
        "--subject-prefix=PATCH",
        "--no-numbered",
        "--no-cover-letter",
        "--no-signature",
        "--no-attach",
        "--no-thread",
        "--no-notes",
        "--no-base",
        "-p",
        "-U3",
        "--diff-algorithm=myers",
        "--full-index",
        "--binary",
        "--no-renames",
        "--no-relative",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--submodule=short",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        range,
        "--",
    ];
    git(repository, &words.map(OsStr::new), None).map_err(Trouble::git(&look))
}

/// The patch in a mail or a plain diff; `None` for a mail without changes, such as a cover letter.
fn patch_of(mail: &Path, work: &Path) -> Result<Option<Patch>, Trouble> {
    let (message, body) = (work.join("message"), work.join("body"));
    let words = ["mailinfo", "-k", "--encoding=UTF-8", "--no-scissors"].map(OsStr::new);
    let words: Vec<&OsStr> = words.into_iter().chain([message.as_os_str(), body.as_os_str()]).collect();
    let name = mail.file_name().unwrap_or(mail.as_os_str()).to_string_lossy().into_owned();
    let hint = "write patches with `git format-patch`, or as plain diffs";
    let input = File::open(mail).map_err(Trouble::named(mail))?;
    let info = git(work, &words, Some(input)).map_err(Trouble::git(hint))?;
    let body = fs::read(&body).map_err(Trouble::own(&body))?;
    let info = String::from_utf8_lossy(&info);
    let (kind, subject) = info
        .lines()
        .find_map(|line| line.strip_prefix("Subject: "))
        .map_or_else(|| (Kind::Patch, name.clone()), heading);
    match (kind, diff_of(&body)) {
        (Kind::Patch, Some(diff)) => Ok(Some(Patch { subject, diff: diff.to_owned() })),
        (Kind::Patch, None) => Err(trouble(format!("there is no diff in {name}: {subject}"), hint)),
        (Kind::Other, _) => Ok(None),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Patch,
    /// A cover letter, or an answer to a patch.
    Other,
}

/// The longest subject that is kept, in characters.
const SUBJECT: usize = 200;

/// The kind of a mail, and its subject in one line, without `[PATCH v2 3/7]`.
fn heading(subject: &str) -> (Kind, String) {
    let mut rest = subject.trim();
    let is_answer = rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:"));
    let mut is_cover = false;
    while let Some((tag, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if !tag.contains("PATCH") && !tag.contains("RFC") {
            break;
        }
        is_cover |= tag.split_whitespace().any(|word| {
            word.split_once('/')
                .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte == b'0'))
        });
        rest = after.trim_start();
    }
    let kind = if is_answer || is_cover { Kind::Other } else { Kind::Patch };
    // A subject is printed on terminals, so control characters are removed.
    (kind, one_line(rest).chars().take(SUBJECT).collect())
}

/// The part of a patch that is applied: from the header of its first file. git-apply ignores the text before.
fn diff_of(body: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let next = &body[at + line.len()..];
        if line.starts_with(b"diff --git ") || (line.starts_with(b"--- ") && next.starts_with(b"+++ ")) {
            return Some(&body[at..]);
        }
        at += line.len();
    }
    None
}

/// Applies all patches in order, without fuzz, and only inside of the tree.
pub(crate) async fn apply(version: &str, patches: &[Patch], tree: &Path, work: &Path) -> Result<(), KernelError> {
    for (index, patch) in patches.iter().enumerate() {
        git_apply(patch, &[], tree, work).await?.map_err(|why| KernelError::Patch {
            version: version.to_owned(),
            number: index + 1,
            count: patches.len(),
            subject: patch.subject.clone(),
            why,
        })?;
    }
    Ok(())
}

/// Removes a patch from a tree. The inner error has git's reason; the tree is then in an unknown state.
pub(crate) async fn take_back(patch: &Patch, tree: &Path, work: &Path) -> Result<Result<(), String>, KernelError> {
    git_apply(patch, &["--reverse"], tree, work).await
}

/// Whether a patch is applied in a tree. The inner error says why this is unknown: it applies in neither direction,
/// or in both.
pub(crate) async fn is_applied(patch: &Patch, tree: &Path, work: &Path) -> Result<Result<bool, String>, KernelError> {
    let back = git_apply(patch, &["--check", "--reverse"], tree, work).await?;
    let on = git_apply(patch, &["--check"], tree, work).await?;
    Ok(match (back, on) {
        (Ok(()), Err(_)) => Ok(true),
        (Err(_), Ok(())) => Ok(false),
        (Ok(()), Ok(())) => Err("it applies both forwards and backwards".to_owned()),
        (Err(why), Err(_)) => Err(why),
    })
}

/// Runs git-apply. The inner error has git's reason; the outer one means that git could not run.
async fn git_apply(
    patch: &Patch,
    options: &[&str],
    tree: &Path,
    work: &Path,
) -> Result<Result<(), String>, KernelError> {
    let file = work.join("current.patch");
    fs::write(&file, &patch.diff).map_err(KernelError::file(&file))?;
    let mut command = tokio::process::Command::from(plain_git(tree));
    command
        .args(["apply", "--whitespace=nowarn"])
        .args(options)
        .arg(&file)
        // The tree is not a repository, and can be inside of another one: git-apply would then take paths relative to
        // that repository, skip all of them, and report success.
        .env("GIT_DIR", "/dev/null")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(KernelError::Git)?;
    let why = said(&output.stderr);
    match output.status.success() {
        true => Ok(Ok(())),
        false if says_full(&why) => Err(KernelError::full(tree)),
        false => Ok(Err(why)),
    }
}

#[cfg(test)]
mod tests;
