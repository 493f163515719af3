//! `luqual qualify`: may a host that runs this be live-updated to that, and back?

use crate::arguments::{Execution, SelectionArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Args;
use luqual_engine::{Otherwise, Pairs, QUALIFICATION_PAGE, RunRequest, policy, qualify};

/// From what to what.
#[derive(Args, Debug)]
#[command(after_help = "\
The update is judged, and the way back, and each of the two kernels into itself;
with --one-way the update alone. Each has an answer of its own.

Every workload runs, except those that no released kernel passes, which
--workload '*' includes, and those that run only if they are named in full
(`luqual workloads show` says so, and why). An answer is GO only if every
cell survived, untainted, every time. Anything else is NO-GO, even if it was
expected. The reasons come by what they mean, the worst first: machine lost,
isolation broken, data lost, property changed, resource leaked, limit reached;
first what is new in this pair, then what is known of released kernels, then
what could not be tested.

A team's own rule is a policy of its matrix file:

    [policy.fleet]
    require = [\"memfd.*\", \"vmm.*\"]
    repeat = 10
    [[policy.fleet.accept]]
    workload = \"memfd.name\"
    reason = \"nobody reads the name\"
    until = \"2027-06-30\"

What is accepted has to end as the expectations say; any other end is a reason.
The page is also written into the run's folder as qualification.txt and
qualification.html, beside the run's report.

Exit codes: 0 every answer is GO; 1 one is NO-GO; 2 a mistake in the arguments;
3 the tool or its host failed before there was a result; 130 ended by the user.")]
pub(crate) struct Qualify {
    /// The kernel that the hosts run: a name of `luqual kernels list`, or a path as in
    /// `luqual run`
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The kernel to update the hosts to
    #[arg(value_name = "TARGET")]
    target: String,
    /// Judge the update alone: neither the way back nor the kernels into themselves
    #[arg(long)]
    one_way: bool,
    /// How often each workload has to survive, with random delays around preserve and kexec [default: as the policy says, or
    /// 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// The rule to judge by: a policy of the matrix file [default: luqual's own, everything survives]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    execution: Execution,
}

/// Runs it.
pub(crate) async fn run(command: &Qualify, here: &Here<'_>) -> Result<Exit, CliError> {
    let (source, target) = (command.source.clone(), command.target.clone());
    let pairs = if command.one_way { Pairs::One(source, target) } else { Pairs::BothWays(source, target) };
    let policy =
        policy(command.policy.as_deref(), command.selection.matrix_file(), &command.execution.kernels.source())?;
    let repeat = command.repeat.or(policy.repeat).unwrap_or(3);
    let request = RunRequest {
        selection: command.selection.selection(Otherwise::Required(policy.require.clone())),
        ..command.execution.request(pairs, repeat)?
    };
    let interactive = command.execution.interactive();
    here.words.be_plain(interactive.console.is_some());
    let (run, qualification) = qualify(&here.engine, &request, &policy, interactive).await?;
    output::print(qualification.text(&run.record.run))?;
    output::line(format_args!("page: {}", run.folder.join(QUALIFICATION_PAGE).display()))?;
    Ok(match qualification.go() {
        _ if run.record.run.interrupted => Exit::Interrupted,
        true => Exit::Ok,
        false => Exit::NotAsExpected,
    })
}
