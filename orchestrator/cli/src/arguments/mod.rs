//! Arguments that several commands have, and what is asked for by them.

mod execution;
mod selection;

pub(crate) use execution::{Demand, Execution, InteractiveArgs, KeptArgs, MachineArgs, exit_of};
pub(crate) use selection::{SelectionArgs, SizeArgs, What};

use clap::Args;
use luqual_engine::KernelSource;
use std::path::PathBuf;

/// Where kernels come from; the same for every command that asks for one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kernels")]
pub(crate) struct KernelArgs {
    /// A kernel catalog instead of luqual's own; its configuration fragments are in config/ beside it
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// The mirror with Debian's source packages: a URL or a folder [default: the mirror of this host's apt]
    #[arg(long, value_name = "URL|FOLDER")]
    debian_mirror: Option<String>,
}

impl KernelArgs {
    pub(crate) fn source(&self) -> KernelSource {
        KernelSource { catalog: self.catalog.clone(), debian_mirror: self.debian_mirror.clone() }
    }
}
