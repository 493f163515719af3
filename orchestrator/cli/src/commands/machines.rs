//! `luqual machines`: the machine profiles that cells run on.

use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;
use clap::{Args, Subcommand};
use luqual_config::machine_as_toml;
use luqual_engine::{MachineSize, Profiles, matrix_file, open_store};
use std::path::PathBuf;

/// What to do with machines.
#[derive(Subcommand, Debug)]
pub(crate) enum Machines {
    /// List all machines, one per line: its name and a summary
    List {
        #[command(flatten)]
        known: MachineSource,
    },
    /// Show machines as a matrix file has them, with all that they inherit
    #[command(after_help = "\
A matrix file can have machines of its own. What an entry does not say, it
inherits:

    [machine.two-nodes]
    inherits = \"vfio-intel\"
    sockets = 2
    nodes = [{ memory = \"4G\", cpus = \"0\" }, { memory = \"4G\", cpus = \"1\" }]

    luqual run --source 7.2.12 --target 7.3.4 --matrix-file FILE \\
        --profile two-nodes

docs/machines.md explains each key.")]
    Show {
        /// Names of `luqual machines list`
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        known: MachineSource,
    },
}

/// What brings machines besides luqual's own.
#[derive(Args, Debug)]
pub(crate) struct MachineSource {
    /// The matrix file with further machines [default: luqual's own]
    #[arg(long, value_name = "FILE")]
    matrix_file: Option<PathBuf>,
    #[command(flatten)]
    kernels: KernelArgs,
}

impl MachineSource {
    fn profiles(&self) -> Result<Profiles, CliError> {
        let store = open_store(&self.kernels.source())?;
        let file = matrix_file(self.matrix_file.as_deref(), &store)?;
        Ok(Profiles::new(&file.machines, MachineSize::default()))
    }
}

/// Runs it.
pub(crate) fn run(command: &Machines) -> Result<Exit, CliError> {
    match command {
        Machines::List { known } => {
            let profiles = known.profiles()?;
            let width = profiles.all().map(|profile| profile.name.len()).max().unwrap_or_default();
            for profile in profiles.all() {
                output::line(format_args!("{:<width$} {}", profile.name, profile.summary))?;
            }
        }
        Machines::Show { names, known } => {
            let profiles = known.profiles()?;
            for (number, name) in names.iter().enumerate() {
                if number > 0 {
                    output::line("")?;
                }
                output::line(machine_as_toml(profiles.find(name)?).trim_end())?;
            }
        }
    }
    Ok(Exit::Ok)
}
