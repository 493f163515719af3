//! `luqual workloads`: what can run in a guest.

mod description;

use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;
use clap::{Args, Subcommand};
use description::description;
use luqual_engine::{Profiles, Registry, matrix_file, open_store};
use luqual_runner::Program;
use std::path::PathBuf;

/// What to do with workloads.
#[derive(Subcommand, Debug)]
pub(crate) enum Workloads {
    /// List all workloads, one per line: its name and what it asserts
    List {
        #[command(flatten)]
        known: ProgramSource,
    },
    /// Show workloads: what each asserts, the source of its rule, the fault that it finds, what the outcomes mean
    Show {
        /// Names or globs
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        known: ProgramSource,
    },
}

/// What brings workloads besides luqual's own.
#[derive(Args, Debug)]
pub(crate) struct ProgramSource {
    /// The matrix file with programs that run as workloads [default: luqual's own]
    #[arg(long, value_name = "FILE")]
    matrix_file: Option<PathBuf>,
    #[command(flatten)]
    kernels: KernelArgs,
}

impl ProgramSource {
    fn registry(&self) -> Result<Registry, CliError> {
        let store = open_store(&self.kernels.source())?;
        let file = matrix_file(self.matrix_file.as_deref(), &store)?;
        Ok(Registry::new(&file.programs, Profiles::default(), &store)?)
    }
}

/// Runs it.
pub(crate) fn run(command: &Workloads) -> Result<Exit, CliError> {
    match command {
        Workloads::List { known } => {
            let registry = known.registry()?;
            let width = registry.all().map(|workload| workload.name.len()).max().unwrap_or_default();
            for workload in registry.all() {
                output::line(format_args!("{:<width$} {}", workload.name, workload.asserts))?;
            }
        }
        Workloads::Show { names, known } => {
            let registry = known.registry()?;
            for (number, workload) in registry.matching(names)?.into_iter().enumerate() {
                if number > 0 {
                    output::line("")?;
                }
                output::line(description(workload))?;
                if let Some(Program::Missing(why)) = registry.program(workload.name) {
                    output::line(format_args!("  skipped   {why}"))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}
