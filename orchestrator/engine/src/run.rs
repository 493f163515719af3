//! Starts a run, after everything that can be checked before was checked.

use crate::cells::{Stage, fault, run_whole};
use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{self, Finished, IfExists, before_it_begins, has_no_run};
use crate::interactive::Interactive;
use crate::kernels::{find_kernels, first_kernels, open_store};
use crate::notice::Notice;
use crate::plan;
use crate::request::{KeepOptions, RunRequest};
use crate::requested::RequestedRun;
use crate::resume::resume_with;
use crate::selection::Chosen;
use crate::supply::Supply;
use crate::unchanged::{OnChange, same_host};
use luqual_kernels::Store;
use luqual_model::{Phase, Settings};
use std::collections::{BTreeSet, VecDeque};

/// Runs a request.
pub async fn run(
    context: &Context<'_>,
    request: &RunRequest,
    existing: IfExists,
    interactive: Interactive,
) -> Result<Finished, EngineError> {
    let store = open_store(&request.kernels)?;
    let chosen = plan::choose(&store, request)?;
    run_chosen(context, &store, &chosen, request, existing, interactive).await
}

/// Runs the selected cells of a request.
pub(crate) async fn run_chosen(
    context: &Context<'_>,
    store: &Store,
    chosen: &Chosen,
    request: &RunRequest,
    existing: IfExists,
    interactive: Interactive,
) -> Result<Finished, EngineError> {
    let options = &request.execution;
    fault(options.inject.as_deref())?;
    let slots = plan::slots(options.jobs, chosen.budget);
    chosen.cells.iter().try_for_each(|key| plan::fits(key, &chosen.registry, slots).map(drop))?;
    if let Some((limit, machines)) = plan::limited(chosen, slots)? {
        context.tell(Notice::Limited { limit: &limit, machines });
    }
    let found = request.machine.find(context.machines, options.deterministic).await?;
    let (id, folder) = folder::create(request.report_dir.as_deref(), existing)?;
    // Checked before a kernel is built for the run.
    let is_begun = existing == IfExists::Resume
        && RequestedRun::of(context, chosen, options, None, store).find(&folder)?.is_some();
    let looking = async {
        match is_begun {
            true => find_kernels(context, store, chosen.cells.iter()).await.map(|kernels| (kernels, VecDeque::new())),
            false => first_kernels(context, store, &chosen.cells).await,
        }
    };
    let (kernels, missing) = before_it_begins(context, &folder, looking).await?;
    let requested = RequestedRun::of(context, chosen, options, Some(&kernels), store);
    if existing == IfExists::Resume {
        if is_begun && let Some(begun) = requested.find(&folder)? {
            let since = OnChange::Refused("or name another folder");
            same_host(context, &begun.run, &begun.run.host.accel, &found, since)?;
            drop(begun);
            return resume_with(context, &folder, &found, kernels).await;
        }
        has_no_run(&folder)?;
    }
    let mut run = requested.run;
    (run.id, run.host) = (id, found.host());
    let deadlines = chosen.deadlines.stretched(found.accel.accel.deadline_factor());
    run.settings.deadlines = Phase::ALL.into_iter().map(|phase| (phase, deadlines.of(phase).as_secs())).collect();
    (run.settings.jobs, run.settings.memory_mib) = (slots.jobs, chosen.budget.memory_mib);
    options.kept.set(&mut run.settings);
    let (registry, person) = (&chosen.registry, interactive.person(&|_| {}));
    let supply = Supply::of(kernels, run.planned.clone()).and(missing, context, store);
    let alone = BTreeSet::new();
    let stage = Stage { supply, registry, found: &found, folder: &folder, slots, person, alone };
    let record = run_whole(context, &run, stage).await?;
    Ok(Finished { record, folder })
}

impl KeepOptions {
    /// Writes these options into the settings.
    pub(crate) fn set(self, settings: &mut Settings) {
        (settings.keep, settings.vmcore) = (self.memory, self.vmcore);
    }
}
