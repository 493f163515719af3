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
The file has the record of the cell and of those that shared its boot, their kernels with symbols, programs of a matrix file, and
the logs. `luqual repro FILE` makes the cell again wherever there are this luqual and QEMU. It is a gzipped tar; unpacked it
is a run's folder: `luqual report show FOLDER`. Memory that was kept (ram, initrd, vmcore) is left out.

Examples:
  luqual bundle 20261126-061541-2f31 7.2.12_7.3.4_q35-intel_memfd.basic -o red.tar.gz
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
