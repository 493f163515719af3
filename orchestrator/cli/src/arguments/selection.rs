//! Which cells.

use clap::Args;
use luqual_config::{FILTER_SYNTAX, parse_memory};
use luqual_engine::{MachineSize, Otherwise, Pairs, Part, Selection};
use std::path::{Path, PathBuf};

/// One pair or a matrix.
#[derive(Args, Debug)]
pub(crate) struct What {
    /// The kernel before the kexec: a name of `luqual kernels list`, or the path of an image, of
    /// a build tree, or of packages (several joined by +, or a folder of them)
    #[arg(long, value_name = "KERNEL", requires = "target")]
    source: Option<String>,
    /// The kernel after the kexec: a name of `luqual kernels list`, or the path of an image, of
    /// a build tree, or of packages (several joined by +, or a folder of them)
    #[arg(long, value_name = "KERNEL", requires = "source")]
    target: Option<String>,
    /// A named matrix instead of one pair
    #[arg(long, value_name = "NAME", conflicts_with_all = ["source", "target"], default_value = "default")]
    matrix: String,
    /// Run only the K-th of N parts, such as 2/8; `luqual report merge` joins the parts
    #[arg(long, value_name = "K/N")]
    pub(crate) partition: Option<Part>,
}

impl What {
    pub(crate) fn pairs(&self) -> Pairs {
        match (&self.source, &self.target) {
            (Some(source), Some(target)) => Pairs::One(source.clone(), target.clone()),
            _ => Pairs::Matrix(self.matrix.clone()),
        }
    }
}

/// Which cells of the pairs that were asked for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectionArgs {
    /// The file with matrices, machines and expectations [default: luqual's own]
    #[arg(long, value_name = "FILE")]
    matrix_file: Option<PathBuf>,
    /// Workloads, by name or glob; can be repeated. A few run only if they are named in full: `luqual workloads show`
    /// says so, and why [default: all others, or the matrix's]
    #[arg(long, value_name = "GLOB")]
    workload: Vec<String>,
    /// Machine profile (see `luqual machines list`), instead of the one that each workload declares; can be repeated
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// Run only the cells that an expression matches, such as 'source(<7.1) & target(>=7.1)'
    #[arg(long, value_name = "EXPRESSION", long_help = filter_help())]
    filter: Option<String>,
}

/// The size of each machine.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct SizeArgs {
    /// Memory of each machine, such as 8G or 900M [default: as its profile says, 1G]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Machine")]
    memory: Option<u64>,
    /// Processors of each machine [default: as its profile says, 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Machine")]
    cpus: Option<u32>,
}

impl SizeArgs {
    pub(crate) fn size(self) -> MachineSize {
        MachineSize { memory_mib: self.memory, cpus: self.cpus }
    }
}

fn filter_help() -> String {
    format!("Run only the cells that an expression matches: {FILTER_SYNTAX}. For example 'source(<7.1) & !target(7.3)'")
}

impl SelectionArgs {
    pub(crate) fn matrix_file(&self) -> Option<&Path> {
        self.matrix_file.as_deref()
    }

    /// `otherwise` says what is asked where no workloads are named.
    pub(crate) fn selection(&self, otherwise: Otherwise) -> Selection {
        Selection {
            matrix_file: self.matrix_file.clone(),
            workloads: self.workload.clone(),
            profiles: self.profile.clone(),
            size: self.size.size(),
            filter: self.filter.clone(),
            otherwise,
        }
    }
}
