//! From a selection to what runs: kernels, cells with what is thought of them, and the host's room. And `luqual plan`.

use super::history::History;
use super::machine::free_memory_mib;
use super::selection::{Chosen, Pairs, Selection, profile_of, subject};
use super::{KernelSource, selection};
use crate::error::{CliError, Exit};
use clap::Args;
use luqual_config::Budget;
use luqual_kernels::{Store, predict};
use luqual_model::{CellKey, KernelInfo, Planned};
use luqual_runner::{Load, Slots};
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
}

impl What {
    pub(crate) fn pairs(&self) -> Pairs<'_> {
        match (&self.source, &self.target) {
            (Some(source), Some(target)) => Pairs::One(source, target),
            _ => Pairs::Matrix(&self.matrix),
        }
    }
}

/// What QEMU takes beside its guest's memory, in MiB; measured under TCG, whose translated code is most of it.
const QEMU_MIB: u64 = 400;

/// How much room the host has for machines.
pub(crate) fn slots(jobs: Option<u64>, budget: Budget) -> Slots {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let free = [free_memory_mib(), free_mib(&work_base()).ok()].into_iter().flatten().min();
    Slots {
        jobs: jobs.or(budget.jobs).unwrap_or(processors),
        memory_mib: budget.memory_mib.or(free).unwrap_or(u64::MAX),
    }
}

/// What each cell takes; an error names one that can never fit.
pub(crate) fn loads<'a>(
    cells: impl Iterator<Item = &'a CellKey>,
    slots: Slots,
    history: &History,
) -> Result<Vec<Load>, CliError> {
    let load = |key: &CellKey| -> Result<Load, CliError> {
        let load = Load {
            memory_mib: profile_of(&key.profile)?.memory_mib + QEMU_MIB,
            usual: history.of(key).unwrap_or_default(),
        };
        if slots.can_fit(&load) {
            return Ok(load);
        }
        Err(CliError::harness(format!(
            "{} needs {} MiB of memory, and there are {}",
            key.id(),
            load.memory_mib,
            slots.memory_mib
        ))
        .hint("end something that uses memory, set LUQUAL_WORK_DIR to a folder with more room, or raise the budget"))
    };
    cells.map(load).collect()
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
    let chosen = command.selection.choose(&store, command.what.pairs())?;
    let history = History::load();
    let slots = slots(command.jobs, chosen.budget);
    let loads = loads(chosen.cells.iter(), slots, &history)?;
    let info = |name: &str| store.find(name).ok().flatten().map(|kernel| kernel.info);
    for Planned { key, prediction, expectation } in planned(&chosen, info, &store) {
        let expected = expectation.map_or_else(|| "survived".to_owned(), |expected| expected.outcome.to_string());
        let predicted = prediction.map_or_else(|| "unknown".to_owned(), |it| format!("{} ({})", it.outcome, it.why));
        println!(
            "{} → {} {} on {}  expected {expected}  predicted {predicted}",
            key.source, key.target, key.workload, key.profile
        );
    }
    let count = chosen.cells.len();
    let memory = loads.iter().map(|load| load.memory_mib).max().unwrap_or_default();
    println!(
        "{count} cell{}, {count} boot{}, up to {} at once, {memory} MiB each of {} MiB",
        selection::plural(count),
        selection::plural(count),
        slots.jobs.min(slots.memory_mib / memory.max(1)),
        slots.memory_mib
    );
    println!("{}", estimate(&loads, slots));
    Ok(Exit::Ok)
}

/// How long it takes by past runs.
fn estimate(loads: &[Load], slots: Slots) -> String {
    let known: Vec<Duration> = loads.iter().map(|load| load.usual).filter(|usual| !usual.is_zero()).collect();
    let Some(mean) = known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).unwrap_or(u32::MAX)) else {
        return "how long it takes is not known: none of it was run here before".to_owned();
    };
    let unknown = loads.len() - known.len();
    let whole = known.iter().sum::<Duration>() + mean * u32::try_from(unknown).unwrap_or(u32::MAX);
    let seconds = whole.as_secs_f64() / slots.jobs.max(1).min(loads.len() as u64) as f64;
    let note =
        if unknown == 0 { String::new() } else { format!(" ({unknown} were never run here: taken as the mean)") };
    format!("about {seconds:.0} s by past runs{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_takes_what_is_not_known_as_the_mean() {
        let load = |seconds| Load { memory_mib: 1, usual: Duration::from_secs(seconds) };
        let slots = Slots { jobs: 2, memory_mib: 10 };
        assert_eq!(estimate(&[load(4), load(6)], slots), "about 5 s by past runs");
        assert!(estimate(&[load(4), load(6), load(0)], slots).starts_with("about 8 s by past runs (1 were never"));
        assert!(estimate(&[load(0)], slots).contains("not known"));
    }
}
