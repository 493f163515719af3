//! Runs the parts of a run as one job array of Slurm, which decides when and where the tasks run.

mod job;
mod script;

use crate::cells::fault;
use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{self, Finished, IfExists, before_it_begins};
use crate::kernels::{find_kernels, open_store};
use crate::merge::merge_into;
use crate::notice::Notice;
use crate::plan;
use crate::request::{Execution, Part, RunRequest};
use crate::requested::RequestedRun;
use crate::selection::Chosen;
use job::{Slurm, Waited};
use luqual_kernels::{Kernel, Store};
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use script::option as sbatch_option;

/// A job array.
#[derive(Clone, Debug)]
pub struct Array {
    /// The number of parts; each is one task.
    pub parts: u32,
    /// Further options for sbatch; see [`sbatch_option`].
    pub sbatch_options: Vec<String>,
}

/// How often a part runs again that did not end, since its task was killed or its node failed.
const AGAIN: usize = 2;

/// Runs a request as a job array, and merges the parts into the run's folder. Each task is a luqual that reads the
/// request from a file. The nodes check whether a machine can run; everything else is checked before the job is
/// submitted.
pub async fn run_array(context: &Context<'_>, request: &RunRequest, array: &Array) -> Result<Finished, EngineError> {
    let store = open_store(&request.kernels)?;
    let chosen = plan::choose(&store, request)?;
    fault(request.execution.inject.as_deref())?;
    job::there_is_a_slurm().await?;
    let (id, folder) = folder::create(request.report_dir.as_deref(), IfExists::Fail)?;
    let folder = folder.canonicalize().map_err(EngineError::named(&folder))?;
    let parts = Parts::new(array.parts, &chosen, &folder);
    // The kernels are built once and here, so that tasks do not build the same kernels.
    let kernels = before_it_begins(context, &folder, find_kernels(context, &store, chosen.cells.iter())).await?;
    let slurm = Slurm::create(&folder.join("slurm"))?;
    slurm.is_free().await?;
    let find_unended = || parts.unended(context, &request.execution, &kernels, &store);
    let mut unended = find_unended()?;
    // Each task has a part and a folder of its own.
    RunRequest { report_dir: None, ..request.clone() }.write(&slurm.request())?;
    slurm.write_script(&script::text(&script::Task {
        program: &context.program,
        request: &slurm.request(),
        here: &std::env::current_dir().map_err(EngineError::own("the current folder"))?,
        folder: &folder,
        parts: array.parts,
        sbatch_options: &array.sbatch_options,
    })?)?;
    for time in 0..=AGAIN {
        if unended.is_empty() {
            break;
        }
        if time > 0 {
            for part in unended.iter().copied() {
                context.tell(Notice::PartAgain { part, log: &slurm.log(part) });
            }
        }
        match slurm.run(context, &unended, &parts.journals()).await? {
            Waited::ToTheEnd => unended = find_unended()?,
            Waited::Cancelled(job) => {
                let job = job.map(|job| job.to_string());
                context.tell(Notice::ArrayInterrupted { job: job.as_deref(), folder: &folder });
                return Err(EngineError::interrupted());
            }
        }
    }
    if !unended.is_empty() {
        let told = |each: &dyn Fn(&u32) -> String| unended.iter().map(each).collect::<Vec<_>>().join(", ");
        let (numbers, logs) = (told(&u32::to_string), told(&|part| slurm.log(*part).display().to_string()));
        let folder = script::quoted(&folder.display().to_string())?;
        return Err(EngineError::harness(format!("these parts did not end, though each was run again: {numbers}"))
            .hint(format!("read {logs}; run the same command with --report-dir {folder} to resume")));
    }
    merge_into(context, &parts.folders(), || Ok((id, folder.clone())))
}

/// The cells and the folder of each task.
pub(crate) struct Parts(Vec<(Chosen, PathBuf)>);

impl Parts {
    pub(crate) fn new(count: u32, chosen: &Chosen, folder: &Path) -> Self {
        let folder = folder.join("parts");
        Self(Part::all(count).zip(1..).map(|(part, n)| (chosen.part(part), folder.join(format!("{n}")))).collect())
    }

    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(_, folder)| folder.clone()).collect()
    }

    fn journals(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(_, folder)| folder.join(JOURNAL)).collect()
    }

    /// The numbers of the parts that have not ended. An error if a folder has another run, which could not be merged.
    pub(crate) fn unended(
        &self,
        context: &Context<'_>,
        options: &Execution,
        kernels: &BTreeMap<String, Kernel>,
        store: &Store,
    ) -> Result<Vec<u32>, EngineError> {
        let mut unended = Vec::new();
        for (number, (part, folder)) in (1..).zip(&self.0) {
            let record = RequestedRun::of(context, part, options, Some(kernels), store).find(folder)?;
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
