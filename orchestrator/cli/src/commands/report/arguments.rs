//! What to show of runs, in which format, and where to.

use crate::commands::merge::Merge;
use crate::error::CliError;
use clap::{Args, Subcommand, ValueEnum};
use luqual_engine::read_run;
use luqual_reports::Record;
use std::path::PathBuf;

/// What to show of runs.
#[derive(Subcommand, Debug)]
#[command(after_help = "\
RUN is the folder of a run, or the id of a run in luqual-runs/. If the run is
incomplete, the cells that have ended are shown.")]
pub(crate) enum Report {
    /// The grid and what needs attention, as at the end of the run
    Show(One),
    /// One self-contained HTML page
    Html(One),
    /// JUnit XML: harness failures are errors, losses failures
    Junit(One),
    /// KTAP, as kernel tests print it
    Ktap(One),
    /// Markdown, for the summary of a CI run
    Markdown(One),
    /// Markdown with a row for each workload, a column for each pair, and the reason of each cell that did not survive
    Suite(Several),
    /// Markdown with a row for each device, machine and pair, and a column for each level from D0 to D5: how much of a
    /// device an update kept
    #[command(after_help = LEVELS_HELP)]
    Levels(Several),
    /// The times of preserve, kexec, retrieve and finish by size, for each cell that measured them
    #[command(after_help = CURVE_HELP)]
    Curve {
        #[command(flatten)]
        one: One,
        /// A table to read, or lines to plot
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = CurveFormat::Markdown)]
        format: CurveFormat,
    },
    /// JSON for KCIDB: the target is the build, the source stands in misc
    Kcidb {
        #[command(flatten)]
        one: One,
        /// The name of the submitting system: a-z, 0-9 and _
        #[arg(long, default_value = "luqual", value_name = "NAME", value_parser = origin)]
        origin: String,
    },
    /// Join the parts of a run that was run by --partition into one run
    Merge(Merge),
    /// Compare two runs: new failures, fixed cells, changed titles, speed
    Diff {
        /// The earlier run
        #[arg(value_name = "RUN")]
        old: PathBuf,
        /// The later run
        #[arg(value_name = "RUN")]
        new: PathBuf,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

const LEVELS_HELP: &str = "\
The workloads vfio.DEVICE.CASE test a device. The name of each of their probes
begins with its level:
  D0 present  the device exists
  D1 usable   it works when it is opened again
  D2 quiet    it wrote to no memory of others, and no access of it faulted
  D3 state    it kept the state that it had before the update
  D4 fd       its descriptor was preserved and retrieved
  D5 running  it ran through the whole update

A field says `yes` if all probes of the level passed, in all cases of the
device; `no (2 of 5)` if two of five failed; `–` if there is none. A cell that
ended before its probes has its outcome and title instead. Below the table, each
failure of a probe is shown once, with the number of rows that have it.

Examples:
  luqual run --source 7.2.12 --target 7.3.4 --workload 'vfio.*' --report-dir out
  luqual report levels out";

const CURVE_HELP: &str = "\
The workloads scale.curve-files, scale.curve-sessions and scale.curve-bytes
measure: a size for each of five updates in a row. Preserve, retrieve and finish
are the times of the kernel's calls, by the guest's clock; kexec is the time
from the kexec request to the handshake with the next kernel, by the host's.

Examples:
  luqual run --matrix curves --report-dir out
  luqual report curve out
  luqual report curve out --format csv > curve.csv";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CurveFormat {
    /// A table for each cell, in ms
    Markdown,
    /// A line for each size of each cell, in us
    Csv,
}

/// What KCIDB takes for an origin.
fn origin(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if fits { Ok(text.to_owned()) } else { Err("an origin can only have a-z, 0-9 and _".to_owned()) }
}

/// Several runs, and where the text goes.
#[derive(Args, Debug)]
pub(crate) struct Several {
    /// The folders or ids of the runs; of a cell that is in several runs, the last counts
    #[arg(required = true, value_name = "RUN")]
    pub(super) runs: Vec<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

impl Several {
    pub(super) fn read(&self) -> Result<Vec<Record>, CliError> {
        self.runs.iter().map(|run| Ok(read_run(run)?)).collect()
    }
}

/// One run, and where the text goes.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// The run's folder, or its id
    #[arg(value_name = "RUN")]
    pub(super) run: PathBuf,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}
