//! Turns a selection into a plan: cells with predictions and expectations, their boots, and the host's resources.

use crate::durations::Durations;
use crate::error::EngineError;
use crate::host::{room_mib, tight_limit};
use crate::kernels::open_store;
use crate::registry::Registry;
use crate::request::RunRequest;
use crate::selection::{Chosen, subject};
use luqual_config::Budget;
use luqual_kernels::{Store, predict};
use luqual_model::{CellKey, KernelInfo, PlannedCell};
use luqual_runner::{Load, Slots, group_cells};
use luqual_vm::MemoryLimit;
use std::collections::BTreeMap;
use std::time::Duration;

/// QEMU's own memory beside its guest's, in MiB; measured under TCG, where translated code is most of it.
const QEMU_MIB: u64 = 400;

/// The resources of the host for machines.
pub(crate) fn slots(jobs: Option<u64>, budget: Budget) -> Slots {
    let room = [room_mib(), budget.memory_mib].into_iter().flatten().min();
    Slots { jobs: jobs.or(budget.jobs).unwrap_or_else(processors), memory_mib: room.unwrap_or(u64::MAX) }
}

/// The boots of these cells, and the resources of each; those that are `alone` share none. An error names a boot that can
/// never fit.
pub(crate) fn boots_and_loads(
    planned: &[&PlannedCell],
    registry: &Registry,
    alone: impl Fn(&CellKey) -> bool,
    slots: Slots,
    durations: &Durations,
) -> Result<(Vec<Vec<usize>>, Vec<Load>), EngineError> {
    let (own, shared): (Vec<usize>, Vec<usize>) = (0..planned.len()).partition(|number| alone(&planned[*number].key));
    let cells: Vec<&PlannedCell> = shared.iter().map(|number| planned[*number]).collect();
    let groups = group_cells(&cells, |name| registry.find(name), |name| registry.profiles.find(name).ok()).into_iter();
    let groups = groups.map(|group| group.into_iter().map(|number| shared[number]).collect());
    let boots: Vec<Vec<usize>> = own.into_iter().map(|number| vec![number]).chain(groups).collect();
    let mean = mean(planned, durations).unwrap_or_default();
    let load = |boot: &Vec<usize>| -> Result<Load, EngineError> {
        let keys = || boot.iter().map(|number| &planned[*number].key);
        let usual = keys().map(|key| durations.of(key).unwrap_or(mean)).sum();
        let mut load = Load { memory_mib: QEMU_MIB, usual };
        // All cells of a boot have the same machine.
        if let Some(key) = keys().next() {
            load.memory_mib += fits(key, registry, slots)?;
        }
        Ok(load)
    };
    let loads = boots.iter().map(load).collect::<Result<_, EngineError>>()?;
    Ok((boots, loads))
}

/// The duration for cells without a known one: the mean of the others.
fn mean(planned: &[&PlannedCell], durations: &Durations) -> Option<Duration> {
    let known: Vec<Duration> = planned.iter().filter_map(|plan| durations.of(&plan.key)).collect();
    known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).unwrap_or(u32::MAX))
}

/// The memory of a cell's machine in MiB; an error if it does not fit.
pub(crate) fn fits(key: &CellKey, registry: &Registry, slots: Slots) -> Result<u64, EngineError> {
    let memory_mib = registry.profiles.find(&key.profile)?.memory_mib;
    let needed = memory_mib + QEMU_MIB;
    if needed <= slots.memory_mib {
        return Ok(memory_mib);
    }
    let limit = tight_limit().map_or_else(String::new, |limit| format!("; {limit}"));
    let may = format!("the run may use {} MiB{limit}", slots.memory_mib);
    Err(EngineError::harness(format!("{} needs {needed} MiB of memory, and {may}", key.id()))
        .hint("raise the matrix's memory budget or the limit of the container, end a program that uses much memory, or set LUQUAL_WORK_DIR to a larger folder"))
}

/// The limit of this process's memory, and how many machines it allows at once, if that is fewer than there would be.
pub(crate) fn limited(chosen: &Chosen, slots: Slots) -> Result<Option<(MemoryLimit, u64)>, EngineError> {
    let cells = &chosen.cells;
    let sizes = cells.iter().map(|key| fits(key, &chosen.registry, slots)).collect::<Result<Vec<_>, _>>()?;
    let largest = sizes.into_iter().max().unwrap_or_default() + QEMU_MIB;
    Ok(tight_limit().map(|limit| (limit.free_mib / largest, limit)).and_then(|(machines, limit)| {
        (machines < slots.jobs.min(cells.len() as u64)).then_some((limit, machines.max(1)))
    }))
}

/// Adds the prediction and the expectation to each cell, from what is known of its kernels.
pub(crate) fn planned(chosen: &Chosen, info: impl Fn(&str) -> Option<KernelInfo>, store: &Store) -> Vec<PlannedCell> {
    let mut known: BTreeMap<&str, Option<KernelInfo>> = BTreeMap::new();
    for key in &chosen.cells {
        for name in [key.source.as_str(), key.target.as_str()] {
            known.entry(name).or_insert_with(|| info(name));
        }
    }
    let of = |name: &str| known.get(name).and_then(Option::as_ref);
    let release =
        |name: &str| of(name).map_or_else(|| store.release(name).unwrap_or_default(), |info| info.release.clone());
    let plan = |key: &CellKey| {
        let (source, target) = (release(&key.source), release(&key.target));
        let expectation = chosen.expectations.of(&subject(key, &source, &target)).cloned();
        let prediction = of(&key.source).zip(of(&key.target)).and_then(|(source, target)| predict(source, target));
        PlannedCell { key: key.clone(), prediction, expectation }
    };
    chosen.cells.iter().map(plan).collect()
}

/// The plan of a run.
pub struct Plan {
    /// The cells, with predictions and expectations.
    pub cells: Vec<PlannedCell>,
    /// The number of boots.
    pub boots: usize,
    /// The number of machines at once.
    pub at_once: u64,
    /// The memory of the largest machine, in MiB.
    pub memory_mib: u64,
    /// The memory for machines, in MiB.
    pub room_mib: u64,
    /// The duration by past runs; absent if no cell ran here before.
    pub usual: Option<Duration>,
    /// The number of cells that never ran here; they count as the mean of the others.
    pub unknown: usize,
}

/// Selects the cells of a request, or of its part.
pub(crate) fn choose(store: &Store, request: &RunRequest) -> Result<Chosen, EngineError> {
    let chosen = request.selection.choose(store, &request.pairs)?;
    Ok(request.partition.map(|part| chosen.part(part)).unwrap_or(chosen))
}

/// Plans a run. Nothing is built and nothing is run.
pub fn plan(request: &RunRequest) -> Result<Plan, EngineError> {
    let store = open_store(&request.kernels)?;
    let chosen = choose(&store, request)?;
    let slots = slots(request.execution.jobs, chosen.budget);
    let info = |name: &str| store.find(name).ok().flatten().map(|kernel| kernel.info);
    let cells = planned(&chosen, info, &store);
    let (durations, all) = (Durations::load(), cells.iter().collect::<Vec<_>>());
    let (boots, loads) = boots_and_loads(&all, &chosen.registry, |_| false, slots, &durations)?;
    let memory_mib = loads.iter().map(|load| load.memory_mib).max().unwrap_or_default();
    let at_once = slots.jobs.min(slots.memory_mib / memory_mib.max(1)).min(boots.len() as u64);
    let unknown = all.iter().filter(|plan| durations.of(&plan.key).is_none()).count();
    let usual = usual(&loads, all.len(), unknown, at_once.min(processors()));
    Ok(Plan { boots: boots.len(), at_once, memory_mib, room_mib: slots.memory_mib, usual, unknown, cells })
}

/// The duration by past runs of all but `unknown` of the cells, with this number of machines at once, which are
/// assumed not to slow each other down.
fn usual(loads: &[Load], cells: usize, unknown: usize, machines: u64) -> Option<Duration> {
    let all = loads.iter().map(|load| load.usual).sum::<Duration>();
    (unknown < cells).then(|| all.div_f64(machines.max(1) as f64))
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_of_what_is_known() {
        let load = |seconds| Load { memory_mib: 1, usual: Duration::from_secs(seconds) };
        assert_eq!(usual(&[load(4), load(6)], 2, 0, 2), Some(Duration::from_secs(5)));
        assert_eq!(usual(&[load(4), load(6)], 3, 1, 1), Some(Duration::from_secs(10)));
        assert_eq!(usual(&[load(0)], 1, 1, 2), None);
    }
}
