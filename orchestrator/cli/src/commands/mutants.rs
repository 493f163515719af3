//! `luqual mutants`: what the workloads find of faults that were put into a kernel on purpose.

use super::KernelSource;
use super::execute::{Ended, Execution, There, execute};
use super::selection::{Chosen, Pairs, Selection};
use crate::error::{CliError, Exit};
use crate::output;
use crate::progress::Shown;
use clap::Args;
use luqual_config::matches;
use luqual_kernels::{Mutant, Store, Tree, mutants};
use luqual_model::Status;
use luqual_reports::Record;
use std::fs;
use std::path::{Path, PathBuf};

/// Which mutants, and how they are run.
#[derive(Args, Debug)]
#[command(after_help = "\
A mutant is a kernel with one fault: a patch that breaks one line of what live updates are made of. Each is built in a tree
that is kept, and updated into itself: first with the workloads that its patch names (Found-by:), then, if those see nothing,
with all. It is killed when a cell is not as it is expected of the kernel without the fault. A mutant that survives is a fault
that a kernel could have and nobody would hear of.

Examples:
  luqual mutants                                  (in luqual's source tree: all of kernels/mutants)
  luqual mutants 'memfd-*' --report-dir out       (some; what is in `out` already is not run again)
  luqual mutants --named                          (quickly: the workloads that are there for each, and no others)
  luqual mutants --build                          (build them, and run nothing)

The first build takes as long as a kernel's, each mutant half a minute, and its run from some seconds to a minute.

Exit codes: 0 all were killed, but for those whose patch says why it cannot be (Survives:); 1 some were not;
2 a mistake in what was asked for; 3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Mutants {
    /// Which: names of patches without `.patch`, or globs [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The kernel of which they are mutants: a name of `luqual kernels list`
    #[arg(long, value_name = "VERSION", default_value = "7.3.4")]
    of: String,
    /// Where their patches are
    #[arg(long, value_name = "FOLDER", default_value = "kernels/mutants")]
    patches: PathBuf,
    /// Build them, and run nothing
    #[arg(long)]
    build: bool,
    /// Run the workloads that the patches name, and no others
    #[arg(long, conflicts_with = "build")]
    named: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    execution: Execution,
}

/// What became of a mutant.
struct Fate {
    name: String,
    subject: String,
    /// Who killed it, with what was seen; none is a survivor.
    killers: Vec<String>,
    /// Why nobody can, as its patch says.
    survives: Option<String>,
}

/// Runs it.
pub(crate) async fn run(command: &Mutants) -> Result<Exit, CliError> {
    let source: &KernelSource = &command.execution.kernels;
    let plain = source.store()?;
    let found = mutants(plain.catalog(), &command.of, &command.patches)?;
    let wanted =
        |mutant: &&Mutant| command.names.is_empty() || command.names.iter().any(|glob| matches(glob, &mutant.name));
    let chosen: Vec<&Mutant> = found.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(CliError::usage(format!("no mutant in {} was asked for", command.patches.display()))
            .hint("a mutant is a *.patch; names are those of the files"));
    }
    let store = source.store_with(found.iter().map(|mutant| mutant.entry.clone()))?;
    tokio::select! {
        built = build(&store, &command.of, &chosen) => built?,
        _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
    }
    if command.build {
        return Ok(Exit::Ok);
    }
    let folder = command.execution.report_dir.clone().unwrap_or_else(|| PathBuf::from("luqual-runs/mutants"));
    let mut fates = Vec::new();
    for mutant in chosen {
        let Some(killers) = killers(&store, command, mutant, &folder).await? else { return Ok(Exit::Interrupted) };
        let fate = Fate {
            name: mutant.name.clone(),
            subject: mutant.subject.clone(),
            killers,
            survives: mutant.survives.clone(),
        };
        output::line(line(&fate))?;
        fates.push(fate);
    }
    let path = folder.join("mutants.md");
    fs::write(&path, table(&fates)).map_err(CliError::file(path.display()))?;
    output::line(score(&fates))?;
    output::line(format_args!("table: {}", path.display()))?;
    let all = fates.iter().all(|fate| !fate.killers.is_empty() || fate.survives.is_some());
    Ok(if all { Exit::Ok } else { Exit::NotAsExpected })
}

async fn build(store: &Store, of: &str, chosen: &[&Mutant]) -> Result<(), CliError> {
    let mut missing = Vec::new();
    for mutant in chosen {
        if store.ready(&mutant.entry)?.is_none() {
            missing.push(*mutant);
        }
    }
    let (Some(_), Some(base)) = (missing.first(), store.catalog().find(of)) else { return Ok(()) };
    let progress = Shown::new();
    let tree = Tree::open(store, base, &progress).await?;
    for mutant in missing {
        tree.build(mutant, &progress).await?;
    }
    Ok(())
}

/// Who kills it; `None` when the user ended the run.
async fn killers(
    store: &Store,
    command: &Mutants,
    mutant: &Mutant,
    folder: &Path,
) -> Result<Option<Vec<String>>, CliError> {
    let name = mutant.entry.version.as_str();
    let mut all = command.selection.choose(store, Pairs::One(name, name), |_| true)?;
    let is_named = |workload: &str| mutant.found_by.iter().any(|named| named == workload);
    let cells = std::mem::take(&mut all.cells);
    let (first, rest): (Vec<_>, Vec<_>) = cells.into_iter().partition(|key| is_named(&key.workload));
    for (suffix, cells) in [("", first), ("-rest", rest)] {
        if cells.is_empty() || (command.named && !suffix.is_empty()) {
            continue;
        }
        let place = folder.join(format!("{}{suffix}", mutant.name));
        let chosen = Chosen { cells, ..all.clone() };
        let mut options = command.execution.clone();
        options.report_dir = Some(place);
        let record = match execute(store, &chosen, &options, 1, There::GoesOn).await? {
            Ended::Run(record, _) if !record.run.interrupted => record,
            Ended::Run(..) | Ended::Interrupted => return Ok(None),
        };
        let killers = killed_by(&record);
        if !killers.is_empty() {
            return Ok(Some(killers));
        }
    }
    Ok(Some(Vec::new()))
}

/// The workloads that did worse than they are expected to.
fn killed_by(record: &Record) -> Vec<String> {
    let worse = record.briefs().filter_map(|(plan, brief)| {
        let brief = brief?;
        let is_worse = matches!(brief.status, Status::Regression | Status::Unexpected | Status::Flaky);
        (is_worse && brief.outcome.says_something()).then(|| format!("{} ({})", plan.key.workload, brief.word()))
    });
    worse.collect()
}

fn line(fate: &Fate) -> String {
    let Fate { name, killers, survives, .. } = fate;
    match (killers.as_slice(), survives) {
        ([], None) => format!("{name}: SURVIVED"),
        ([], Some(why)) => format!("{name}: survived: {why}"),
        ([only], _) => format!("{name}: killed by {only}"),
        ([first, more @ ..], _) => format!("{name}: killed by {first} and {} more", more.len()),
    }
}

fn score(fates: &[Fate]) -> String {
    let killed = fates.iter().filter(|fate| !fate.killers.is_empty()).count();
    format!("{killed} of {} mutants killed, {} %", fates.len(), killed * 100 / fates.len().max(1))
}

/// As Markdown.
fn table(fates: &[Fate]) -> String {
    let mut text = format!("{}\n\n| mutant | what is wrong in it | killed by |\n| --- | --- | --- |\n", score(fates));
    for Fate { name, subject, killers, survives } in fates {
        let killers = match (killers.as_slice(), survives) {
            ([], None) => "**nobody**".to_owned(),
            ([], Some(why)) => format!("nobody: {why}"),
            (killers, _) => killers.join(", "),
        };
        text.push_str(&format!("| `{name}` | {} | {killers} |\n", subject.replace('|', "\\|")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(name: &str, killers: &[&str], survives: Option<&str>) -> Fate {
        Fate {
            name: name.into(),
            subject: "a | b".into(),
            killers: killers.iter().map(|it| (*it).to_owned()).collect(),
            survives: survives.map(str::to_owned),
        }
    }

    #[test]
    fn a_score_counts_who_was_killed_and_the_table_says_by_whom() {
        let fates =
            [fate("a", &["luo.x (lost)", "luo.y (lost)"], None), fate("b", &[], None), fate("c", &[], Some("why"))];
        let expected = "1 of 3 mutants killed, 33 %\n\n| mutant | what is wrong in it | killed by |\n| --- | --- | --- |\n\
            | `a` | a \\| b | luo.x (lost), luo.y (lost) |\n| `b` | a \\| b | **nobody** |\n| `c` | a \\| b | nobody: why |\n";
        assert_eq!(table(&fates), expected);
        assert_eq!(
            fates.each_ref().map(line),
            ["a: killed by luo.x (lost) and 1 more", "b: SURVIVED", "c: survived: why"]
        );
    }
}
