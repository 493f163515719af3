//! Resumes an incomplete run: with the same kernels, settings and cells, not with today's configuration.

use crate::cells::{Stage, run_cells};
use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{Finished, find_run};
use crate::interactive::Interactive;
use crate::kernels::{build_kernel, open_store};
use crate::machine::Found;
use crate::notice::Notice;
use crate::plan;
use crate::registry::Registry;
use crate::report_files::write_reports;
use crate::request::{KernelSource, MachineChoice, QemuArguments};
use crate::run_folder::RunFolder;
use crate::supply::{Supply, late_kernels};
use crate::unchanged::{OnChange, kernels_of, same_host, same_kernels};
use luqual_config::Budget;
use luqual_kernels::Kernel;
use luqual_model::{PlannedCell, Stamped};
use luqual_runner::{CutOff, JOURNAL};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SINCE: OnChange = OnChange::Refused("or start a new run");

/// Resumes the run with that folder or id.
pub async fn resume(
    context: &Context<'_>,
    run: &Path,
    machine: &MachineChoice,
    kernels: &KernelSource,
) -> Result<Finished, EngineError> {
    let store = open_store(kernels)?;
    let folder = find_run(run)?;
    let cut_off = read(&folder)?;
    if let Some(finished) = nothing_left(context, &folder, &cut_off)? {
        return Ok(finished);
    }
    let run = cut_off.run.clone();
    let found = machine.find(context.machines, run.settings.deterministic).await?;
    same_host(context, &run, &run.host.accel, &found, SINCE)?;
    let left = || cut_off.left.iter().map(|number| &run.planned[*number]);
    // A run that was interrupted while a kernel of the catalog was built does not have the kernel yet.
    let of_catalog = |name: &String| store.catalog().find(name).is_some() && !run.kernels.contains_key(name);
    let names: BTreeSet<&String> = left().flat_map(|it| [&it.key.source, &it.key.target]).collect();
    let mut kernels = kernels_of(context, &run, &store, names.iter().copied().filter(|it| !of_catalog(it)), SINCE)?;
    for name in names.into_iter().filter(|it| of_catalog(it)) {
        kernels.insert(name.clone(), build_kernel(context, &store, name).await?);
    }
    let arguments = machine.arguments();
    let registry = Registry::of_run(&run, arguments)?;
    continue_run(context, &folder, cut_off, &registry, &found, kernels).await
}

/// Resumes the run in `folder` with kernels that were already found.
pub(crate) async fn resume_with(
    context: &Context<'_>,
    folder: &Path,
    found: &Found,
    mut kernels: BTreeMap<String, Kernel>,
) -> Result<Finished, EngineError> {
    let cut_off = read(folder)?;
    if let Some(finished) = nothing_left(context, folder, &cut_off)? {
        return Ok(finished);
    }
    same_kernels(context, &cut_off.run, &mut kernels, SINCE)?;
    // The user requested the same machines.
    let registry = Registry::of_run(&cut_off.run, QemuArguments::Allowed)?;
    continue_run(context, folder, cut_off, &registry, found, kernels).await
}

fn read(folder: &Path) -> Result<CutOff, EngineError> {
    CutOff::read(folder).map_err(EngineError::named(folder))
}

fn nothing_left(context: &Context<'_>, folder: &Path, run: &CutOff) -> Result<Option<Finished>, EngineError> {
    if !run.left.is_empty() || run.run.duration_us.is_none() {
        return Ok(None);
    }
    context.tell(Notice::NothingLeft(folder));
    Ok(Some(Finished { record: write_reports(folder)?, folder: folder.to_owned() }))
}

async fn continue_run(
    context: &Context<'_>,
    folder: &Path,
    cut_off: CutOff,
    registry: &Registry,
    found: &Found,
    kernels: BTreeMap<String, Kernel>,
) -> Result<Finished, EngineError> {
    let run = cut_off.run.clone();
    let mut left: Vec<PlannedCell> = cut_off.left.iter().map(|number| run.planned[*number].clone()).collect();
    let late = late_kernels(&kernels, &run.kernels, &mut left);
    let files = RunFolder::open(folder)?;
    files.is_only_files()?;
    files.remove_evidence(cut_off.stale.iter())?;
    let alone = cut_off.again.iter().cloned().collect();
    let mut observer = |stamped: &Stamped| context.tell(Notice::Event(stamped));
    let mut dispatcher = cut_off.resume(&mut observer).map_err(EngineError::named(folder.join(JOURNAL)))?;
    for event in late {
        dispatcher.take(event);
    }
    let slots = plan::slots(Some(run.settings.jobs), Budget { jobs: None, memory_mib: run.settings.memory_mib });
    let person = Interactive::default().person(&|_| {});
    let supply = Supply::of(kernels, left);
    let stage = Stage { supply, registry, found, folder, slots, person, alone };
    let record = run_cells(context, dispatcher, &run.settings, stage).await?;
    Ok(Finished { record, folder: folder.to_owned() })
}
