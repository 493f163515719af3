//! `luqual mutants`: what the workloads find of faults that were put into a kernel on purpose.

use crate::arguments::{Execution, SelectionArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output::{self, Lines};
use clap::Args;
use luqual_engine::{MutantResult, MutantsRequest, Otherwise, mutants};
use std::path::PathBuf;

/// Which mutants, and how they are run.
#[derive(Args, Debug)]
#[command(after_help = "\
A mutant is a kernel with one fault: a patch breaks one line of the live update
code. Each mutant is built in a tree that is kept, and updated into itself:
first with the workloads that its patch names (Found-by:), then, if these find
nothing, with all. A mutant is killed if a cell differs from what is expected of
the kernel without the fault. A mutant that survives is a fault that luqual
would not find in a kernel.

Examples:
  luqual mutants   (in luqual's source tree: all of kernels/mutants)
  luqual mutants 'memfd-*' --report-dir out
      (some; the mutants that are already in `out` do not run again)
  luqual mutants --named   (quick: only the workloads that each patch names)
  luqual mutants --build                          (build them, and run nothing)

The first build takes as long as the build of a kernel, each further mutant half
a minute, and a run up to a minute.

Exit codes: 0 all were killed, except those whose patch explains why it cannot
be (Survives:); 1 some survived; 2 a mistake in the arguments; 3 the tool or its
host failed; 130 ended by the user.")]
pub(crate) struct Mutants {
    /// Mutants: names of patches without `.patch`, or globs [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The kernel that the patches change: a name of `luqual kernels list`
    #[arg(long, value_name = "VERSION", default_value = "7.3.4")]
    of: String,
    /// The folder of the patches
    #[arg(long, value_name = "FOLDER", default_value = "kernels/mutants")]
    patches: PathBuf,
    /// Build the mutants, but run nothing
    #[arg(long)]
    build: bool,
    /// Run only the workloads that the patches name
    #[arg(long, conflicts_with = "build")]
    named: bool,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    execution: Execution,
}

/// Runs it.
pub(crate) async fn run(command: &Mutants, here: &Here<'_>) -> Result<Exit, CliError> {
    let request = MutantsRequest {
        names: command.names.clone(),
        of: command.of.clone(),
        patches: command.patches.clone(),
        build: command.build,
        named: command.named,
        runs: command.execution.runs(command.selection.selection(Otherwise::All), 1)?,
    };
    here.words.be_plain(request.runs.interactive.console.is_some());
    let lines = Lines::default();
    let score = mutants(&here.engine, &request, &|fate| lines.write(line(fate))).await?;
    lines.end()?;
    let Some(score) = score else { return Ok(Exit::Ok) };
    output::line(score.line())?;
    output::line(format_args!("table: {}", score.table.display()))?;
    Ok(if score.all { Exit::Ok } else { Exit::NotAsExpected })
}

fn line(fate: &MutantResult) -> String {
    let MutantResult { name, killers, survives, .. } = fate;
    match (killers.as_slice(), survives) {
        ([], None) => format!("{name}: SURVIVED"),
        ([], Some(why)) => format!("{name}: survived: {why}"),
        ([only], _) => format!("{name}: killed by {only}"),
        ([first, more @ ..], _) => format!("{name}: killed by {first} and {} more", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_killed_it() {
        let fate = |name: &str, killers: &[&str], survives: Option<&str>| MutantResult {
            name: name.into(),
            subject: String::new(),
            killers: killers.iter().map(|it| (*it).to_owned()).collect(),
            survives: survives.map(str::to_owned),
        };
        let fates =
            [fate("a", &["luo.x (lost)", "luo.y (lost)"], None), fate("b", &[], None), fate("c", &[], Some("why"))];
        assert_eq!(
            fates.each_ref().map(line),
            ["a: killed by luo.x (lost) and 1 more", "b: SURVIVED", "c: survived: why"]
        );
    }
}
