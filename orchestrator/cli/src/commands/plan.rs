//! `luqual plan`: what a run would do.

use crate::arguments::{KernelArgs, SelectionArgs, What};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{self, plural};
use clap::Args;
use luqual_engine::{Execution, Otherwise, Plan, RunRequest, plan};
use luqual_model::PlannedCell;

/// What to plan.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is built and nothing is run. Each cell is shown with its expectation
(matrix.toml) and with the prediction from the kernels' ABI strings; a cell with
a kernel that is not built yet has no prediction.")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Machines at once [default: by processors and free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Shows it.
pub(crate) fn run(command: &PlanArgs) -> Result<Exit, CliError> {
    let request = RunRequest {
        selection: command.selection.selection(Otherwise::All),
        partition: command.what.partition,
        execution: Execution { jobs: command.jobs, ..Execution::default() },
        kernels: command.kernels.source(),
        ..RunRequest::of(command.what.pairs())
    };
    let planned = plan(&request)?;
    planned.cells.iter().try_for_each(|cell| output::line(line(cell)))?;
    let Plan { boots, at_once, memory_mib, room_mib, .. } = planned;
    output::line(format_args!(
        "{} cell{}, {boots} boot{}, up to {at_once} at once, {memory_mib} MiB each of {room_mib} MiB",
        planned.cells.len(),
        plural(planned.cells.len()),
        plural(boots),
    ))?;
    output::line(estimate(&planned))?;
    Ok(Exit::Ok)
}

fn line(PlannedCell { key, prediction, expectation }: &PlannedCell) -> String {
    let expected = expectation.as_ref().map_or_else(
        || "survived".to_owned(),
        |it| {
            let failed = if it.failed.is_empty() { String::new() } else { format!(" ({})", it.failed.join(", ")) };
            format!("{}{}{failed}", it.outcome, if it.tainted.is_empty() { "" } else { "+tainted" })
        },
    );
    let predicted =
        prediction.as_ref().map_or_else(|| "unknown".to_owned(), |it| format!("{} ({})", it.outcome, it.why));
    format!(
        "{} → {} {} on {}  expected {expected}  predicted {predicted}",
        key.source, key.target, key.workload, key.profile
    )
}

fn estimate(plan: &Plan) -> String {
    let unknown = plan.unknown;
    let note = match (plan.usual, unknown) {
        (None, _) => return "how long it takes is not known: none of it was run here before".to_owned(),
        (_, 0) => String::new(),
        (_, 1) => " (1 cell was never run here: taken as the mean)".to_owned(),
        _ => format!(" ({unknown} cells were never run here: taken as the mean)"),
    };
    format!("about {:.0} s by past runs{note}", plan.usual.unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_estimate_says_what_it_does_not_know() {
        let of = |seconds: Option<u64>, unknown| {
            let usual = seconds.map(Duration::from_secs);
            estimate(&Plan { cells: Vec::new(), boots: 0, at_once: 0, memory_mib: 0, room_mib: 0, usual, unknown })
        };
        assert_eq!(of(Some(5), 0), "about 5 s by past runs");
        assert!(of(Some(10), 1).ends_with("(1 cell was never run here: taken as the mean)"));
        assert!(of(None, 1).contains("not known"));
    }
}
