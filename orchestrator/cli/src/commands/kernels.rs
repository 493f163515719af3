//! `luqual kernels`: what can be built, what is there, and what it is.

mod description;

use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Subcommand;
use description::description;
use luqual_engine::{EngineError, build_kernel, open_store};
use luqual_kernels::{Entry, Kernel, Store};

/// What to do with kernels.
#[derive(Subcommand, Debug)]
pub(crate) enum Kernels {
    /// List the catalog: name, whether it is built, and where it comes from
    List {
        #[command(flatten)]
        source: KernelArgs,
    },
    /// Build kernels of the catalog into the store, if they are not there
    #[command(after_help = "\
A kernel needs a download of about 165 MB, 3 GB of disk during the build, 90 MB
afterwards, and six minutes on two cores. The same catalog entry and the same
compiler give the same bytes on every host.")]
    Build {
        /// Names of `luqual kernels list`
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
        /// Build again, even if the kernel is in the store
        #[arg(long)]
        rebuild: bool,
        #[command(flatten)]
        source: KernelArgs,
    },
    /// Show what is known of a kernel: release, ABI strings, capabilities, sizes
    Show {
        /// A name of `luqual kernels list`, a bzImage, or a kernel's build folder
        #[arg(value_name = "VERSION|PATH")]
        kernel: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: KernelArgs,
    },
}

/// Runs it.
pub(crate) async fn run(command: &Kernels, here: &Here<'_>) -> Result<Exit, CliError> {
    let (Kernels::List { source } | Kernels::Build { source, .. } | Kernels::Show { source, .. }) = command;
    let store = open_store(&source.source())?;
    match command {
        Kernels::List { .. } => list(&store),
        Kernels::Build { versions, rebuild, .. } => build(&store, versions, *rebuild, here).await,
        Kernels::Show { kernel, json, .. } => show(&store, kernel, *json),
    }
}

fn list(store: &Store) -> Result<Exit, CliError> {
    for entry in store.catalog().entries() {
        let state = if store.ready(entry)?.is_some() { "built" } else { "not built" };
        output::line(format_args!("{:<15} {state:<10} {}", entry.version, entry.provenance()))?;
    }
    Ok(Exit::Ok)
}

async fn build(store: &Store, versions: &[String], rebuild: bool, here: &Here<'_>) -> Result<Exit, CliError> {
    for entry in entries(store, versions)? {
        if rebuild {
            store.forget(entry)?;
        }
        let kernel = build_kernel(&here.engine, store, &entry.version).await?;
        output::line(format_args!("{:<15} built      {}", entry.version, kernel.image.display()))?;
    }
    Ok(Exit::Ok)
}

/// The entries of these names; all are looked at before anything is made of the first.
pub(crate) fn entries<'a>(store: &'a Store, versions: &[String]) -> Result<Vec<&'a Entry>, CliError> {
    versions.iter().map(|version| store.catalog().find(version).ok_or_else(|| unknown(store, version))).collect()
}

fn unknown(store: &Store, version: &str) -> CliError {
    CliError::usage(format!("the catalog has no kernel `{version}`"))
        .hint(format!("it has {}", store.catalog().versions().join(", ")))
}

fn show(store: &Store, spec: &str, json: bool) -> Result<Exit, CliError> {
    let Some(Kernel { info, .. }) = store.find(spec)? else {
        return Err(
            CliError::usage(format!("kernel {spec} is not built")).hint(format!("run `luqual kernels build {spec}`"))
        );
    };
    if json {
        let text = serde_json::to_string_pretty(&info).map_err(EngineError::own("JSON"))?;
        output::line(&text)?;
    } else {
        output::print(description(&info, store.catalog().find(spec)))?;
    }
    Ok(Exit::Ok)
}
