//! `luqual selftests`: kernels' own programs for live update, which a matrix file makes workloads.

use super::kernels::entries;
use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Subcommand;
use luqual_engine::{Building, open_store};
use luqual_kernels::Selftests as Built;

/// What to do with selftests.
#[derive(Subcommand, Debug)]
pub(crate) enum Selftests {
    /// List the programs that are built: kernel, program, file
    List {
        #[command(flatten)]
        source: KernelArgs,
    },
    /// Build the programs in tools/testing/selftests/liveupdate of kernels of the catalog, if they are not there
    #[command(after_help = "\
They are linked statically, with the headers of their own kernel, and kept
beside the kernels that luqual builds. It takes the kernel's source (165 MB of
download, 3 GB of disk while they are built) and a minute, but not the kernel. A
program of two stages (-s 1 before the kexec, -s 2 after it) is a workload once
a matrix file says so:

    [program.kexec-simple]
    selftest = \"luo_kexec_simple\"
    version = \"7.3.4\"

luqual's own matrix.toml has the four of 7.3.4 as external.*; `path = \"FILE\"`
in place of both takes any static program.")]
    Build {
        /// Names of `luqual kernels list`
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
        #[command(flatten)]
        source: KernelArgs,
    },
}

/// Runs it.
pub(crate) async fn run(command: &Selftests, here: &Here<'_>) -> Result<Exit, CliError> {
    match command {
        Selftests::List { source } => {
            let store = open_store(&source.source())?;
            for entry in store.catalog().entries() {
                if let Some(built) = store.selftests(entry)? {
                    list(&entry.version, &built)?;
                }
            }
        }
        Selftests::Build { versions, source } => {
            let store = open_store(&source.source())?;
            for entry in entries(&store, versions)? {
                let building = Building(here.engine.listener);
                let built = here.engine.unless_interrupted(store.build_selftests(entry, &building)).await?;
                list(&entry.version, &built)?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn list(version: &str, built: &Built) -> Result<(), CliError> {
    for program in &built.programs {
        output::line(format_args!("{version:<15} {program:<20} {}", built.folder.join(program).display()))?;
    }
    Ok(())
}
