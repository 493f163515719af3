//! `luqual expect`: what a matrix file would have to say for a run to be as expected.

use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{self, plural, tell};
use clap::Subcommand;
use luqual_config::{Observed, propose};
use luqual_engine::{EngineError, open_store, parse_matrix_file, read_matrix_file, read_run, subject};
use luqual_model::{CellId, CellRecord, Outcome, Phase, ProbeNames, Refusal, Side, Status};
use luqual_reports::Record;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// What to do with expectations.
#[derive(Subcommand, Debug)]
pub(crate) enum Expect {
    /// Propose the smallest addition to the matrix file that makes a run as expected
    #[command(after_help = "\
The addition is printed; with --write it is also appended to the file. Its
ranges match only cells that ran and ended so. Where the file names the failing
probes of a loss (`failed`), the addition names them too, with the other probes
that failed. Harness failures are left out; run those cells again. Flaky cells
are left out, too: they cannot have an expectation.

Exit codes: 0 there is an addition, or none is needed; 2 a mistake in the
arguments.")]
    Update {
        /// The run's folder, or its id
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// The reason why the cells do what they do; an expectation without a reason is a guess
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// A link to more information
        #[arg(long, value_name = "URL")]
        link: Option<String>,
        /// The matrix file to add to
        #[arg(long, value_name = "FILE", default_value = "matrix.toml")]
        matrix_file: PathBuf,
        /// Append the proposal to the file
        #[arg(long)]
        write: bool,
        #[command(flatten)]
        kernels: KernelArgs,
    },
}

/// Runs it.
pub(crate) fn run(command: &Expect) -> Result<Exit, CliError> {
    let Expect::Update { run, reason, link, matrix_file, write, kernels } = command;
    if reason.trim().is_empty() {
        return Err(CliError::usage("--reason is empty").hint("give the reason why the cells end as they do"));
    }
    let store = open_store(&kernels.source())?;
    let (text, file) = read_matrix_file(matrix_file, &store)?;
    let record = read_run(run)?;
    if let Some(fault) = &record.run.settings.inject {
        return Err(CliError::usage(format!(
            "{fault} was injected into this run, so that its outcomes cannot become expectations"
        )));
    }
    let release = |name: &str| record.run.kernels.get(name).map_or("", |info| info.release.as_str());
    let ends = ends(&record).map_err(EngineError::named(run))?;
    let observed: Vec<Observed<'_>> = record
        .briefs()
        .filter_map(|(planned, brief)| Some((&planned.key, brief?)))
        .filter(|(_, brief)| brief.status != Status::Flaky)
        .filter_map(|(key, brief)| {
            let subject = subject(key, release(&key.source), release(&key.target));
            let KnownEnd { failed, tainted, title, refusal, side, phase } = ends.get(&key.id())?;
            let outcome = brief.outcome;
            let (refusal, side, phase) = (refusal.as_ref(), *side, *phase);
            Some(Observed { subject, outcome, tainted, failed, title, refusal, side, phase })
        })
        .collect();
    let addition = propose(&observed, &file.expectations, reason, link.as_deref());
    let flaky = record.briefs().filter(|(_, brief)| brief.is_some_and(|brief| brief.status == Status::Flaky)).count();
    if flaky > 0 {
        tell(format_args!("{flaky} flaky cell{} left out: a flaky cell cannot have an expectation\n", plural(flaky)));
    }
    if addition.is_empty() {
        tell(format_args!("{} needs no addition\n", matrix_file.display()));
        return Ok(Exit::Ok);
    }
    // A run of kernels that no matrix of the file has would make a file that cannot be read.
    parse_matrix_file(&format!("{} with the addition", matrix_file.display()), &format!("{text}{addition}"), &store)
        .map_err(|error| {
            error.hint("add a matrix with these cells to the file, and write its expectations as [[expect]] tables")
        })?;
    output::print(&addition)?;
    if *write {
        let appended = File::options().append(true).open(matrix_file);
        appended.and_then(|mut file| file.write_all(addition.as_bytes())).map_err(EngineError::named(matrix_file))?;
        tell(format_args!("appended to {}\n", matrix_file.display()));
    }
    Ok(Exit::Ok)
}

/// How a cell ended, as far as an expectation names it.
struct KnownEnd {
    /// The failed probes of a loss.
    failed: Vec<String>,
    tainted: Vec<String>,
    title: String,
    refusal: Option<Refusal>,
    side: Option<Side>,
    phase: Phase,
}

fn ends(record: &Record) -> io::Result<HashMap<CellId, KnownEnd>> {
    let end = |cell: io::Result<CellRecord>| {
        let CellRecord { id, outcome, probes, tainted, title, refusal, side, phase, .. } = cell?;
        let names = ProbeNames::of(&probes).failed;
        let failed = names.into_iter().filter(|_| outcome == Outcome::Lost).map(str::to_owned).collect();
        Ok((id, KnownEnd { failed, tainted, title, refusal, side, phase }))
    };
    record.cells().map(end).collect()
}
