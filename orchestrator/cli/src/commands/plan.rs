//! From a selection to what runs: kernels, cells with what is thought of them, and the host's room. And `luqual plan`.

use super::history::History;
use super::machine::free_memory_mib;
use super::partition::{self, Part};
use super::registry::Registry;
use super::selection::{Chosen, Pairs, Selection, profile_of, subject};
use super::{KernelSource, selection};
use crate::error::{CliError, Exit};
use crate::output;
use clap::Args;
use luqual_config::Budget;
use luqual_kernels::{Store, predict};
use luqual_model::{CellKey, KernelInfo, Planned};
use luqual_runner::{Load, Slots, boots};
use luqual_vm::{free_mib, work_base};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to plan.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is built and nothing is run. Cells are shown with what they are known to do (matrix.toml) and what the kernels'
ABI strings predict; kernels that are not built yet have no strings to predict from.")]
pub(crate) struct Plan {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    selection: Selection,
    /// Machines at once [default: by processors and free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    #[command(flatten)]
    kernels: KernelSource,
}

/// One pair or a matrix.
#[derive(Args, Debug)]
pub(crate) struct What {
    /// The kernel before the kexec: a name of `luqual kernels list`, or a path
    #[arg(long, value_name = "KERNEL", requires = "target")]
    source: Option<String>,
    /// The kernel after it
    #[arg(long, value_name = "KERNEL", requires = "source")]
    target: Option<String>,
    /// A named matrix instead of one pair
    #[arg(long, value_name = "NAME", conflicts_with_all = ["source", "target"], default_value = "default")]
    matrix: String,
    /// Only the K-th of N parts, such as 2/8: each part has other cells, and `luqual report merge` joins what they came to
    #[arg(long, value_name = "K/N")]
    partition: Option<Part>,
}

impl What {
    pub(crate) fn pairs(&self) -> Pairs<'_> {
        match (&self.source, &self.target) {
            (Some(source), Some(target)) => Pairs::One(source, target),
            _ => Pairs::Matrix(&self.matrix),
        }
    }

    /// What is chosen, or the part of it that is to be run here.
    pub(crate) fn part_of(&self, chosen: Chosen) -> Chosen {
        match self.partition {
            Some(part) => chosen.part(part),
            None => chosen,
        }
    }
}

impl Chosen {
    /// One part of it.
    pub(crate) fn part(&self, part: Part) -> Self {
        let shares_boot = |name: &str| self.registry.find(name).is_some_and(|workload| workload.shares_boot);
        let partition = part.of(&self.cells, shares_boot);
        let cells = partition.places.iter().map(|place| self.cells[*place].clone()).collect();
        Self { seed: Some(partition::seed(&self.cells)), partition: Some(partition), cells, ..self.clone() }
    }
}

/// What QEMU takes beside its guest's memory, in MiB; measured under TCG, whose translated code is most of it.
const QEMU_MIB: u64 = 400;

/// How much room the host has for machines.
pub(crate) fn slots(jobs: Option<u64>, budget: Budget) -> Slots {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let room = [free_memory_mib(), free_mib(&work_base()).ok(), budget.memory_mib].into_iter().flatten().min();
    Slots { jobs: jobs.or(budget.jobs).unwrap_or(processors), memory_mib: room.unwrap_or(u64::MAX) }
}

/// The boots of these cells, and what each takes; an error names one that can never fit.
pub(crate) fn boots_and_loads(
    planned: &[&Planned],
    registry: &Registry,
    alone: bool,
    slots: Slots,
    history: &History,
) -> Result<(Vec<Vec<usize>>, Vec<Load>), CliError> {
    let boots = if alone {
        (0..planned.len()).map(|number| vec![number]).collect()
    } else {
        boots(planned, |name| registry.find(name))
    };
    let mean = mean(planned, history).unwrap_or_default();
    let load = |boot: &Vec<usize>| -> Result<Load, CliError> {
        let keys = || boot.iter().map(|number| &planned[*number].key);
        let usual = keys().map(|key| history.of(key).unwrap_or(mean)).sum();
        let mut load = Load { memory_mib: QEMU_MIB, usual };
        // All of a boot have the same machine.
        if let Some(key) = keys().next() {
            load.memory_mib += fits(key, slots)?;
        }
        Ok(load)
    };
    let loads = boots.iter().map(load).collect::<Result<_, CliError>>()?;
    Ok((boots, loads))
}

/// How long a cell takes of which that is not known: as long as the others.
fn mean(planned: &[&Planned], history: &History) -> Option<Duration> {
    let known: Vec<Duration> = planned.iter().filter_map(|plan| history.of(&plan.key)).collect();
    known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).unwrap_or(u32::MAX))
}

/// The memory of a cell's machine, in MiB, if there is room for it.
pub(crate) fn fits(key: &CellKey, slots: Slots) -> Result<u64, CliError> {
    let memory_mib = profile_of(&key.profile)?.memory_mib;
    let needed = memory_mib + QEMU_MIB;
    if needed <= slots.memory_mib {
        return Ok(memory_mib);
    }
    Err(CliError::harness(format!("{} needs {needed} MiB of memory, and there are {}", key.id(), slots.memory_mib))
        .hint("raise the matrix's budget, end something that uses memory, or set LUQUAL_WORK_DIR to a larger folder"))
}

/// What is thought of each cell, by what is known of its kernels.
pub(crate) fn planned(chosen: &Chosen, info: impl Fn(&str) -> Option<KernelInfo>, store: &Store) -> Vec<Planned> {
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
        Planned { key: key.clone(), prediction, expectation }
    };
    chosen.cells.iter().map(plan).collect()
}

/// `luqual plan`.
pub(crate) fn run(command: &Plan) -> Result<Exit, CliError> {
    let store = command.kernels.store()?;
    let chosen = command.what.part_of(command.selection.choose(&store, command.what.pairs(), |_| true)?);
    let slots = slots(command.jobs, chosen.budget);
    let info = |name: &str| store.find(name).ok().flatten().map(|kernel| kernel.info);
    let planned = planned(&chosen, info, &store);
    let (history, all) = (History::load(), planned.iter().collect::<Vec<_>>());
    let (boots, loads) = boots_and_loads(&all, &chosen.registry, false, slots, &history)?;
    for Planned { key, prediction, expectation } in &planned {
        let expected = expectation.as_ref().map_or_else(
            || "survived".to_owned(),
            |it| {
                let broken = if it.broken.is_empty() { String::new() } else { format!(" ({})", it.broken.join(", ")) };
                format!("{}{}{broken}", it.outcome, if it.tainted { "+tainted" } else { "" })
            },
        );
        let predicted =
            prediction.as_ref().map_or_else(|| "unknown".to_owned(), |it| format!("{} ({})", it.outcome, it.why));
        output::line(format_args!(
            "{} → {} {} on {}  expected {expected}  predicted {predicted}",
            key.source, key.target, key.workload, key.profile
        ))?;
    }
    let memory = loads.iter().map(|load| load.memory_mib).max().unwrap_or_default();
    let at_once = slots.jobs.min(slots.memory_mib / memory.max(1)).min(boots.len() as u64);
    output::line(format_args!(
        "{} cell{}, {} boot{}, up to {at_once} at once, {memory} MiB each of {} MiB",
        planned.len(),
        selection::plural(planned.len()),
        boots.len(),
        selection::plural(boots.len()),
        slots.memory_mib
    ))?;
    let unknown = all.iter().filter(|plan| history.of(&plan.key).is_none()).count();
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    output::line(estimate(&loads, all.len(), unknown, at_once.min(processors)))?;
    Ok(Exit::Ok)
}

/// How long it takes by past runs of all but `unknown` of its cells, with so many machines that do not slow each other down.
fn estimate(loads: &[Load], cells: usize, unknown: usize, machines: u64) -> String {
    if unknown == cells {
        return "how long it takes is not known: none of it was run here before".to_owned();
    }
    let seconds = loads.iter().map(|load| load.usual).sum::<Duration>().as_secs_f64() / machines.max(1) as f64;
    let note = if unknown == 0 {
        String::new()
    } else {
        format!(" ({unknown} cell{} never run here: taken as the mean)", if unknown == 1 { " was" } else { "s were" })
    };
    format!("about {seconds:.0} s by past runs{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_says_what_it_does_not_know() {
        let load = |seconds| Load { memory_mib: 1, usual: Duration::from_secs(seconds) };
        assert_eq!(estimate(&[load(4), load(6)], 2, 0, 2), "about 5 s by past runs");
        assert_eq!(estimate(&[load(4), load(6)], 3, 0, 1), "about 10 s by past runs");
        assert!(estimate(&[load(4), load(6)], 3, 1, 2).ends_with("(1 cell was never run here: taken as the mean)"));
        assert!(estimate(&[load(0)], 1, 1, 2).contains("not known"));
    }
}
