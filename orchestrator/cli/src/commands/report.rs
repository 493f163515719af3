//! `luqual report`: a run that ended, or goes on, in every format.

use crate::error::{CliError, Exit};
use clap::{Args, Subcommand};
use luqual_model::{CellRecord, RunRecord, Stamped};
use luqual_runner::JOURNAL;
use std::fs;
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
    /// JSON for KCIDB: the target is the build, the source stands in misc
    Kcidb {
        #[command(flatten)]
        one: One,
        /// The name of the system that submits it
        #[arg(long, default_value = "luqual", value_name = "NAME")]
        origin: String,
    },
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
    let (text, output) = match command {
        Report::Diff { old, new, output } => (luqual_reports::diff(&read_run(old)?, &read_run(new)?), output),
        Report::Show(one) => {
            let record = read_run(&one.run)?;
            (format!("{}\n{}", luqual_reports::grid(&record), luqual_reports::summary(&record)), &one.output)
        }
        Report::Html(one) => {
            let folder = folder(&one.run)?;
            let record = read(&folder)?;
            (luqual_reports::html(&record, &evidence(&folder)), &one.output)
        }
        Report::Junit(one) => {
            let record = read_run(&one.run)?;
            (luqual_reports::junit(&record).map_err(CliError::file("JUnit"))?, &one.output)
        }
        Report::Ktap(one) => (luqual_reports::ktap(&read_run(&one.run)?), &one.output),
        Report::Kcidb { one, origin } => {
            let record = read_run(&one.run)?;
            (luqual_reports::kcidb(&record, origin).map_err(CliError::file("KCIDB"))?, &one.output)
        }
        Report::Markdown(one) => (luqual_reports::markdown(&read_run(&one.run)?), &one.output),
    };
    match output {
        Some(file) => fs::write(file, text).map_err(CliError::file(file.display()))?,
        None => print!("{text}"),
    }
    Ok(Exit::Ok)
}

/// Reads a file of a cell's folder for the HTML page.
pub(crate) fn evidence(folder: &Path) -> impl Fn(&CellRecord, &str) -> Option<String> {
    move |cell, name| {
        let bytes = fs::read(folder.join(&cell.folder).join(name)).ok()?;
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The record of a run, by its folder or its id.
pub(crate) fn read_run(run: &Path) -> Result<RunRecord, CliError> {
    read(&folder(run)?)
}

fn folder(run: &Path) -> Result<PathBuf, CliError> {
    let candidates = [run.to_owned(), Path::new("luqual-runs").join(run)];
    candidates.into_iter().find(|folder| folder.join("run.json").exists() || folder.join(JOURNAL).exists()).ok_or_else(
        || {
            CliError::usage(format!("there is no run `{}`", run.display()))
                .hint("name a run's folder, or the id of one in luqual-runs/")
        },
    )
}

/// The record: run.json where the run ended, else what its journal has.
fn read(folder: &Path) -> Result<RunRecord, CliError> {
    let path = folder.join("run.json");
    let wrong = |path: &Path, why: String| CliError::usage(format!("{}: {why}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => luqual_reports::read(&text).map_err(|error| wrong(&path, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = folder.join(JOURNAL);
            let text = fs::read_to_string(&path).map_err(|error| wrong(&path, error.to_string()))?;
            // The last line of a run that was killed, or is being written to, may not be whole.
            let events: Vec<Stamped> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
            RunRecord::from_events(&events).ok_or_else(|| wrong(&path, "it does not begin with a run".to_owned()))
        }
        Err(error) => Err(wrong(&path, error.to_string())),
    }
}
