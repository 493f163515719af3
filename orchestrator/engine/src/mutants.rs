//! Measures which injected kernel faults the workloads find.

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{IfExists, of_runs};
use crate::kernels::{open_store, store_with};
use crate::request::{Pairs, RunsOptions};
use crate::run::run_chosen;
use crate::selection::Chosen;
use luqual_config::matches;
use luqual_kernels::{Mutant, Store, Tree, mutants as read_mutants};
use luqual_model::Status;
use luqual_reports::Record;
use std::fs;
use std::path::{Path, PathBuf};

/// The request: which mutants, and how they are run.
#[derive(Clone, Debug)]
pub struct MutantsRequest {
    /// Names of patches without `.patch`, or globs; if empty, all.
    pub names: Vec<String>,
    /// The kernel without the faults.
    pub of: String,
    /// The folder of the patches.
    pub patches: PathBuf,
    /// Whether to build the mutants and run nothing.
    pub build: bool,
    /// Whether to run only the workloads that the patches name.
    pub named: bool,
    /// How each mutant's cells are selected and run; one or two runs for each.
    pub runs: RunsOptions,
}

/// The result of a mutant.
pub struct MutantResult {
    /// The name.
    pub name: String,
    /// The fault, in one line.
    pub subject: String,
    /// The workloads that killed it, with what they observed; if empty, it survived.
    pub killers: Vec<String>,
    /// Why no workload can kill it, as its patch says.
    pub survives: Option<String>,
}

/// The result of all mutants.
pub struct Score {
    /// The number of mutants.
    pub of: usize,
    /// The number of killed mutants.
    pub killed: usize,
    /// Whether all were killed, except those whose patch says why they cannot be.
    pub all: bool,
    /// The file with the table, as Markdown.
    pub table: PathBuf,
}

/// Builds and runs the mutants. `tell` gets each result. Returns `None` if they were only to be built.
pub async fn mutants(
    context: &Context<'_>,
    request: &MutantsRequest,
    tell: &dyn Fn(&MutantResult),
) -> Result<Option<Score>, EngineError> {
    let plain = open_store(&request.runs.kernels)?;
    let found = read_mutants(plain.catalog(), &request.of, &request.patches)?;
    let wanted =
        |mutant: &&Mutant| request.names.is_empty() || request.names.iter().any(|glob| matches(glob, &mutant.name));
    let chosen: Vec<&Mutant> = found.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let why = format!("no mutant in {} was asked for", request.patches.display());
        return Err(EngineError::usage(why).hint("a mutant is a *.patch; names are those of the files"));
    }
    let store = store_with(&request.runs.kernels, found.iter().map(|mutant| mutant.entry.clone()))?;
    context.unless_interrupted(build(context, &store, &request.of, &chosen)).await?;
    if request.build {
        return Ok(None);
    }
    let folder = of_runs(request.runs.report_dir.as_deref(), "mutants");
    let mut fates = Vec::new();
    for mutant in chosen {
        let fate = MutantResult {
            name: mutant.name.clone(),
            subject: mutant.subject.clone(),
            killers: killers(context, &store, request, mutant, &folder).await?,
            survives: mutant.survives.clone(),
        };
        tell(&fate);
        fates.push(fate);
    }
    let path = folder.join("mutants.md");
    fs::write(&path, table(&fates)).map_err(EngineError::named(&path))?;
    let killed = fates.iter().filter(|fate| !fate.killers.is_empty()).count();
    let all = fates.iter().all(|fate| !fate.killers.is_empty() || fate.survives.is_some());
    Ok(Some(Score { of: fates.len(), killed, all, table: path }))
}

async fn build(context: &Context<'_>, store: &Store, of: &str, chosen: &[&Mutant]) -> Result<(), EngineError> {
    let mut missing = Vec::new();
    for mutant in chosen {
        if store.ready(&mutant.entry)?.is_none() {
            missing.push(*mutant);
        }
    }
    let (Some(_), Some(base)) = (missing.first(), store.catalog().find(of)) else { return Ok(()) };
    let building = context.building();
    let tree = Tree::open(store, base, &building).await?;
    for mutant in missing {
        tree.build(mutant, &building).await?;
    }
    Ok(())
}

/// The workloads that kill a mutant.
async fn killers(
    context: &Context<'_>,
    store: &Store,
    request: &MutantsRequest,
    mutant: &Mutant,
    folder: &Path,
) -> Result<Vec<String>, EngineError> {
    let name = mutant.entry.version.as_str();
    let pair = Pairs::One(name.to_owned(), name.to_owned());
    let mut all = request.runs.selection.choose(store, &pair)?;
    let is_named = |workload: &str| mutant.found_by.iter().any(|named| named == workload);
    let cells = std::mem::take(&mut all.cells);
    let (first, rest): (Vec<_>, Vec<_>) = cells.into_iter().partition(|key| is_named(&key.workload));
    for (suffix, cells) in [("", first), ("-rest", rest)] {
        if cells.is_empty() || (request.named && !suffix.is_empty()) {
            continue;
        }
        let chosen = Chosen { cells, ..all.clone() };
        let run = request.runs.run(pair.clone(), folder.join(format!("{}{suffix}", mutant.name)));
        let record =
            run_chosen(context, store, &chosen, &run, IfExists::Resume, request.runs.interactive).await?.record;
        if record.run.interrupted {
            return Err(EngineError::interrupted());
        }
        let killers = killed_by(&record);
        if !killers.is_empty() {
            return Ok(killers);
        }
    }
    Ok(Vec::new())
}

/// The workloads that ended worse than expected.
fn killed_by(record: &Record) -> Vec<String> {
    let worse = record.briefs().filter_map(|(plan, brief)| {
        let brief = brief?;
        let is_worse = matches!(brief.status, Status::Regression | Status::Unexpected | Status::Flaky);
        (is_worse && brief.outcome.is_conclusive()).then(|| format!("{} ({})", plan.key.workload, brief.word()))
    });
    worse.collect()
}

/// The score in one line.
fn score(fates: &[MutantResult]) -> String {
    let killed = fates.iter().filter(|fate| !fate.killers.is_empty()).count();
    score_line(killed, fates.len())
}

fn score_line(killed: usize, of: usize) -> String {
    format!("{killed} of {of} mutants killed, {} %", killed * 100 / of.max(1))
}

impl Score {
    /// The result in one line.
    pub fn line(&self) -> String {
        score_line(self.killed, self.of)
    }
}

/// The table as Markdown.
fn table(fates: &[MutantResult]) -> String {
    let mut text = format!("{}\n\n| mutant | what is wrong in it | killed by |\n| --- | --- | --- |\n", score(fates));
    for MutantResult { name, subject, killers, survives } in fates {
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

    #[test]
    fn a_score_counts_who_was_killed_and_the_table_says_by_whom() {
        let fate = |name: &str, killers: &[&str], survives: Option<&str>| MutantResult {
            name: name.into(),
            subject: "a | b".into(),
            killers: killers.iter().map(|it| (*it).to_owned()).collect(),
            survives: survives.map(str::to_owned),
        };
        let fates =
            [fate("a", &["luo.x (lost)", "luo.y (lost)"], None), fate("b", &[], None), fate("c", &[], Some("why"))];
        let expected = "1 of 3 mutants killed, 33 %\n\n| mutant | what is wrong in it | killed by |\n| --- | --- | --- |\n\
            | `a` | a \\| b | luo.x (lost), luo.y (lost) |\n| `b` | a \\| b | **nobody** |\n| `c` | a \\| b | nobody: why |\n";
        assert_eq!(table(&fates), expected);
    }
}
