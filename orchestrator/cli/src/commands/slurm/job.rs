//! Slurm's own programs: a job array is submitted, waited for, cancelled.

use crate::commands::execute::interrupted;
use crate::error::CliError;
use indicatif::{ProgressBar, ProgressStyle};
use luqual_model::{Event, Stamped};
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How often the parts' journals are looked at: they are on a file system of several machines, on which nobody is told that a
/// file has grown.
const EVERY: Duration = Duration::from_secs(2);

/// A job, as `sbatch --parsable` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    id: String,
    /// Where it is on another cluster than this one's.
    cluster: Option<String>,
}

impl Job {
    fn parse(line: &str) -> Option<Self> {
        let (id, cluster) = line.trim().split_once(';').map_or((line.trim(), None), |(id, it)| (id, Some(it)));
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        is_id.then(|| Self { id: id.to_owned(), cluster: cluster.map(str::to_owned) })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.cluster.iter().map(|cluster| format!("--clusters={cluster}")));
        command
    }
}

impl Display for Job {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.id)
    }
}

/// Whether the user waited.
pub(crate) enum Waited {
    /// Each task has ended, in whatever way.
    ToTheEnd,
    /// The user did not, and the job that there was by then is cancelled.
    Cancelled(Option<Job>),
}

/// An sbatch that is there, and that knows of a Slurm.
pub(crate) async fn there_is_a_slurm() -> Result<(), CliError> {
    let asked = Command::new("sbatch").arg("--version").stdin(Stdio::null()).output().await.map_err(not_started)?;
    if asked.status.success() {
        return Ok(());
    }
    Err(CliError::usage(format!("sbatch knows of no Slurm: {}", String::from_utf8_lossy(&asked.stderr).trim_end()))
        .hint("run it where `sinfo` shows nodes"))
}

fn not_started(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::NotFound => CliError::usage("there is no sbatch in PATH")
            .hint("run it on a machine that submits to Slurm (Debian's package slurm-client), or use --partition"),
        _ => CliError::harness(format!("sbatch: {error}")),
    }
}

/// The folder of what is Slurm's of a run: the script, what the tasks say, and which jobs there were.
pub(crate) struct Slurm {
    folder: PathBuf,
}

impl Slurm {
    pub(crate) fn create(folder: &Path) -> Result<Self, CliError> {
        fs::create_dir_all(folder).map_err(CliError::file(folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What the tasks of a part said.
    pub(crate) fn log(&self, part: u32) -> PathBuf {
        self.folder.join(format!("task-{part}.log"))
    }

    fn script(&self) -> PathBuf {
        self.folder.join("job.sh")
    }

    fn jobs(&self) -> PathBuf {
        self.folder.join("jobs")
    }

    pub(crate) fn write_script(&self, text: &str) -> Result<(), CliError> {
        fs::write(self.script(), text).map_err(CliError::file(self.script().display()))
    }

    /// An error while the last job of the run is still there, since its luqual was killed and Slurm was not told.
    pub(crate) async fn is_free(&self) -> Result<(), CliError> {
        let jobs = fs::read_to_string(self.jobs()).unwrap_or_default();
        let Some(job) = jobs.lines().last().and_then(Job::parse) else { return Ok(()) };
        let asked = job.command("squeue").args(["--noheader", "--format=%i", "--jobs", &job.id]).output().await;
        // It knows nothing of a job that ended a while ago.
        let said = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).into_owned()).unwrap_or_default();
        if said.lines().any(|line| line.starts_with(&job.id)) {
            return Err(CliError::usage(format!("job {job} of this run is still there"))
                .hint(format!("let it end, or end it by `scancel {job}`; then start again")));
        }
        Ok(())
    }

    /// Runs the tasks of these parts, as one array.
    pub(crate) async fn run(
        &self,
        parts: &[u32],
        journals: &[PathBuf],
        interrupt: &watch::Receiver<bool>,
    ) -> Result<Waited, CliError> {
        let numbers: Vec<String> = parts.iter().map(u32::to_string).collect();
        let mut sbatch = Command::new("sbatch")
            .args(["--parsable", "--wait"])
            .arg(format!("--array={}", numbers.join(",")))
            .arg(self.script())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C is luqual's to hear.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        // Where Slurm does not answer, sbatch tries for a long time.
        let job = tokio::select! {
            job = self.taken(&mut sbatch) => job?,
            () = interrupted(interrupt.clone()) => return Ok(Waited::Cancelled(None)),
        };
        let progress = Progress::begin(&job, journals.len());
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                ended = sbatch.wait() => {
                    // It exits with what a task exited with, unless it could not wait.
                    if ended.is_ok_and(|status| status.code().is_some()) {
                        return Ok(Waited::ToTheEnd);
                    }
                    cancel(&job).await?;
                    return Err(CliError::harness(format!("sbatch was killed, and with it job {job}")));
                }
                _ = tick.tick() => {
                    let ended = journals.iter().filter(|journal| says_the_end(journal).unwrap_or(false)).count();
                    progress.at(ended);
                    // sbatch asks every half a minute at last.
                    if ended == journals.len() {
                        return Ok(Waited::ToTheEnd);
                    }
                }
                () = interrupted(interrupt.clone()) => {
                    cancel(&job).await?;
                    return Ok(Waited::Cancelled(Some(job)));
                }
            }
        }
    }

    /// The job's name, once Slurm has it.
    async fn taken(&self, sbatch: &mut Child) -> Result<Job, CliError> {
        let mut line = String::new();
        if let Some(stdout) = sbatch.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await.map_err(CliError::file("sbatch"))?;
        }
        let refused = || {
            CliError::usage("sbatch did not take the job, and says why above")
                .hint(format!("--sbatch-option gives it what it wants; the script is {}", self.script().display()))
        };
        let job = Job::parse(&line).ok_or_else(refused)?;
        let noted = File::options().append(true).create(true).open(self.jobs());
        let noted = noted.and_then(|mut jobs| jobs.write_all(line.as_bytes()));
        noted.map_err(CliError::file(self.jobs().display()))?;
        Ok(job)
    }
}

async fn cancel(job: &Job) -> Result<(), CliError> {
    let failed = |why: &dyn Display| {
        CliError::harness(format!("job {job} was not cancelled: {why}")).hint(format!("end it by `scancel {job}`"))
    };
    let status = job.command("scancel").arg(&job.id).status().await.map_err(|error| failed(&error))?;
    if status.success() { Ok(()) } else { Err(failed(&status)) }
}

/// Whether the last line of a journal is the end of its run, without reading the rest.
fn says_the_end(journal: &Path) -> io::Result<bool> {
    // More than that line has.
    const TAIL: u64 = 256;
    let mut file = File::open(journal)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let Some(line) = tail.strip_suffix(b"\n").and_then(|tail| tail.rsplit(|byte| *byte == b'\n').next()) else {
        return Ok(false);
    };
    let last = serde_json::from_slice::<Stamped>(line);
    Ok(last.is_ok_and(|stamped| matches!(stamped.event, Event::RunFinished { interrupted: false })))
}

/// How many parts have ended, on standard error: a line that moves on a terminal, else one line for each change.
struct Progress {
    parts: usize,
    bar: Option<ProgressBar>,
    told: std::cell::Cell<usize>,
}

impl Progress {
    fn begin(job: &Job, parts: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(parts as u64);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} of {len} parts ended  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(format!("job {job}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            eprintln!("job {job} is submitted");
        }
        Self { parts, bar, told: std::cell::Cell::new(0) }
    }

    fn at(&self, ended: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(ended as u64);
        } else if self.told.replace(ended) != ended {
            eprintln!("{ended} of {} parts ended", self.parts);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_an_id_and_perhaps_a_cluster() {
        let job = |id: &str, cluster: Option<&str>| Job { id: id.to_owned(), cluster: cluster.map(str::to_owned) };
        assert_eq!(Job::parse("12\n"), Some(job("12", None)));
        assert_eq!(Job::parse("12;far\n"), Some(job("12", Some("far"))));
        for wrong in ["", "\n", "sbatch: error", ";far"] {
            assert_eq!(Job::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_journal_says_the_end_in_its_last_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |event: Event| serde_json::to_string(&Stamped { at_us: u64::MAX, event }).unwrap() + "\n";
        let long = "x".repeat(1000) + "\n";
        let end = line(Event::RunFinished { interrupted: false });
        for (text, is_end) in [
            (String::new(), false),
            (long.clone(), false),
            (format!("{long}{end}"), true),
            (end.clone(), true),
            (end.trim_end().to_owned(), false),
            (line(Event::RunFinished { interrupted: true }), false),
            (format!("{end}{}", line(Event::RunResumed { left: 1 })), false),
        ] {
            fs::write(file.path(), &text).unwrap();
            assert_eq!(says_the_end(file.path()).unwrap(), is_end, "{text}");
        }
        assert!(says_the_end(Path::new("/nowhere/events.jsonl")).is_err());
    }
}
