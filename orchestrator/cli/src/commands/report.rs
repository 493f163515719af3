//! `luqual report`: a run that ended, or goes on, in every format.

use super::merge;
use crate::error::{CliError, Exit};
use crate::output;
use clap::{Args, Subcommand, ValueEnum};
use luqual_model::CellRecord;
use luqual_reports::{Evidence, Record};
use luqual_runner::JOURNAL;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What to show of runs.
#[derive(Subcommand, Debug)]
#[command(after_help = "\
RUN is a run's folder, or the id of one in luqual-runs/. Of a run that goes on or was killed, what has ended is shown.")]
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
    /// Markdown with a row for each workload and a column for each pair, and why what is none is no survival
    Suite(Several),
    /// Markdown with a row for each device, machine and pair, and a column for each level from D0 to D5: what of a device an
    /// update kept
    #[command(after_help = LEVELS_HELP)]
    Levels(Several),
    /// How long preserve, kexec, retrieve and finish took by what was handed over, for each cell that measured it
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
        /// The name of the system that submits it, of a-z, 0-9 and _
        #[arg(long, default_value = "luqual", value_name = "NAME", value_parser = origin)]
        origin: String,
    },
    /// Join the parts of a run that was run by --partition, on several machines perhaps, into the run that they are
    Merge(merge::Merge),
    /// What changed from one run to another: new failures, fixed, changed titles, speed
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
The workloads vfio.DEVICE.CASE look after a device. The name of each of their probes begins with
the level that it belongs to:
  D0 present  the device is there
  D1 usable   it can be used anew
  D2 quiet    it did nothing to anybody's memory, and none of its accesses faulted
  D3 state    what it was told before the update it still knows
  D4 fd       its descriptor was handed over and given out again
  D5 running  it ran on all the while

A field says `yes` where all probes of the level held, in all cases of the device; `no (2 of 5)`
where two of five did not; `–` where there is none. What did not get as far as its probes has its
outcome and title instead. Below the table each way in which a probe did not hold is told once, with
the count of the rows where it was so.

Examples:
  luqual run --source 7.2.12 --target 7.3.4 --workload 'vfio.*' --report-dir out
  luqual report levels out";

const CURVE_HELP: &str = "\
The workloads scale.curve-files, scale.curve-sessions and scale.curve-bytes measure: a size for each of five updates in a row.
Preserve, retrieve and finish are the kernel's own calls, by the guest's clock; kexec is from the request to leave to the
handshake with the next kernel, by the host's.

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
    if fits { Ok(text.to_owned()) } else { Err("an origin is made of a-z, 0-9 and _".to_owned()) }
}

/// Several runs, and where the text goes.
#[derive(Args, Debug)]
pub(crate) struct Several {
    /// The runs' folders, or their ids; a cell that ended in several counts in the last
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Several {
    fn read(&self) -> Result<Vec<Record>, CliError> {
        self.runs.iter().map(|run| read_run(run)).collect()
    }
}

/// One run, and where the text goes.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// The run's folder, or its id
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Shows it.
pub(crate) fn run(command: &Report) -> Result<Exit, CliError> {
    let one = match command {
        Report::Diff { old, new, output } => {
            let (old, new) = (read_run(old)?, read_run(new)?);
            give(output.as_deref(), |to| to.write_all(luqual_reports::diff(&old, &new)?.as_bytes()))?;
            return Ok(Exit::Ok);
        }
        Report::Show(one) | Report::Html(one) | Report::Junit(one) | Report::Ktap(one) | Report::Markdown(one) => one,
        Report::Suite(several) => {
            let records = several.read()?;
            give(several.output.as_deref(), |to| to.write_all(luqual_reports::suite(&records)?.as_bytes()))?;
            return Ok(Exit::Ok);
        }
        Report::Merge(command) => return merge::run(command),
        Report::Levels(several) => return levels(several),
        Report::Curve { one, format } => return curve(one, *format),
        Report::Kcidb { one, .. } => one,
    };
    let folder = folder(&one.run)?;
    let record = read(&folder)?;
    give(one.output.as_deref(), |to| {
        let text = match command {
            Report::Html(_) => {
                let linked = one.output.as_deref().is_some_and(|file| is_in(file, &folder));
                return luqual_reports::html(&record, Evidence { read: &evidence(&folder), linked }, to);
            }
            Report::Show(_)
            | Report::Suite(_)
            | Report::Levels(_)
            | Report::Merge(_)
            | Report::Diff { .. }
            | Report::Curve { .. } => shown(&record)?,
            Report::Junit(_) => luqual_reports::junit(&record)?,
            Report::Ktap(_) => luqual_reports::ktap(&record)?,
            Report::Kcidb { origin, .. } => luqual_reports::kcidb(&record, origin)?,
            Report::Markdown(_) => luqual_reports::markdown(&record)?,
        };
        to.write_all(text.as_bytes())
    })?;
    Ok(Exit::Ok)
}

fn levels(several: &Several) -> Result<Exit, CliError> {
    let names: Vec<String> = several.runs.iter().map(|run| run.display().to_string()).collect();
    let text = luqual_reports::levels(&several.read()?).map_err(CliError::file(names.join(", ")))?;
    let nothing = || {
        CliError::usage("no run has a device's workload, vfio.DEVICE.CASE")
            .hint("luqual run --source SOURCE --target TARGET --workload 'vfio.*' makes one that has")
    };
    let text = text.ok_or_else(nothing)?;
    give(several.output.as_deref(), |to| to.write_all(text.as_bytes()))?;
    Ok(Exit::Ok)
}

fn curve(one: &One, format: CurveFormat) -> Result<Exit, CliError> {
    let record = read_run(&one.run)?;
    let text = match format {
        CurveFormat::Markdown => luqual_reports::curve(&record),
        CurveFormat::Csv => luqual_reports::curve_csv(&record),
    };
    let nothing = || CliError::usage("no cell of the run measured anything").hint("luqual run --matrix curves does");
    let text = text.map_err(CliError::file(one.run.display()))?.ok_or_else(nothing)?;
    give(one.output.as_deref(), |to| to.write_all(text.as_bytes()))?;
    Ok(Exit::Ok)
}

/// The grid and what needs attention.
pub(crate) fn shown(record: &Record) -> io::Result<String> {
    let width = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    let grid = luqual_reports::grid(record, width.map(|(width, _)| usize::from(width.0)));
    Ok(format!("{grid}\n{}", luqual_reports::summary(record)?))
}

/// Tells of a run that has ended in that folder.
pub(crate) fn tell(record: &Record, folder: &Path) -> Result<(), CliError> {
    output::print(shown(record).map_err(CliError::file(folder.join(JOURNAL).display()))?)?;
    output::line(format_args!("report: {}", folder.join("report.html").display()))
}

/// Writes to a file, or to standard output.
fn give(file: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    match file {
        Some(file) => write_report(file, write),
        None => output::stream(write),
    }
}

/// Writes a file, a part at a time: all of it, or it stays as it was.
pub(crate) fn write_report(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    if file.file_name().is_some_and(|name| name == JOURNAL) {
        return Err(
            CliError::usage(format!("{} is the name of a run's journal", file.display())).hint("name another file")
        );
    }
    // A file that is none, such as /dev/stdout, is written to as it is.
    if file.exists() && !file.is_file() {
        let written =
            File::create(file).map(BufWriter::new).and_then(|mut to| write(&mut to).and_then(|()| to.flush()));
        return written.map_err(CliError::file(file.display()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .and_then(|beside| {
            let mut to = BufWriter::new(beside.as_file());
            write(&mut to).and_then(|()| to.flush())?;
            drop(to);
            beside.persist(file).map_err(|error| error.error)
        });
    written.map(drop).map_err(CliError::file(file.display()))
}

/// Whether a file that is written stands in that folder.
fn is_in(file: &Path, folder: &Path) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent.canonicalize().is_ok_and(|parent| folder.canonicalize().is_ok_and(|folder| parent == folder))
}

/// Reads a file of a cell's folder for the HTML page.
pub(crate) fn evidence(folder: &Path) -> impl Fn(&CellRecord, &str) -> Option<String> {
    move |cell, name| {
        let bytes = fs::read(folder.join(&cell.folder).join(name)).ok()?;
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The record of a run, by its folder or its id.
pub(crate) fn read_run(run: &Path) -> Result<Record, CliError> {
    read(&folder(run)?)
}

/// The folder of a run, by its path or its id.
pub(crate) fn folder(run: &Path) -> Result<PathBuf, CliError> {
    let candidates = [run.to_owned(), Path::new("luqual-runs").join(run)];
    candidates.into_iter().find(|folder| folder.join(JOURNAL).exists()).ok_or_else(|| {
        CliError::usage(format!("there is no run `{}`", run.display()))
            .hint("name a run's folder, which has an events.jsonl, or the id of one in luqual-runs/; of repro the file of a bundle, too")
    })
}

/// The record, as the journal has it.
pub(crate) fn read(folder: &Path) -> Result<Record, CliError> {
    let path = folder.join(JOURNAL);
    let mut record = File::open(&path)
        .and_then(Record::read)
        .map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    if folder != Path::new("luqual-runs").join(&record.run.id) {
        record.name = folder.display().to_string();
    }
    Ok(record)
}
