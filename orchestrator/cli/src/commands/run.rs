//! `luqual run`: cells, their outcomes, and what to exit with.

use super::execute::{Ended, Execution, There, execute, resume};
use super::plan::What;
use super::report::{folder, tell};
use super::selection::Selection;
use super::slurm::{self, Executor};
use crate::error::{CliError, Exit};
use clap::{Args, ValueEnum};
use luqual_model::{Outcome, Status};
use luqual_reports::Record;
use std::path::PathBuf;

/// What to run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  luqual run                                        (the matrix `default`)
  luqual run --source 7.2.12 --target 7.3.4
  luqual run --source 7.3.4 --target .              (a kernel that was built in this folder)
  luqual run --matrix quick --report-dir out
  luqual run --matrix full --executor slurm --parts 8 --sbatch-option=--mem=8G
  luqual run --filter 'source(<7.1) & target(>=7.1)'
  luqual run --source 7.2.12 --target 7.3.4 --plant flip:64m:3:17    (see the tool find a corruption)

Kernels of the catalog that are not built yet are built first. The run's folder has run.json, report.html, events.jsonl
(written as it happens) and, per cell, the console, QEMU's command line and messages, and what the agent said.

Exit codes: 0 every cell as expected; 1 some cell is not, or none ran; 2 a mistake in what was asked for;
3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Run {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    selection: Selection,
    /// Run each cell N times, with seeded random delays around preserve and kexec, and give the failure rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Go on with a run that was cut off: its folder or id. It has its own cells, kernels and settings
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "source", "target", "matrix", "matrix_file", "workload", "profile", "filter", "repeat", "retries", "keep", "vmcore", "plant", "deterministic",
        "report_dir", "jobs", "seed", "partition", "console",
    ])]
    resume: Option<PathBuf>,
    /// Go on with the run in --report-dir if it is this one and was cut off; if there is none, begin it
    #[arg(long, requires = "report_dir", conflicts_with = "console")]
    go_on: bool,
    #[command(flatten)]
    demand: Demand,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    executor: Executor,
}

/// When a run is a success.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Be content with nothing less than this, whatever is expected
    #[arg(long, value_enum, value_name = "OUTCOME")]
    require: Option<Require>,
    /// Let an improvement over what is expected fail the run too
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// Every cell survived, untainted
    Survived,
}

/// Runs it.
pub(crate) async fn run(command: &Run) -> Result<Exit, CliError> {
    let array = command.executor.array()?;
    let store = command.execution.kernels.store()?;
    let ended = match &command.resume {
        Some(run) => resume(&folder(run)?, &store, &command.execution.machine).await?,
        None => {
            let chosen = command.what.part_of(command.selection.choose(&store, command.what.pairs(), |_| true)?);
            let (options, repeat) = (&command.execution, command.repeat);
            match (array, command.go_on) {
                (Some(array), _) => slurm::run(array, &store, &chosen, options, repeat).await?,
                (None, true) => execute(&store, &chosen, options, repeat, There::GoesOn).await?,
                (None, false) => execute(&store, &chosen, options, repeat, There::Refused).await?,
            }
        }
    };
    let (record, folder) = match ended {
        Ended::Run(record, folder) => (record, folder),
        Ended::Interrupted => return Ok(Exit::Interrupted),
    };
    tell(&record, &folder)?;
    Ok(command.demand.exit_of(&record))
}

impl Demand {
    /// A harness failure says that nothing is known, and so does a cell without a result; nothing ran, or not all as
    /// expected, is 1.
    pub(crate) fn exit_of(self, record: &Record) -> Exit {
        let ended = || record.briefs().filter_map(|(_, brief)| brief);
        let broken = record.briefs().any(|(_, cell)| cell.is_none_or(|cell| cell.harness_failed));
        // Where there are more parts than boots, one has nothing to do.
        let nothing_to_run = record.run.planned.is_empty() && record.run.partition.is_some();
        let ran = nothing_to_run || ended().any(|cell| cell.outcome != Outcome::Skipped);
        let content = ended().all(|cell| match (self.require, cell.status) {
            (Some(Require::Survived), _) => cell.clean(),
            (None, Status::Expected) => true,
            (None, Status::Improvement) => !self.strict,
            (None, Status::Regression | Status::Unexpected | Status::Flaky) => false,
        });
        if record.run.interrupted {
            Exit::Interrupted
        } else if broken {
            Exit::Harness
        } else if ran && content {
            Exit::Ok
        } else {
            Exit::NotAsExpected
        }
    }
}
