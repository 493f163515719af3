//! Submits a job array with Slurm's programs, waits for it, and cancels it.

use crate::context::Context;
use crate::error::EngineError;
use crate::notice::Notice;
use luqual_model::{Event, Stamped};
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The period of polling the parts' journals: a shared file system does not notify other machines of changes.
const EVERY: Duration = Duration::from_secs(2);

/// A job, as `sbatch --parsable` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    id: String,
    /// The cluster, if it is another one than this host's.
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

/// How the wait for a job ended.
pub(crate) enum Waited {
    /// Each task has ended, well or not.
    ToTheEnd,
    /// The user interrupted; the job, if there was one, was cancelled.
    Cancelled(Option<Job>),
}

/// Checks that sbatch exists and finds a Slurm cluster.
pub(crate) async fn there_is_a_slurm() -> Result<(), EngineError> {
    let requested = Command::new("sbatch").arg("--version").stdin(Stdio::null()).output().await.map_err(not_started)?;
    if requested.status.success() {
        return Ok(());
    }
    Err(EngineError::usage(format!(
        "sbatch finds no Slurm cluster: {}",
        String::from_utf8_lossy(&requested.stderr).trim_end()
    ))
    .hint("run luqual on a machine where `sinfo` shows nodes"))
}

fn not_started(error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound => EngineError::usage("the program sbatch is not in PATH")
            .hint("run luqual on a submit host of Slurm (Debian: package slurm-client), or use --partition"),
        _ => EngineError::harness(format!("sbatch: {error}")),
    }
}

/// The folder of a run's files for Slurm: the script, the logs of the tasks, and the ids of the jobs.
pub(crate) struct Slurm {
    folder: PathBuf,
}

impl Slurm {
    pub(crate) fn create(folder: &Path) -> Result<Self, EngineError> {
        fs::create_dir_all(folder).map_err(EngineError::named(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The log of the tasks of a part.
    pub(crate) fn log(&self, part: u32) -> PathBuf {
        self.folder.join(format!("task-{part}.log"))
    }

    fn script(&self) -> PathBuf {
        self.folder.join("job.sh")
    }

    /// The file with the request for each task.
    pub(crate) fn request(&self) -> PathBuf {
        self.folder.join("request.json")
    }

    fn jobs(&self) -> PathBuf {
        self.folder.join("jobs")
    }

    pub(crate) fn write_script(&self, text: &str) -> Result<(), EngineError> {
        fs::write(self.script(), text).map_err(EngineError::own(self.script().display()))
    }

    /// An error if the last job of the run has not ended, which can happen if luqual was killed before it could
    /// cancel the job.
    pub(crate) async fn is_free(&self) -> Result<(), EngineError> {
        let jobs = fs::read_to_string(self.jobs()).unwrap_or_default();
        let Some(job) = jobs.lines().last().and_then(Job::parse) else { return Ok(()) };
        let requested = job.command("squeue").args(["--noheader", "--format=%i", "--jobs", &job.id]).output().await;
        // squeue forgets a job some time after its end.
        let said =
            requested.map(|requested| String::from_utf8_lossy(&requested.stdout).into_owned()).unwrap_or_default();
        if said.lines().any(|line| line.starts_with(&job.id)) {
            return Err(EngineError::usage(format!("job {job} of this run has not ended"))
                .hint(format!("wait until it ends, or end it with `scancel {job}`; then run the same command again")));
        }
        Ok(())
    }

    /// Runs these parts as one array.
    pub(crate) async fn run(
        &self,
        context: &Context<'_>,
        parts: &[u32],
        journals: &[PathBuf],
    ) -> Result<Waited, EngineError> {
        let numbers: Vec<String> = parts.iter().map(u32::to_string).collect();
        let mut sbatch = Command::new("sbatch")
            .args(["--parsable", "--wait"])
            .arg(format!("--array={}", numbers.join(",")))
            .arg(self.script())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C must only reach luqual, not sbatch.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        // sbatch retries for a long time if Slurm does not answer.
        let job = tokio::select! {
            job = self.taken(&mut sbatch) => job?,
            () = context.interrupted() => return Ok(Waited::Cancelled(None)),
        };
        let waiting = Waiting::begin(context, &job, journals.len());
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                ended = sbatch.wait() => {
                    // sbatch exits with the status of a task, unless it was killed.
                    if ended.is_ok_and(|status| status.code().is_some()) {
                        return Ok(Waited::ToTheEnd);
                    }
                    cancel(&job).await?;
                    return Err(EngineError::harness(format!("sbatch was killed; job {job} was cancelled")));
                }
                _ = tick.tick() => {
                    let ended = journals.iter().filter(|journal| says_the_end(journal).unwrap_or(false)).count();
                    waiting.ended(ended);
                    // sbatch polls with a period of up to half a minute.
                    if ended == journals.len() {
                        return Ok(Waited::ToTheEnd);
                    }
                }
                () = context.interrupted() => {
                    cancel(&job).await?;
                    return Ok(Waited::Cancelled(Some(job)));
                }
            }
        }
    }

    /// The id of the job, after Slurm has accepted it.
    async fn taken(&self, sbatch: &mut Child) -> Result<Job, EngineError> {
        let mut line = String::new();
        if let Some(stdout) = sbatch.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await.map_err(EngineError::own("sbatch"))?;
        }
        let refused = || {
            EngineError::usage("sbatch refused the job; its message is above").hint(format!(
                "pass the options that it requires with --sbatch-option; the script is {}",
                self.script().display()
            ))
        };
        let job = Job::parse(&line).ok_or_else(refused)?;
        let noted = File::options().append(true).create(true).open(self.jobs());
        let noted = noted.and_then(|mut jobs| jobs.write_all(line.as_bytes()));
        noted.map_err(EngineError::own(self.jobs().display()))?;
        Ok(job)
    }
}

async fn cancel(job: &Job) -> Result<(), EngineError> {
    let failed = |why: &dyn Display| {
        EngineError::harness(format!("job {job} was not cancelled: {why}")).hint(format!("end it with `scancel {job}`"))
    };
    let status = job.command("scancel").arg(&job.id).status().await.map_err(|error| failed(&error))?;
    if status.success() { Ok(()) } else { Err(failed(&status)) }
}

/// Whether the last line of a journal is the end of its run; only the tail is read.
fn says_the_end(journal: &Path) -> io::Result<bool> {
    // Longer than that line.
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

/// A wait for a job, until this is dropped.
struct Waiting<'a>(&'a Context<'a>);

impl<'a> Waiting<'a> {
    fn begin(context: &'a Context<'a>, job: &Job, parts: usize) -> Self {
        context.tell(Notice::JobSubmitted { job: &job.id, parts });
        Self(context)
    }

    fn ended(&self, parts: usize) {
        self.0.tell(Notice::PartsEnded(parts));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.tell(Notice::JobLeft);
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
            (format!("{end}{}", line(Event::RunResumed { left: 1, again: Vec::new() })), false),
        ] {
            fs::write(file.path(), &text).unwrap();
            assert_eq!(says_the_end(file.path()).unwrap(), is_end, "{text}");
        }
        assert!(says_the_end(Path::new("/nowhere/events.jsonl")).is_err());
    }
}
