//! `luqual repro`: one cell of an earlier run, made again with all that it was made with.

use super::summary;
use crate::arguments::{InteractiveArgs, KeptArgs, KernelArgs, MachineArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Args;
use luqual_engine::{Comparison, ReproRequest, Reproduction, repro};
use luqual_model::CellRecord;
use luqual_reports::end;
use std::path::PathBuf;

/// What to make again.
#[derive(Args, Debug)]
#[command(after_help = "\
Kernels, profile, workloads, seed, delays, deadlines and injected faults are
those of the run, not of today's configuration. If a cell ran several times, the
attempt that the run's report shows is run again; if it shared its boot, the
whole boot. A kernel that is missing is built, and its image has to have the
same digest.

Behaviour that does not depend on the seed, such as the order in which the
guest's processors run, can differ.

Examples:
  luqual repro 20261126-061541-2f31 7.2.12_7.3.4_q35-intel_memfd.basic
  luqual repro out memfd.basic
      (a part of the id that no other cell of the run has)
  luqual repro red.tar.gz
      (a bundle, which brings its kernels; luqual bundle makes one)

Exit codes: 0 it ended as in the run: the same outcome, and the same failed
probes; 1 it did not; 2 a mistake in the arguments; 3 the tool or its host
failed; 130 ended by the user.")]
pub(crate) struct Repro {
    /// The run's folder or id, or the file of a bundle
    #[arg(value_name = "RUN|BUNDLE")]
    run: PathBuf,
    /// The cell's id as reports show it, or a part of it [default: the cell of the bundle]
    #[arg(value_name = "CELL")]
    cell: Option<String>,
    /// Use today's luqual, QEMU, accelerator and kernels where they differ from the run's, and print what differs
    #[arg(long)]
    anyway: bool,
    /// The folder of the new run; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    /// Run the cell bit for bit reproducibly, as luqual run --deterministic does, even if it was not then
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    kept: KeptArgs,
    #[command(flatten)]
    interactive: InteractiveArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Makes it again, and compares.
pub(crate) async fn run(command: &Repro, here: &Here<'_>) -> Result<Exit, CliError> {
    let request = ReproRequest {
        run: command.run.clone(),
        cell: command.cell.clone(),
        anyway: command.anyway,
        report_dir: command.report_dir.clone(),
        deterministic: command.deterministic,
        kept: command.kept.kept(),
        interactive: command.interactive.wanted(),
        machine: command.machine.choice(),
        kernels: command.kernels.source(),
    };
    here.words.be_plain(command.interactive.console || command.interactive.gdb);
    let Reproduction { run, then, now } = repro(&here.engine, &request).await?;
    summary::print(&run.record, &run.folder)?;
    let Some(now) = now else { return Ok(Exit::Interrupted) };
    let (told, exit) = against(&now, &then);
    output::line(told)?;
    Ok(exit)
}

/// What is said of how it ended now and then.
fn against(now: &CellRecord, then: &CellRecord) -> (String, Exit) {
    let digest = |cell: &CellRecord| cell.digest.clone().unwrap_or_default();
    match Comparison::of(now, then) {
        Comparison::NothingKnown => {
            (format!("the cell has no result now; in the run it was {}", end(then)), Exit::Harness)
        }
        Comparison::AsThen if now.is_identical_to(then).is_some() => {
            (format!("as in the run: {}; digest {}", end(now), digest(now)), Exit::Ok)
        }
        Comparison::AsThen => (format!("as in the run: {}", end(now)), Exit::Ok),
        Comparison::AsThenInOtherBytes => {
            let (is, was) = (digest(now), digest(then));
            let told = format!("as in the run: {}; but the digests differ: {is} now, {was} in the run", end(now));
            (told, Exit::NotAsExpected)
        }
        Comparison::NotAsThen => (format!("not as in the run, where it was {}", end(then)), Exit::NotAsExpected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellKey, Outcome, Phase, PlannedCell, Status};

    fn cell(outcome: Outcome, title: &str, digest: Option<&str>) -> CellRecord {
        let key = CellKey { source: "a".into(), target: "b".into(), profile: "p".into(), workload: "w.x".into() };
        let plan = PlannedCell { key, prediction: None, expectation: None };
        CellRecord {
            title: title.to_owned(),
            phase: Phase::Verify,
            digest: digest.map(str::to_owned),
            ..CellRecord::new(plan, outcome, Status::Unexpected)
        }
    }

    #[test]
    fn it_is_as_then_or_it_is_told_how_it_was_and_exits_so() {
        use Outcome::{Crashed, HarnessFailed, Lost};
        let of = |now: (Outcome, Option<&str>), then: (Outcome, Option<&str>)| {
            against(&cell(now.0, "memfd 64m", now.1), &cell(then.0, "memfd 64m", then.1))
        };
        for ((told, exit), starts, wanted) in [
            (of((Lost, None), (Lost, None)), "as in the run: lost: memfd 64m", Exit::Ok),
            (of((Crashed, None), (Lost, None)), "not as in the run, where it was lost: memfd 64m", Exit::NotAsExpected),
            (
                of((HarnessFailed, None), (Lost, None)),
                "the cell has no result now; in the run it was lost",
                Exit::Harness,
            ),
            (of((Lost, Some("d")), (Lost, Some("d"))), "as in the run: lost: memfd 64m; digest d", Exit::Ok),
            (
                of((Lost, Some("d")), (Lost, Some("e"))),
                "as in the run: lost: memfd 64m; but the digests",
                Exit::NotAsExpected,
            ),
        ] {
            assert!(told.starts_with(starts) && exit == wanted, "{exit:?}: {told}");
        }
    }
}
