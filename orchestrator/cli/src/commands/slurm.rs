//! `luqual run --executor slurm`: the parts of a run as one job array. When and where a task runs is Slurm's to say.

mod job;
mod script;

use super::execute::{
    Ended, Execution, There, before_it_begins, create_folder, fault, find_kernels, interrupt_on_ctrl_c,
};
use super::go_on::Asked;
use super::merge::merge;
use super::partition::Part;
use super::selection::Chosen;
use crate::error::CliError;
use clap::{Args, ValueEnum};
use job::{Slurm, Waited};
use luqual_kernels::{Kernel, Store};
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where cells are run.
#[derive(Args, Debug)]
#[command(next_help_heading = "Executor")]
pub(crate) struct Executor {
    /// Where the cells are run
    #[arg(long, value_enum, default_value_t = Place::Local, value_name = "WHERE")]
    executor: Place,
    /// Of how many parts; each is one task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(required_if_eq("executor", "slurm"), conflicts_with_all = ["resume", "partition", "go_on", "console"])]
    parts: Option<u32>,
    /// What sbatch is told besides, such as --mem=8G; can be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true, value_parser = script::option)]
    sbatch_option: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    /// On this machine
    Local,
    /// As the tasks of one job array: the program, the kernel store and the run's folder have to be where all nodes have them
    Slurm,
}

/// A job array.
#[derive(Clone, Copy)]
pub(crate) struct Array<'a> {
    parts: u32,
    sbatch_options: &'a [String],
}

impl Executor {
    /// The job array, if it is to be one.
    pub(crate) fn array(&self) -> Result<Option<Array<'_>>, CliError> {
        match (self.executor, self.parts, self.sbatch_option.as_slice()) {
            (Place::Slurm, Some(parts), sbatch_options) => Ok(Some(Array { parts, sbatch_options })),
            (Place::Local, None, []) => Ok(None),
            _ => Err(CliError::usage("--parts and --sbatch-option are for a job array")
                .hint("add --executor slurm, or run one part here with --partition K/N")),
        }
    }
}

impl Array<'_> {
    /// What each task runs: the words of this command, with its part.
    fn script(self, folder: &Path) -> Result<String, CliError> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        script::text(&script::Task {
            program: &std::env::current_exe().map_err(CliError::file("this program"))?,
            words: &script::without_own(&words),
            here: &std::env::current_dir().map_err(CliError::file("the current folder"))?,
            folder,
            parts: self.parts,
            sbatch_options: self.sbatch_options,
        })
    }
}

/// How often a part is run again that did not end, since its task was killed or its node failed.
const AGAIN: usize = 2;

/// Runs what was chosen, each cell `repeat` times, and merges it into the run's folder. Whether a machine can run it is left to
/// the nodes; all else that can be wrong is looked at before anything is submitted.
pub(crate) async fn run(
    array: Array<'_>,
    store: &Store,
    chosen: &Chosen,
    options: &Execution,
    repeat: u32,
) -> Result<Ended, CliError> {
    fault(options.plant.as_deref())?;
    job::there_is_a_slurm().await?;
    let (id, folder) = create_folder(options.report_dir.as_deref(), There::Refused)?;
    let folder = folder.canonicalize().map_err(CliError::file(folder.display()))?;
    let parts = Parts::new(array.parts, chosen, &folder);
    let interrupt = interrupt_on_ctrl_c();
    // Once and here, so that no task builds what another builds too.
    let looking = find_kernels(store, chosen.cells.iter());
    let Some(kernels) = before_it_begins(&folder, &interrupt, looking).await? else { return Ok(Ended::Interrupted) };
    let slurm = Slurm::create(&folder.join("slurm"))?;
    slurm.is_free().await?;
    let find_unended = || parts.unended(options, repeat, &kernels, store);
    let mut unended = find_unended()?;
    slurm.write_script(&array.script(&folder)?)?;
    let quoted = script::quoted(&folder.display().to_string())?;
    let goes_on = format!("the same command with --report-dir {quoted} goes on");
    for time in 0..=AGAIN {
        if unended.is_empty() {
            break;
        }
        if time > 0 {
            unended.iter().for_each(|part| {
                eprintln!("part {part} did not end (see {}): it is run again alone", slurm.log(*part).display());
            });
        }
        match slurm.run(&unended, &parts.journals(), &interrupt).await? {
            Waited::ToTheEnd => unended = find_unended()?,
            Waited::Cancelled(job) => {
                let what =
                    job.map_or_else(|| "no job was submitted".to_owned(), |job| format!("job {job} is cancelled"));
                eprintln!("{what}; {goes_on}");
                return Ok(Ended::Interrupted);
            }
        }
    }
    if !unended.is_empty() {
        let told = |each: &dyn Fn(&u32) -> String| unended.iter().map(each).collect::<Vec<_>>().join(", ");
        let (numbers, logs) = (told(&u32::to_string), told(&|part| slurm.log(*part).display().to_string()));
        return Err(CliError::harness(format!("did not end, however often it was run: part {numbers}"))
            .hint(format!("read {logs}; {goes_on}")));
    }
    let (record, folder) = merge(&parts.folders(), || Ok((id, folder.clone())))?;
    Ok(Ended::Run(Box::new(record), folder))
}

/// What each task runs, and where.
struct Parts(Vec<(Chosen, PathBuf)>);

impl Parts {
    fn new(count: u32, chosen: &Chosen, folder: &Path) -> Self {
        let folder = folder.join("parts");
        Self(Part::all(count).zip(1..).map(|(part, n)| (chosen.part(part), folder.join(format!("{n}")))).collect())
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(_, folder)| folder.clone()).collect()
    }

    fn journals(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(_, folder)| folder.join(JOURNAL)).collect()
    }

    /// The numbers of those that have not ended; an error if a folder has something else in it, which could not be merged.
    fn unended(
        &self,
        options: &Execution,
        repeat: u32,
        kernels: &BTreeMap<String, Kernel>,
        store: &Store,
    ) -> Result<Vec<u32>, CliError> {
        let mut unended = Vec::new();
        for (number, (part, folder)) in (1..).zip(&self.0) {
            let record = Asked::of(part, options, repeat, Some(kernels), store).find(folder)?;
            if !record.as_ref().is_some_and(has_ended) {
                unended.push(number);
            }
        }
        Ok(unended)
    }
}

fn has_ended(record: &Record) -> bool {
    record.run.duration_us.is_some() && record.briefs().all(|(_, brief)| brief.is_some())
}
