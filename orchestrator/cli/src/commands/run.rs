//! `luqual run`: cells, their outcomes, and what to exit with.

use super::summary;
use crate::arguments::{Demand, Execution, SelectionArgs, What, exit_of};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::{Args, ValueEnum};
use luqual_engine::{
    Array, Finished, IfExists, Otherwise, RunRequest, resume, run as run_here, run_array, sbatch_option,
};
use luqual_model::Outcome;
use std::path::PathBuf;

/// What to run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  luqual run   (the matrix `default`)
  luqual run --source 7.2.12 --target 7.3.4
  luqual run --source 7.3.4 --target .
      (a kernel that was built in this folder)
  luqual run --matrix quick --report-dir out
  luqual run --matrix full --executor slurm --parts 8 --sbatch-option=--mem=8G
  luqual run --filter 'source(<7.1) & target(>=7.1)'
  luqual run --source 7.2.12 --target 7.3.4 --inject flip:64m:3:17
      (see the tool find a corruption)

Kernels of the catalog that are not built yet are built first. The run's folder
has run.json, report.html, events.jsonl (written while it runs) and, for each
cell, the console, QEMU's command line and messages, and the output of the
agent.

Exit codes: 0 every cell is as expected; 1 a cell is not, or none ran; 2 a
mistake in the arguments; 3 the tool or its host failed; 130 ended by the user
(SIGINT, SIGTERM or SIGHUP), after the reports are written.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Run each cell N times, with random delays around preserve and kexec, and report the failure rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Resume an interrupted run, by its folder or id, with its own cells, kernels and settings. Cells that ended as
    /// harness-failed run again
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "source", "target", "matrix", "matrix_file", "workload", "profile", "filter", "repeat", "retries", "keep", "vmcore", "inject", "deterministic",
        "append", "append_source", "append_target", "memory", "cpus",
        "report_dir", "jobs", "seed", "partition", "console",
    ])]
    resume: Option<PathBuf>,
    /// Resume the run in --report-dir if it is this one and was interrupted; start it if there is none
    #[arg(long, alias = "go-on", requires = "report_dir", conflicts_with = "console")]
    resume_if_exists: bool,
    #[command(flatten)]
    demand: Demand,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    executor: Executor,
    /// The part of a job array's task: the file of the request that it is a part of
    #[arg(long, value_name = "FILE", hide = true, requires_all = ["partition", "report_dir"], conflicts_with = "resume")]
    request: Option<PathBuf>,
}

/// Where cells are run.
#[derive(Args, Debug)]
#[command(next_help_heading = "Executor")]
struct Executor {
    /// Where the cells are run
    #[arg(long, value_enum, default_value_t = ExecutorKind::Local, value_name = "WHERE")]
    executor: ExecutorKind,
    /// Number of parts; each part is one task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(required_if_eq("executor", "slurm"), conflicts_with_all = ["resume", "partition", "resume_if_exists", "console"])]
    parts: Option<u32>,
    /// An additional argument for sbatch, such as --mem=8G; can be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true, value_parser = sbatch_option)]
    sbatch_option: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExecutorKind {
    /// On this machine
    Local,
    /// As the tasks of a job array. All nodes need the program, the kernel store and the run's folder at the same paths
    Slurm,
}

impl Executor {
    /// The job array, if it is to be one.
    fn array(&self) -> Result<Option<Array>, CliError> {
        match (self.executor, self.parts, &self.sbatch_option) {
            (ExecutorKind::Slurm, Some(parts), options) => Ok(Some(Array { parts, sbatch_options: options.clone() })),
            (ExecutorKind::Local, None, options) if options.is_empty() => Ok(None),
            _ => Err(CliError::usage("--parts and --sbatch-option only apply to a job array")
                .hint("add --executor slurm, or run one part here with --partition K/N")),
        }
    }
}

/// Runs it.
pub(crate) async fn run(command: &RunArgs, here: &Here<'_>) -> Result<Exit, CliError> {
    let (engine, execution) = (&here.engine, &command.execution);
    let array = command.executor.array()?;
    let request = command.request()?;
    let interactive = execution.interactive();
    here.words.be_plain(interactive.console.is_some());
    let Finished { record, folder } = match (&command.resume, array) {
        (Some(run), _) => resume(engine, run, &execution.machine(), &execution.kernels.source()).await?,
        (None, Some(array)) => run_array(engine, &request, &array).await?,
        (None, None) => {
            let existing = if command.resume_if_exists { IfExists::Resume } else { IfExists::Fail };
            run_here(engine, &request, existing, interactive).await?
        }
    };
    summary::print(&record, &folder)?;
    // An injected fault fails the harness again.
    let may_end_otherwise = record.run.settings.inject.is_none();
    if may_end_otherwise && record.totals().by_outcome.contains_key(&Outcome::HarnessFailed) {
        let folder = folder.display();
        output::tell(format_args!(
            "harness-failed says nothing about a kernel; run these cells again: luqual run --resume {folder}\n"
        ));
    }
    Ok(exit_of(&record, request.demand))
}

impl RunArgs {
    fn request(&self) -> Result<RunRequest, CliError> {
        let (partition, report_dir) = (self.what.partition, self.execution.report_dir.clone());
        if let Some(file) = &self.request {
            return Ok(RunRequest { partition, report_dir, ..RunRequest::read(file)? });
        }
        Ok(RunRequest {
            selection: self.selection.selection(Otherwise::All),
            partition,
            demand: self.demand.demand(),
            ..self.execution.request(self.what.pairs(), self.repeat)?
        })
    }
}
