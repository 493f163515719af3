//! `luqual qualify`: may a host that runs this be live-updated to that?

use super::execute::{Ended, Execution, There, execute};
use super::selection::{Pairs, Selection};
use crate::error::{CliError, Exit};
use crate::output;
use clap::Args;
use luqual_reports::Qualification;
use luqual_runner::JOURNAL;
use std::fs;

/// From what to what.
#[derive(Args, Debug)]
#[command(after_help = "\
Asked is every workload, but for those that no released kernel passes, which --workload '*' asks too, and those that take
minutes, which are asked by their full names (`luqual workloads show` says which is which). GO only if every one of them survived, untainted, every time. Anything else is NO-GO, whether it was expected or
not: the reasons come worst first, then what could not be tested. The page that is printed stands in the run's folder as
qualification.txt and qualification.html, beside the run's report.

Exit codes: 0 GO; 1 NO-GO; 2 a mistake in what was asked for; 3 the tool or its host failed before anything could be said;
130 ended by the user.")]
pub(crate) struct Qualify {
    /// The kernel that hosts run: a name of `luqual kernels list`, or a path
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The kernel that they would be updated to
    #[arg(value_name = "TARGET")]
    target: String,
    /// How often each workload has to survive, with seeded random delays around preserve and kexec
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    execution: Execution,
}

/// Runs it.
pub(crate) async fn run(command: &Qualify) -> Result<Exit, CliError> {
    let store = command.execution.kernels.store()?;
    let pair = Pairs::One(&command.source, &command.target);
    let chosen = command.selection.choose(&store, pair, |workload| workload.qualifies)?;
    let (record, folder) = match execute(&store, &chosen, &command.execution, command.repeat, There::Refused).await? {
        Ended::Run(record, folder) => (record, folder),
        Ended::Interrupted => return Ok(Exit::Interrupted),
    };
    let qualification = Qualification::of(&record).map_err(CliError::file(folder.join(JOURNAL).display()))?;
    let text = qualification.text(&record.run);
    for (name, content) in [("qualification.txt", &text), ("qualification.html", &qualification.html(&record.run))] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(CliError::file(path.display()))?;
    }
    output::print(&text)?;
    output::line(format_args!("page: {}", folder.join("qualification.html").display()))?;
    Ok(match qualification.go() {
        _ if record.run.interrupted => Exit::Interrupted,
        true => Exit::Ok,
        false => Exit::NotAsExpected,
    })
}
