//! One module per command.

pub(crate) mod attended;
pub(crate) mod bench;
pub(crate) mod bisect;
pub(crate) mod bundle;
pub(crate) mod doctor;
pub(crate) mod execute;
pub(crate) mod expect;
pub(crate) mod go_on;
pub(crate) mod history;
pub(crate) mod kernels;
pub(crate) mod machine;
pub(crate) mod merge;
pub(crate) mod mutants;
pub(crate) mod partition;
pub(crate) mod plan;
pub(crate) mod qualify;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod repro;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod selection;
pub(crate) mod selftests;
pub(crate) mod shell;
pub(crate) mod slurm;
pub(crate) mod workloads;

use crate::error::CliError;
use clap::Args;
use luqual_kernels::{Catalog, Entry, Store, cache_folder};
use std::path::PathBuf;

/// Where kernels come from; the same for every command that asks for one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kernels")]
pub(crate) struct KernelSource {
    /// A catalog instead of luqual's own; its fragments and whole configurations are in config/ beside it
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Where Debian's source packages are: a URL or a folder [default: the mirror of this host's apt]
    #[arg(long, value_name = "URL|FOLDER")]
    debian_mirror: Option<String>,
}

impl KernelSource {
    /// The store.
    pub(crate) fn store(&self) -> Result<Store, CliError> {
        self.store_with([])
    }

    /// The store, with these kernels besides those of the catalog.
    pub(crate) fn store_with(&self, entries: impl IntoIterator<Item = Entry>) -> Result<Store, CliError> {
        let catalog = Catalog::load(self.catalog.as_deref())?.with(entries);
        Ok(Store::new(cache_folder(), catalog, self.debian_mirror.clone()))
    }
}
