//! `luqual bisect`: the first kernel of several at which a cell ends otherwise.

use crate::arguments::{Execution, SelectionArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output::{Lines, line, tell};
use clap::Args;
use luqual_engine::{BisectRequest, Bisected, Look, Otherwise, Verdict, bisect};
use luqual_reports::end;
use std::path::PathBuf;

/// Among which kernels, and which cell.
#[derive(Args, Debug)]
#[command(after_help = "\
A kernel is good if its cell ends as the cell of --good does, in each of
--repeat attempts: with the same outcome, tainted or not. Otherwise it is bad. A
kernel whose attempts differ is reported as flaky, and is bad. Both ends are
tested first; --good must not be flaky. A kernel that does not build is skipped,
and so is one that does not boot, unless the kernel of --bad ends in the same
way. Kernels are built when they are needed, and kept; the commits of a tree are
built incrementally.

Examples:
  luqual bisect --source 7.3.4 --good 6.18.15 --bad 7.3.4
      (from 7.3.4 into each kernel of the catalog)
  luqual bisect --good 7.2.12 --bad 7.3.4 --workload memfd.seals
      (each into itself)
  luqual bisect --tree ~/linux --good v7.3 --bad HEAD --source 7.2.12

Each kernel has a run of its own in the folder. The same command resumes the
bisection in that folder.

Exit codes: 0 the first bad kernel was found; 1 both ends end alike, or the rest
cannot be tested; 2 a mistake in the arguments; 3 the tool or its host failed;
130 ended by the user.")]
pub(crate) struct Bisect {
    /// A kernel at which the cell is still good: of the catalog, or a commit of --tree
    #[arg(long, value_name = "KERNEL")]
    good: String,
    /// A kernel at which the cell is bad
    #[arg(long, value_name = "KERNEL")]
    bad: String,
    /// A git tree of the kernel on this machine, whose commits are bisected; the tree is not changed
    #[arg(long, value_name = "FOLDER")]
    tree: Option<PathBuf>,
    /// Consider only these kernels of the catalog, and the two ends; can be repeated [default: all releases]
    #[arg(long, value_name = "KERNEL", conflicts_with = "tree")]
    among: Vec<String>,
    /// The source of each cell; the target is bisected [default: each kernel is updated into itself]
    #[arg(long, value_name = "KERNEL")]
    source: Option<String>,
    /// The target of each cell; the source is bisected
    #[arg(long, value_name = "KERNEL", conflicts_with = "source")]
    target: Option<String>,
    /// Run the cell of each kernel N times, with random delays around preserve and kexec, and judge by all attempts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    execution: Execution,
}

/// Runs it.
pub(crate) async fn run(command: &Bisect, here: &Here<'_>) -> Result<Exit, CliError> {
    let request = BisectRequest {
        good: command.good.clone(),
        bad: command.bad.clone(),
        tree: command.tree.clone(),
        among: command.among.clone(),
        source: command.source.clone(),
        target: command.target.clone(),
        runs: command.execution.runs(command.selection.selection(Otherwise::All), command.repeat)?,
    };
    here.words.be_plain(request.runs.interactive.console.is_some());
    let lines = Lines::default();
    let tell_look = |look: Look<'_>| match look {
        Look::End(kernel, cell) => lines.write(format_args!("end: {kernel}: {}", end(cell))),
        Look::Left(left) => {
            tell(format_args!("{left} kernels may be the first bad one; {} of them have to be tested\n", left.ilog2()));
        }
        Look::Judged(verdict, kernel, why) => lines.write(format_args!("{}: {kernel}: {why}", word(verdict))),
    };
    let found = bisect(&here.engine, &request, &tell_look).await?;
    lines.end()?;
    match found {
        Bisected::EndsAlike(cell) => {
            line(format_args!("{} and {} end alike: {}", command.good, command.bad, end(&cell)))?;
            Ok(Exit::NotAsExpected)
        }
        Bisected::First { kernel, cell, before, folder } => {
            line(format_args!("first: {kernel}: {}", end(&cell)))?;
            line(format_args!("  before it: {}", end(&before)))?;
            let again = luqual_reports::command(&["luqual", "repro", &folder.to_string_lossy(), &cell.id.0]);
            line(format_args!("  again: {again}"))?;
            Ok(Exit::Ok)
        }
        Bisected::Among(kernels) => {
            line("first: one of these; all but the last cannot be tested")?;
            kernels.iter().try_for_each(|kernel| line(format_args!("  {kernel}")))?;
            Ok(Exit::NotAsExpected)
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "bad",
        Verdict::Skip => "skipped",
    }
}
