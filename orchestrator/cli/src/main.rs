//! `luqual`: arguments, commands, one error printer, exit codes.

mod arguments;
mod commands;
#[cfg(test)]
mod documented;
mod error;
mod exit;
mod gdb;
mod here;
mod output;
mod progress;
mod session_input;
mod signals;
mod terminal;
mod words;

use clap::{Parser, Subcommand};
use commands::{
    bench, bisect, bundle, doctor, expect, kernels, machines, mutants, plan, qualify, report, repro, run, selftest,
    selftests, shell, workloads,
};
use error::CliError;
use exit::Exit;
use here::Here;
use luqual_engine::{Context, EngineError, QemuMachines};
use luqual_vm::{Launcher, SUBCOMMAND, exec_with_parent};
use std::process::ExitCode;
use tokio::sync::watch;
use words::Words;

/// What writes records.
const TOOL: &str = concat!("luqual ", env!("CARGO_PKG_VERSION"), " (", env!("LUQUAL_COMMIT"), ")");

#[derive(Parser)]
#[command(name = "luqual", version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LUQUAL_COMMIT"), ")"))]
#[command(about = "Qualifies live updates of the Linux kernel: what survives a kexec from one version into another")]
#[command(after_help = "\
Exit codes: 0 every cell is as expected; 1 a cell is not, or none ran; 2 a
mistake in the arguments; 3 the tool or its host failed; 130 ended by the user
(SIGINT, SIGTERM or SIGHUP).")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run workloads over pairs of kernels, and report what survived
    Run(Box<run::RunArgs>),
    /// Say whether a host that runs one kernel may be live-updated to another: GO or NO-GO
    Qualify(Box<qualify::Qualify>),
    /// Reproduce one cell of an earlier run with everything that it ran with
    Repro(Box<repro::Repro>),
    /// Find the first kernel, or the first commit, at which a cell changes
    Bisect(Box<bisect::Bisect>),
    /// Open a prompt in a guest before any phase: in a source, or in the target of an update
    Shell(Box<shell::Shell>),
    /// Pack one cell of a run with its kernels and logs, to reproduce it on another machine
    Bundle(Box<bundle::Bundle>),
    /// Show what a run would do: cells, boots, memory, time
    Plan(Box<plan::PlanArgs>),
    /// Show a run as text, HTML, JUnit, KTAP or Markdown, or compare two runs
    #[command(subcommand)]
    Report(report::Report),
    /// Propose the expectations that make a run as expected
    #[command(subcommand)]
    Expect(expect::Expect),
    /// Check whether a run can start on this host, and print what to do if not
    Doctor(doctor::Doctor),
    /// Compare luqual's time with that of a bare shell script that does the same
    Bench(bench::Bench),
    /// Build kernels with one fault each, and report which faults the workloads find
    Mutants(Box<mutants::Mutants>),
    /// Inject faults of every kind on this host, and show that luqual finds each of them
    Selftest(Box<selftest::Selftest>),
    /// List, build and show kernels
    #[command(subcommand)]
    Kernels(kernels::Kernels),
    /// Build and list the kernels' own selftests for live update, which run as workloads
    #[command(subcommand)]
    Selftests(selftests::Selftests),
    /// List and show the machines that cells run on
    #[command(subcommand)]
    Machines(machines::Machines),
    /// List and show workloads
    #[command(subcommand)]
    Workloads(workloads::Workloads),
}

fn main() -> ExitCode {
    // Becomes QEMU; never seen by a user, so it is not a command.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == SUBCOMMAND) {
        return become_qemu(words);
    }
    let cli = Cli::parse();
    // One thread: QEMU dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(execute(cli.command)),
        Err(error) => Err(CliError::harness(format!("the async runtime cannot start: {error}"))),
    };
    done.unwrap_or_else(|error| error.print()).into()
}

async fn execute(command: Command) -> Result<Exit, CliError> {
    let words = Words::default();
    let program = std::env::current_exe().map_err(EngineError::own("the path of this program"))?;
    let interrupt = command.interrupt()?;
    // The program is started again to become QEMU.
    let machines = QemuMachines { launcher: Launcher { program: program.clone() }, listener: &words };
    let here = &Here {
        engine: Context {
            tool: TOOL.to_owned(),
            program,
            command: std::env::args().collect(),
            listener: &words,
            machines: &machines,
            interrupt,
        },
        words: &words,
    };
    match command {
        Command::Run(command) => run::run(&command, here).await,
        Command::Qualify(command) => qualify::run(&command, here).await,
        Command::Repro(command) => repro::run(&command, here).await,
        Command::Bisect(command) => bisect::run(&command, here).await,
        Command::Shell(command) => shell::run(&command, here).await,
        Command::Bundle(command) => bundle::run(&command, here).await,
        Command::Plan(command) => plan::run(&command),
        Command::Report(command) => report::run(&command, here),
        Command::Expect(command) => expect::run(&command),
        Command::Doctor(command) => doctor::run(&command, here).await,
        Command::Bench(command) => bench::run(&command, here).await,
        Command::Mutants(command) => mutants::run(&command, here).await,
        Command::Selftest(command) => selftest::run(&command, here).await,
        Command::Kernels(command) => kernels::run(&command, here).await,
        Command::Selftests(command) => selftests::run(&command, here).await,
        Command::Machines(command) => machines::run(&command),
        Command::Workloads(command) => workloads::run(&command),
    }
}

impl Command {
    /// What turns true when the user ends it. A command that only reads is ended by its signal, at once.
    fn interrupt(&self) -> Result<watch::Receiver<bool>, CliError> {
        let announce = match self {
            Self::Plan(_)
            | Self::Report(_)
            | Self::Expect(_)
            | Self::Doctor(_)
            | Self::Machines(_)
            | Self::Workloads(_) => {
                return Ok(watch::channel(false).1);
            }
            Self::Run(_)
            | Self::Qualify(_)
            | Self::Repro(_)
            | Self::Bisect(_)
            | Self::Mutants(_)
            | Self::Selftest(_) => true,
            Self::Shell(_) | Self::Bundle(_) | Self::Bench(_) | Self::Kernels(_) | Self::Selftests(_) => false,
        };
        Ok(signals::listen(announce).map_err(EngineError::own("signals"))?)
    }
}

fn become_qemu(mut words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok());
    let (Some(parent), Some(program)) = (parent, words.next()) else {
        output::tell(format_args!("luqual: {SUBCOMMAND} is an internal command of luqual\n"));
        return Exit::Usage.into();
    };
    let error = exec_with_parent(parent, program, words.collect());
    output::tell(format_args!("luqual: QEMU was not started: {error}\n"));
    Exit::Harness.into()
}
