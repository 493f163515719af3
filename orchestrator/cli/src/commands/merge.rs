//! `luqual report merge`: the parts of a run become one, with their evidence.

use super::summary;
use crate::arguments::{Demand, exit_of};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use clap::Args;
use luqual_engine::{Finished, merge};
use std::path::PathBuf;

/// What to merge.
#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The folders or ids of all parts, in any order
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The folder of the merged run; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    demand: Demand,
}

/// Merges them, and exits as a run of the whole would.
pub(crate) fn run(command: &Merge, here: &Here<'_>) -> Result<Exit, CliError> {
    let Finished { record, folder } = merge(&here.engine, &command.runs, command.report_dir.as_deref())?;
    summary::print(&record, &folder)?;
    Ok(exit_of(&record, command.demand.demand()))
}
