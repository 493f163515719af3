//! `luqual bench`: what the tool costs, as a ratio to a bare shell script in the same run.

use crate::arguments::{KernelArgs, MachineArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output::{Lines, line};
use clap::Args;
use luqual_engine::{BenchRequest, Cost, Measured, ScaleTotals, Taken, bench, scale};

/// What to measure.
#[derive(Args, Debug)]
#[command(after_help = "\
Each round runs one cell with luqual, and the same kernels and the same work
with a bare shell script around QEMU, one after the other, and divides the two
times. Compare the ratio between hosts; the seconds depend on the machine.

With --cells nothing is booted: that many cells are planned, run on a simulated
machine, and reported, to measure how much time and memory luqual itself needs.")]
pub(crate) struct Bench {
    /// The kernel before the kexec
    #[arg(long, value_name = "KERNEL", default_value = "7.2.12")]
    source: String,
    /// The kernel after the kexec: a name of `luqual kernels list`, or a path as in
    /// `luqual run`
    #[arg(long, value_name = "KERNEL", default_value = "7.3.4")]
    target: String,
    /// Number of pairs of measurements, after one that does not count
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Plan, run and report this many cells without any machine instead
    #[arg(long, value_name = "N", conflicts_with_all = ["source", "target", "rounds"],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cells: Option<u32>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Measures and prints.
pub(crate) async fn run(command: &Bench, here: &Here<'_>) -> Result<Exit, CliError> {
    if let Some(cells) = command.cells {
        return run_scale(cells as usize, command, here).await;
    }
    let Bench { source, target, rounds, .. } = command;
    let request = BenchRequest {
        source: source.clone(),
        target: target.clone(),
        rounds: *rounds,
        machine: command.machine.choice(),
        kernels: command.kernels.source(),
    };
    let lines = Lines::default();
    let tell = |measured: Measured<'_>| match measured {
        Measured::Begins(workload, accel) => {
            lines.write(format_args!("{source} → {target} {workload} with {accel}, {rounds} rounds"));
        }
        Measured::Round(round, ours, bare) => {
            let (ours, bare) = (ours.as_secs_f64(), bare.as_secs_f64());
            let counted = if round == 0 { " (not counted)" } else { "" };
            let ratio = ours / bare;
            lines.write(format_args!(
                "round {round:>2}: luqual {ours:.2} s, script {bare:.2} s, ratio {ratio:.3}{counted}"
            ));
        }
    };
    let Cost { ratios, phases } = bench(&here.engine, &request, &tell).await?;
    lines.end()?;
    let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
    line(format_args!(
        "ratio: median {:.3}, quartiles {:.3} to {:.3}, all {:.3} to {:.3}",
        at(0.5),
        at(0.25),
        at(0.75),
        at(0.0),
        at(1.0)
    ))?;
    line("where luqual's time goes, median per phase:")?;
    phases.iter().try_for_each(|(phase, us)| line(format_args!("  {phase:<10} {:>6} ms", us / 1000)))?;
    Ok(Exit::Ok)
}

async fn run_scale(count: usize, command: &Bench, here: &Here<'_>) -> Result<Exit, CliError> {
    line(format_args!("{count} cells on a simulated machine: the time and memory of luqual itself"))?;
    line(format_args!("{:<20} {:>8} {:>10} {:>10}", "", "seconds", "RSS, MiB", "file, MiB"))?;
    let lines = Lines::default();
    let tell = |Taken { what, time, resident_mib, file_mib }: Taken| {
        let file = file_mib.map_or_else(String::new, |size| format!("{size:.1}"));
        lines.write(format_args!("{what:<20} {:>8.2} {resident_mib:>10.1} {file:>10}", time.as_secs_f64()));
    };
    let totals = scale(&here.engine, count, &command.kernels.source(), &tell).await?;
    lines.end()?;
    let ScaleTotals { cells, lost, not_run } = totals;
    line(format_args!("{cells} cells, {lost} lost, {not_run} not run"))?;
    Ok(Exit::Ok)
}
