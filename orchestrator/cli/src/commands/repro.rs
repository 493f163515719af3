//! `luqual repro`: one cell of an earlier run, made again with all that it was made with.

use super::KernelSource;
use super::attended::Attended;
use super::bundle::Unpacked;
use super::execute::{Again, Ended, Images, Kept, repeat};
use super::machine::MachineChoice;
use super::report::{folder, read, tell};
use crate::error::{CliError, Exit};
use crate::output;
use clap::Args;
use luqual_model::{CellKey, CellRecord, Outcome, Planned, Repeated};
use luqual_reports::{Record, end};
use std::path::PathBuf;

/// What to make again.
#[derive(Args, Debug)]
#[command(after_help = "\
Kernels, profile, workloads, seed, delays, deadlines and planted faults are those of the run, whatever is configured today. Of a
cell that was run several times it is the attempt that the run's report shows; of one that shared its boot, the whole boot. A kernel
that is not there is built, and its image has to have the digest that it had.

What is left to chance beside the seed, such as which processor of the guest is first, is so again.

Examples:
  luqual repro 20261126-061541-2f31 7.2.12_7.3.4_q35-intel_memfd.basic
  luqual repro out memfd.basic                 (a part of the id that no other cell of the run has)
  luqual repro red.tar.gz                      (a bundle, which brings its kernels; luqual bundle makes one)

Exit codes: 0 it ended as it did then: the same outcome, by the same probes; 1 it did not; 2 a mistake in what was asked for;
3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Repro {
    /// The run's folder, or its id; or the file of a bundle
    #[arg(value_name = "RUN|BUNDLE")]
    run: PathBuf,
    /// The cell's id, as reports show it, or a part of it [default: the one that a bundle is about]
    #[arg(value_name = "CELL")]
    cell: Option<String>,
    /// Take the luqual, QEMU, accelerator and kernels of today where they are not the run's, and say so
    #[arg(long)]
    anyway: bool,
    /// The folder of what is made again; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    /// Let it do the same every time, as luqual run --deterministic does, though it did not then
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    attended: Attended,
    #[command(flatten)]
    machine: MachineChoice,
    #[command(flatten)]
    kernels: KernelSource,
}

/// Makes it again, and compares.
pub(crate) async fn run(command: &Repro) -> Result<Exit, CliError> {
    let store = command.kernels.store()?;
    let bundle = if command.run.is_file() { Some(Unpacked::of(&command.run)?) } else { None };
    let read_here;
    let (record, images, asked) = match &bundle {
        Some(bundle) => (&bundle.record, Images::Bundle(bundle), bundle.cell.0.as_str()),
        None => {
            read_here = read(&folder(&command.run)?)?;
            (&read_here, Images::Store(&store), "")
        }
    };
    let then = cell_of(record, command.cell.as_deref().unwrap_or(asked))?;
    let deterministic = command.deterministic || record.run.settings.deterministic;
    let again = Again {
        run: &record.run,
        repeated: Repeated {
            run: record.run.id.clone(),
            cell: then.id.clone(),
            seed: then.seed,
            waits: record.run.settings.waits(),
            bundle: bundle.as_ref().map(|bundle| bundle.record.name.clone()),
        },
        // What is deterministic has a boot of its own.
        planned: in_its_boot(&record.run.planned, &then, deterministic),
        anyway: command.anyway,
        deterministic,
        attended: command.attended,
    };
    let (now, folder) =
        match repeat(again, images, &command.machine, command.report_dir.as_deref(), command.kept).await? {
            Ended::Run(record, folder) => (record, folder),
            Ended::Interrupted => return Ok(Exit::Interrupted),
        };
    tell(&now, &folder)?;
    if now.run.interrupted {
        return Ok(Exit::Interrupted);
    }
    let (told, exit) = against(&cell_of(&now, &then.id.0)?, &then);
    output::line(told)?;
    Ok(exit)
}

/// What is said of how it ended now and then.
fn against(now: &CellRecord, then: &CellRecord) -> (String, Exit) {
    match (now.outcome, now.ended_as(then), now.is_identical_to(then), now.digest.as_deref().unwrap_or_default()) {
        (Outcome::HarnessFailed, ..) => {
            (format!("nothing is known of it now; then it was {}", end(then)), Exit::Harness)
        }
        (_, true, None, _) => (format!("as then: {}", end(now)), Exit::Ok),
        (_, true, Some(true), digest) => (format!("as then: {}; digest {digest}", end(now)), Exit::Ok),
        (_, true, Some(false), digest) => {
            let was = then.digest.as_deref().unwrap_or_default();
            (
                format!("as then: {}; but not to the last byte: digest {digest}, then {was}", end(now)),
                Exit::NotAsExpected,
            )
        }
        (_, false, ..) => (format!("not as then, when it was {}", end(then)), Exit::NotAsExpected),
    }
}

/// The cell of that id, or the only one of which that is a part.
pub(crate) fn cell_of(record: &Record, asked: &str) -> Result<CellRecord, CliError> {
    let ids: Vec<String> = record.briefs().map(|(planned, _)| planned.key.id().0).collect();
    let number = numbered(&ids, asked)?;
    record.cell_of(number).map_err(CliError::file(&record.name))?.ok_or_else(|| {
        CliError::usage(format!("{} has not ended in that run", ids[number]))
            .hint("luqual run --resume goes on with it")
    })
}

/// The place of the id that is asked for.
fn numbered(ids: &[String], asked: &str) -> Result<usize, CliError> {
    if let Some(number) = ids.iter().position(|id| id == asked) {
        return Ok(number);
    }
    let parts: Vec<usize> = (0..ids.len()).filter(|number| ids[*number].contains(asked)).collect();
    match parts.as_slice() {
        [number] => Ok(*number),
        [] => Err(CliError::usage(format!("the run has no cell `{asked}`")).hint("luqual report show has their names")),
        several => {
            let told = if asked.is_empty() {
                format!("the run has {} cells: which one?", several.len())
            } else {
                format!("{} cells of the run have `{asked}` in their ids", several.len())
            };
            let names: Vec<&str> = several.iter().take(SHOWN).map(|number| ids[*number].as_str()).collect();
            let more = several.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(CliError::usage(told).hint(format!("name one of {}{more}", names.join(", "))))
        }
    }
}

/// So many names say what is meant.
const SHOWN: usize = 8;

/// The cells of the boot that a cell's attempt was made in, in plan order; or it alone.
pub(crate) fn in_its_boot(planned: &[Planned], cell: &CellRecord, alone: bool) -> Vec<Planned> {
    let CellKey { source, target, profile, workload } = &cell.plan.key;
    let is_in = |key: &CellKey| {
        (&key.source, &key.target, &key.profile) == (source, target, profile)
            && (key.workload == *workload || !alone && cell.shared_with.contains(&key.workload))
    };
    planned.iter().filter(|planned| is_in(&planned.key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scale::ended;

    #[test]
    fn it_is_as_then_or_it_is_told_what_is_not() {
        let cell = |outcome, title: &str, digest: Option<&str>| -> CellRecord {
            CellRecord { title: title.into(), digest: digest.map(str::to_owned), ..ended(outcome) }
        };
        let (lost, crashed, broken) = (Outcome::Lost, Outcome::Crashed, Outcome::HarnessFailed);
        for (now, then, told, exit) in [
            (cell(lost, "x: 1", None), cell(lost, "x: 2", None), "as then: lost: x: 1", Exit::Ok),
            (cell(lost, "x", Some("d")), cell(lost, "x", Some("d")), "as then: lost: x; digest d", Exit::Ok),
            (cell(lost, "x", Some("d")), cell(lost, "x", Some("e")), "digest d, then e", Exit::NotAsExpected),
            (
                cell(crashed, "a", None),
                cell(crashed, "b", None),
                "not as then, when it was crashed: b",
                Exit::NotAsExpected,
            ),
            (cell(broken, "a", None), cell(broken, "a", None), "nothing is known of it now", Exit::Harness),
            (cell(broken, "a", None), cell(lost, "a", None), "nothing is known of it now", Exit::Harness),
        ] {
            let (said, code) = against(&now, &then);
            assert!(said.contains(told), "{said}");
            assert_eq!(code as i32, exit as i32, "{said}");
        }
    }

    #[test]
    fn a_cell_is_named_by_its_id_or_by_what_no_other_has() {
        let ids = ["a_b_p_memfd.basic", "a_b_p_memfd.basic-2", "a_c_p_luo.x"].map(str::to_owned);
        let of = |asked: &str| numbered(&ids, asked).map_err(|error| (error.message().to_owned(), error.hint_text()));
        assert_eq!((of("a_b_p_memfd.basic"), of("luo"), of("basic-2")), (Ok(0), Ok(2), Ok(1)));
        let (told, hint) = of("basic").unwrap_err();
        assert_eq!(told, "2 cells of the run have `basic` in their ids");
        assert_eq!(hint.unwrap(), "name one of a_b_p_memfd.basic, a_b_p_memfd.basic-2");
        assert!(of("vfio").unwrap_err().1.unwrap().contains("report show"));
    }
}
