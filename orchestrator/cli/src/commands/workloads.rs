//! `luqual workloads`: what can run in a guest.

use crate::error::{CliError, Exit};
use crate::output;
use clap::Subcommand;
use luqual_protocol::WORKLOADS;

/// What to do with workloads.
#[derive(Subcommand, Debug)]
pub(crate) enum Workloads {
    /// List all workloads, one a line: name and what it asserts
    List,
}

/// Runs it.
pub(crate) fn run(command: &Workloads) -> Result<Exit, CliError> {
    match command {
        Workloads::List => {
            for workload in WORKLOADS {
                output::line(format_args!("{:<16} {}", workload.name, workload.asserts))?;
            }
            Ok(Exit::Ok)
        }
    }
}
