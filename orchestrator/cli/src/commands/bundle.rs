//! `luqual bundle`: one cell of a run with all that it takes to make it again elsewhere, as one file.

use crate::arguments::KernelArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Args;
use luqual_engine::{BundleRequest, Packed, pack};
use std::path::PathBuf;

/// What to pack.
#[derive(Args, Debug)]
#[command(after_help = "\
The file has the record of the cell and of the cells in the same boot, their
kernels with symbols, the programs of the matrix file, and the logs. `luqual
repro FILE` runs the cell again on any host with the same luqual and QEMU. The
file is a gzipped tar; unpacked, it is the folder of a run: `luqual report show
FOLDER`. The bundle leaves out kept memory (ram, initrd, vmcore).

Examples:
  luqual bundle 20261126-061541-2f31 7.3.4_q35-intel_memfd.basic -o red.tar.gz
  luqual repro red.tar.gz")]
pub(crate) struct Bundle {
    /// The run's folder, or its id
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The cell's id as reports show it, or a part of it
    #[arg(value_name = "CELL")]
    cell: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Packs it.
pub(crate) async fn run(command: &Bundle, here: &Here<'_>) -> Result<Exit, CliError> {
    let request = BundleRequest {
        run: command.run.clone(),
        cell: command.cell.clone(),
        output: command.output.clone(),
        kernels: command.kernels.source(),
    };
    let Packed { cell, size } = pack(&here.engine, &request).await?;
    output::line(format_args!("{}: {} MiB, {cell}", command.output.display(), size.div_ceil(1 << 20)))?;
    let again = luqual_reports::command(&["luqual", "repro", &command.output.to_string_lossy()]);
    output::line(format_args!("again: {again}"))?;
    Ok(Exit::Ok)
}
