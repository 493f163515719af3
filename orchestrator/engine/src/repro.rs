//! Reproduces one attempt at a cell of an earlier run, with the same kernels, settings and seed.

use crate::bundle::Unpacked;
use crate::cells::{Stage, fault, run_whole};
use crate::context::Context;
use crate::error::EngineError;
use crate::find_cell::{cell_of, in_its_boot};
use crate::folder::{self, Finished, IfExists, before_it_begins, read_run};
use crate::interactive::Interactive;
use crate::kernels::open_store;
use crate::notice::Notice;
use crate::plan;
use crate::registry::Registry;
use crate::request::{KeepOptions, KernelSource, MachineChoice};
use crate::supply::Supply;
use crate::unchanged::{OnChange, kernels_of, names_of, same_host};
use luqual_config::Budget;
use luqual_model::{CellRecord, Outcome, Reproduced, Settings};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What to reproduce, and how.
#[derive(Clone, Debug)]
pub struct ReproRequest {
    /// The run's folder or id, or the file of a bundle.
    pub run: PathBuf,
    /// The cell's id or a part of it; by default the cell of the bundle.
    pub cell: Option<String>,
    /// Whether to reproduce it even if something has changed since.
    pub anyway: bool,
    /// The folder of the new run.
    pub report_dir: Option<PathBuf>,
    /// Whether to run it deterministically, though it was not.
    pub deterministic: bool,
    /// What is kept of its machine.
    pub kept: KeepOptions,
    /// The interactive options.
    pub interactive: Interactive,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from, unless from a bundle.
    pub kernels: KernelSource,
}

/// The result.
pub struct Reproduction {
    /// The new run.
    pub run: Finished,
    /// The cell in the earlier run.
    pub then: CellRecord,
    /// The cell in the new run; `None` if the user ended the run first.
    pub now: Option<CellRecord>,
}

/// The comparison of the new result with the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The tool or its host failed.
    NothingKnown,
    /// The same outcome with the same failed probes, and the same digest if both runs were deterministic.
    AsThen,
    /// The same outcome with the same failed probes, but another digest in a deterministic run.
    AsThenInOtherBytes,
    /// Another outcome, or other failed probes.
    NotAsThen,
}

impl Comparison {
    /// Compares the new result with the earlier one.
    pub fn of(now: &CellRecord, then: &CellRecord) -> Self {
        match (now.outcome, now.ended_as(then), now.is_identical_to(then)) {
            (Outcome::HarnessFailed, ..) => Self::NothingKnown,
            (_, true, None | Some(true)) => Self::AsThen,
            (_, true, Some(false)) => Self::AsThenInOtherBytes,
            (_, false, _) => Self::NotAsThen,
        }
    }
}

/// Reproduces the attempt, in a run of its own.
pub async fn repro(context: &Context<'_>, request: &ReproRequest) -> Result<Reproduction, EngineError> {
    let store = open_store(&request.kernels)?;
    let bundle = if request.run.is_file() { Some(Unpacked::of(context, &request.run)?) } else { None };
    let read_here;
    let (record, packed) = match &bundle {
        Some(bundle) => (&bundle.record, bundle.cell.0.as_str()),
        None => {
            read_here = read_run(&request.run)?;
            (&read_here, "")
        }
    };
    let (old, then) = (&record.run, cell_of(record, request.cell.as_deref().unwrap_or(packed))?);
    let deterministic = request.deterministic || old.settings.deterministic;
    // A deterministic cell has a boot of its own.
    let planned = in_its_boot(&old.planned, &then, deterministic);
    fault(old.settings.inject.as_deref())?;
    let found = request.machine.find(context.machines, deterministic).await?;
    let since = if request.anyway {
        OnChange::Told
    } else {
        OnChange::Refused("restore what it was, or give --anyway to use what is there now")
    };
    // A run that becomes deterministic is emulated, whatever it was.
    let accel_then = if deterministic { found.accel.accel.word() } else { &old.host.accel };
    same_host(context, old, accel_then, &found, since)?;
    let registry = Registry::of_run(old, request.machine.arguments())?;
    let slots = plan::slots(Some(1), Budget::default());
    planned.iter().try_for_each(|cell| plan::fits(&cell.key, &registry, slots).map(drop))?;
    let (id, folder) = folder::create(request.report_dir.as_deref(), IfExists::Fail)?;
    let looking = async {
        match &bundle {
            Some(bundle) => bundle.kernels(planned.iter()),
            None => kernels_of(context, old, &store, names_of(planned.iter()), since),
        }
    };
    let mut kernels = before_it_begins(context, &folder, looking).await?;
    request.interactive.prepare(&mut kernels);
    // The boot has one pair of kernels.
    let pair = kernels.get(&then.plan.key.source).cloned().zip(kernels.get(&then.plan.key.target).cloned());
    let wait = |socket: &Path| {
        if let Some((source, target)) = &pair {
            context.tell(Notice::GdbWaits { socket, source, target: Some(target) });
        }
    };
    let mut run = context.new_run();
    run.kernels = kernels.iter().map(|(name, kernel)| (name.clone(), kernel.info.clone())).collect();
    (run.id, run.host) = (id, found.host());
    run.programs = registry.programs(planned.iter().map(|cell| cell.key.workload.as_str()));
    run.machines = registry.profiles.of_cells(planned.iter().map(|cell| &cell.key));
    run.planned = planned;
    let reproduces = Reproduced {
        run: old.id.clone(),
        cell: then.id.clone(),
        seed: then.seed,
        waits: old.settings.waits(),
        bundle: bundle.as_ref().map(|bundle| bundle.record.name.clone()),
    };
    run.settings = Settings {
        jobs: slots.jobs,
        memory_mib: None,
        retries: 0,
        repeat: 1,
        deterministic,
        reproduces: Some(reproduces),
        ..old.settings.clone()
    };
    request.kept.set(&mut run.settings);
    let person = request.interactive.person(&wait);
    let stage = Stage {
        supply: Supply::of(kernels, run.planned.clone()),
        registry: &registry,
        found: &found,
        folder: &folder,
        slots,
        person,
        alone: BTreeSet::new(),
    };
    let record = run_whole(context, &run, stage).await?;
    let now = if record.run.interrupted { None } else { Some(cell_of(&record, &then.id.0)?) };
    Ok(Reproduction { run: Finished { record, folder }, then, now })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::ended;

    #[test]
    fn it_is_as_then_or_it_is_told_what_is_not() {
        let cell = |outcome, title: &str, digest: Option<&str>| -> CellRecord {
            CellRecord { title: title.into(), digest: digest.map(str::to_owned), ..ended(outcome) }
        };
        let (lost, crashed, broken) = (Outcome::Lost, Outcome::Crashed, Outcome::HarnessFailed);
        for (now, then, comparison) in [
            (cell(lost, "x: 1", None), cell(lost, "x: 2", None), Comparison::AsThen),
            (cell(lost, "x", Some("d")), cell(lost, "x", Some("d")), Comparison::AsThen),
            (cell(lost, "x", Some("d")), cell(lost, "x", Some("e")), Comparison::AsThenInOtherBytes),
            (cell(crashed, "a", None), cell(crashed, "b", None), Comparison::NotAsThen),
            (cell(broken, "a", None), cell(broken, "a", None), Comparison::NothingKnown),
            (cell(broken, "a", None), cell(lost, "a", None), Comparison::NothingKnown),
        ] {
            assert_eq!(Comparison::of(&now, &then), comparison, "{} {}", now.title, then.title);
        }
    }
}
