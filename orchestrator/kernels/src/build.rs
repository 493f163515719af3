//! Builds a kernel from a catalog entry: unpack, patch, configure, check, make. The result has the same bytes on
//! every host.

use crate::catalog::{Entry, Source};
use crate::configure::configure;
use crate::error::{KernelError, says_full};
use crate::fetch::Fetched;
use crate::patches;
use crate::progress::BuildProgress;
use crate::recipe::Recipe;
use crate::unpack::unpack;
use luqual_model::ARCH;
use rustix::process::{Pid, Signal, getpriority_process, kill_process_group, setpriority_process};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Command;

/// The results of a build: names in the store, and paths in the tree.
pub(crate) const ARTIFACTS: [(&str, &str); 4] = [
    (ARCH.image.in_tree, ARCH.image.name),
    (".config", "config"),
    ("System.map", "System.map"),
    ("vmlinux", "vmlinux"),
];

/// Builds in `folder`, and logs to `log`. Returns the tree.
pub(crate) async fn build(
    recipe: &Recipe<'_>,
    fetched: &Fetched,
    folder: &Path,
    log: &Path,
    progress: &dyn BuildProgress,
) -> Result<PathBuf, KernelError> {
    let tree = source(recipe, fetched, folder, progress).await?;
    configure_and_make(recipe.entry, fetched, &tree, folder, log, progress).await?;
    Ok(tree)
}

/// Configures and builds in an existing tree, which may have been built before.
pub(crate) async fn configure_and_make(
    entry: &Entry,
    fetched: &Fetched,
    tree: &Path,
    folder: &Path,
    log: &Path,
    progress: &dyn BuildProgress,
) -> Result<(), KernelError> {
    let mut make = Make::new(entry, tree, log)?;
    progress.start("configuring", None);
    let result = configure(&mut make, entry, fetched.config.as_deref(), folder).await?;
    progress.end();

    progress.start(&format!("compiling {}", entry.version), Some(result.set() * STEPS_OF_AN_OPTION));
    let mut done = 0;
    let mut count = |line: &str| {
        // A line such as `  CC      kernel/fork.o` is one step of the build.
        if line.starts_with("  ") {
            done += 1;
            progress.at(done);
        }
    };
    let goals: &[&str] = if result.has_modules() { &[ARCH.image.name, "modules"] } else { &[ARCH.image.name] };
    make.run(goals, &[], &mut count).await?;
    if result.has_modules() {
        let place = tree.join(MODULES);
        // Without depmod: a host need not have it, and luqual reads what each module says it needs.
        let environment =
            [("INSTALL_MOD_PATH", place.as_os_str()), ("INSTALL_MOD_STRIP", "1".as_ref()), ("DEPMOD", "true".as_ref())];
        make.run(&["modules_install"], &environment, &mut count).await?;
    }
    progress.end();
    Ok(())
}

/// Where modules are installed in a tree.
pub(crate) const MODULES: &str = "luqual-modules";

/// Puts the source of a recipe, with its patches, into `folder`.
pub(crate) async fn source(
    recipe: &Recipe<'_>,
    fetched: &Fetched,
    folder: &Path,
    progress: &dyn BuildProgress,
) -> Result<PathBuf, KernelError> {
    let tree = match (&recipe.entry.source, &fetched.package) {
        (Source::Tree(source), _) => copy(source, folder, progress).await?,
        (_, Some(package)) => unpack(package, folder, progress).await?,
        (source, None) => {
            let why = format!("{} was not configured in a folder of its own", source.provenance());
            return Err(KernelError::Unexpected { path: folder.to_owned(), why });
        }
    };
    // From here on the copy is built, whatever happens to the tree.
    recipe.check_source()?;
    patches::apply(&recipe.entry.version, &recipe.patches, &tree, folder).await?;
    Ok(tree)
}

/// Builds a tree again that was built and then changed, with the same configuration.
pub(crate) async fn build_again(
    entry: &Entry,
    tree: &Path,
    log: &Path,
    progress: &dyn BuildProgress,
) -> Result<(), KernelError> {
    progress.start(&format!("compiling {}", entry.version), None);
    Make::new(entry, tree, log)?.run(&[ARCH.image.name], &[], &mut |_| {}).await?;
    progress.end();
    Ok(())
}

/// The lines that a build prints for each option that is set, for the progress bar: 2.6 of 7.3.4, 2.7 with modules.
const STEPS_OF_AN_OPTION: u64 = 3;

/// Runs make in a tree, and logs its output.
pub(crate) struct Make<'a> {
    entry: &'a Entry,
    /// The tree.
    pub(crate) tree: &'a Path,
    log: File,
    log_path: &'a Path,
}

impl<'a> Make<'a> {
    pub(crate) fn new(entry: &'a Entry, tree: &'a Path, log: &'a Path) -> Result<Self, KernelError> {
        Ok(Self { entry, tree, log: File::create(log).map_err(KernelError::file(log))?, log_path: log })
    }

    pub(crate) async fn run(
        &mut self,
        arguments: &[&str],
        environment: &[(&str, &std::ffi::OsStr)],
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), KernelError> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let (reader, writer) = std::io::pipe().map_err(KernelError::file(self.tree))?;
        let mut command = Command::new("make");
        command
            .current_dir(self.tree)
            .arg(format!("-j{jobs}"))
            .args(arguments)
            // The user's environment must not affect the bytes.
            .env_clear()
            .envs(["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
            .env("KBUILD_BUILD_USER", "luqual")
            .env("KBUILD_BUILD_HOST", "luqual")
            .env("KBUILD_BUILD_VERSION", "1")
            .envs(environment.iter().copied())
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone().map_err(KernelError::file(self.tree))?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(KernelError::file("make"))?;
        // The command has the other end of the pipe.
        drop(command);
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        group.be_nice();
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(KernelError::file(self.tree))?;
        let mut lines = BufReader::new(reader).split(b'\n');
        while let Some(line) = lines.next_segment().await.map_err(KernelError::file(self.tree))? {
            let line = String::from_utf8_lossy(&line);
            writeln!(self.log, "{line}").map_err(KernelError::file(self.log_path))?;
            on_line(&line);
        }
        let status = child.wait().await.map_err(KernelError::file("make"))?;
        // Once make is reaped, another group can have its id.
        group.0 = None;
        if status.success() {
            return Ok(());
        }
        let text = fs::read_to_string(self.log_path).unwrap_or_default();
        if says_full(&text) {
            return Err(KernelError::full(self.tree));
        }
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        Err(KernelError::Make {
            version: self.entry.version.clone(),
            goal: arguments.join(" "),
            log: self.log_path.to_owned(),
            tail: lines.into_iter().rev().collect::<Vec<_>>().join("\n"),
        })
    }
}

/// The process group of make, which is killed when this is dropped before make has ended.
struct Group(Option<Pid>);

impl Group {
    /// The niceness of a build relative to luqual's (setpriority(2)): beside a machine that needs a whole processor
    /// it gets about a tenth.
    const NICER: i32 = 10;

    /// Lowers the priority of make and its children, so that machines come first. Errors are ignored; machines would
    /// only be slower.
    fn be_nice(&self) {
        if let (Some(_), Ok(nice)) = (self.0, getpriority_process(self.0)) {
            let _ = setpriority_process(self.0, (nice + Self::NICER).min(19));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Copies a tree, since building changes it.
async fn copy(source: &Path, folder: &Path, progress: &dyn BuildProgress) -> Result<PathBuf, KernelError> {
    let tree = folder.join("tree");
    progress.start(&format!("copying {}", source.display()), None);
    let wrong = |why: String| KernelError::NotAKernel { path: source.to_owned(), why };
    if !source.join("Kbuild").exists() {
        return Err(wrong("it is not the source tree of a kernel".to_owned()));
    }
    let run = |program: &'static str, words: Vec<OsString>, place: PathBuf| async move {
        let output = Command::new(program).args(words).current_dir(place).kill_on_drop(true).output().await;
        // Every host that builds kernels has both programs.
        let output = output.map_err(KernelError::file(program))?;
        match String::from_utf8_lossy(&output.stderr) {
            _ if output.status.success() => Ok(()),
            said if says_full(&said) => Err(KernelError::full(folder)),
            said => {
                Err(KernelError::NotAKernel { path: source.to_owned(), why: format!("{program}: {}", said.trim()) })
            }
        }
    };
    let words = ["-a".into(), "--reflink=auto".into(), source.as_os_str().to_owned(), tree.as_os_str().to_owned()];
    run("cp", words.into(), PathBuf::from("/")).await?;
    run("make", vec!["mrproper".into()], tree.clone()).await?;
    progress.end();
    Ok(tree)
}
