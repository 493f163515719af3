//! `luqual report`: a run that ended, or goes on, in every format.

mod arguments;

use super::{merge, summary};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use arguments::{CurveFormat, One, Several};
use luqual_engine::{EngineError, evidence, find_run, read_folder, read_run, write_report};
use luqual_model::plain;
use luqual_reports::Evidence;
use std::io::{self, Write};
use std::path::Path;

pub(crate) use arguments::Report;

/// Shows it.
pub(crate) fn run(command: &Report, here: &Here<'_>) -> Result<Exit, CliError> {
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
        Report::Merge(command) => return merge::run(command, here),
        Report::Levels(several) => return levels(several),
        Report::Curve { one, format } => return curve(one, *format),
        Report::Kcidb { one, .. } => one,
    };
    let folder = find_run(&one.run)?;
    let record = read_folder(&folder)?;
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
            | Report::Curve { .. } => summary::shown(&record)?,
            Report::Junit(_) => luqual_reports::junit(&record)?,
            Report::Ktap(_) => luqual_reports::ktap(&record)?,
            Report::Kcidb { origin, .. } => luqual_reports::kcidb(&record, origin)?,
            Report::Markdown(_) => luqual_reports::markdown(&record)?,
        };
        to.write_all(plain::lines(&text).as_bytes())
    })?;
    Ok(Exit::Ok)
}

fn levels(several: &Several) -> Result<Exit, CliError> {
    let names: Vec<String> = several.runs.iter().map(|run| run.display().to_string()).collect();
    let text = luqual_reports::levels(&several.read()?).map_err(EngineError::named(names.join(", ")))?;
    let nothing = || {
        CliError::usage("none of the runs has a cell of a device workload (vfio.DEVICE.CASE)")
            .hint("run some with `luqual run --source SOURCE --target TARGET --workload 'vfio.*'`")
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
    let nothing = || {
        CliError::usage("no cell of the run has measurements")
            .hint("run the cells that measure with `luqual run --matrix curves`")
    };
    let text = text.map_err(EngineError::named(&one.run))?.ok_or_else(nothing)?;
    give(one.output.as_deref(), |to| to.write_all(text.as_bytes()))?;
    Ok(Exit::Ok)
}

/// Writes to a file, or to standard output.
fn give(file: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    match file {
        Some(file) => Ok(write_report(file, write)?),
        None => output::stream(write),
    }
}

/// Whether a file that is written stands in that folder.
fn is_in(file: &Path, folder: &Path) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent.canonicalize().is_ok_and(|parent| folder.canonicalize().is_ok_and(|folder| parent == folder))
}
