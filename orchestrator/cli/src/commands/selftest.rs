//! `luqual selftest`: faults that are known, and what finds them on this host.

use crate::arguments::{KernelArgs, MachineArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output::{self, Lines};
use clap::Args;
use luqual_engine::{SelftestFault, SelftestRequest, Tested, faults, selftest, write_report};
use luqual_reports::{TestedFault, selftest_junit};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

/// Which faults, and what they are injected into.
#[derive(Args, Debug)]
#[command(after_help = "\
Each fault is injected into a boot of its own, on real kernels. A table says
what has to find it: the outcome, the names of the probes that fail, the lines
that taint the cell. A fault is found if exactly that comes, and nothing else.
Before that each workload boots without a fault; where that does not survive,
nothing is said of faults in it. The faults of kind `control` harm nothing, and
nobody may find them.

Examples:
  luqual selftest
  luqual selftest --list
  luqual selftest --filter 'memory.*' --filter 'seals.*'
  luqual selftest --junit selftest.xml --report-dir out

Exit codes: 0 each fault was found as the table says; 1 some fault was not; 2 a
mistake in the arguments; 3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Selftest {
    /// List the faults and what has to find each, and run nothing
    #[arg(long, conflicts_with_all = ["jobs", "junit", "report_dir"])]
    list: bool,
    /// A glob over the names of faults; can be repeated [default: all]
    #[arg(long, value_name = "GLOB")]
    filter: Vec<String>,
    /// The kernel before the update
    #[arg(long, value_name = "KERNEL", default_value = "7.2.12")]
    source: String,
    /// The kernel after it
    #[arg(long, value_name = "KERNEL", default_value = "7.3.4")]
    target: String,
    /// The folder of the boots; it must not have runs in it [default: luqual-runs/selftest-ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    /// Write the results as JUnit to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Machines at once [default: by processors and free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Runs it.
pub(crate) async fn run(command: &Selftest, here: &Here<'_>) -> Result<Exit, CliError> {
    let chosen = faults(&command.filter)?;
    if command.list {
        return list(&chosen);
    }
    let request = SelftestRequest {
        faults: command.filter.clone(),
        pair: (command.source.clone(), command.target.clone()),
        jobs: command.jobs,
        machine: command.machine.choice(),
        kernels: command.kernels.source(),
        report_dir: command.report_dir.clone(),
    };
    let (lines, started, count) = (Lines::default(), Instant::now(), Cell::new(0));
    let tell = |tested: &Tested| {
        count.set(count.get() + 1);
        lines.write(format_args!("[{}/{}] {}", count.get(), chosen.len(), line(tested)));
    };
    let all = selftest(&here.engine, &request, &tell).await?;
    lines.end()?;
    if let Some(file) = &command.junit {
        let cases: Vec<TestedFault<'_>> = all.iter().map(case).collect();
        write_report(file, |to| selftest_junit(&cases).and_then(|xml| to.write_all(xml.as_bytes())))?;
    }
    let found = all.iter().filter(|tested| tested.is_found()).count();
    let seconds = started.elapsed().as_secs();
    output::line(format_args!(
        "{found} of {} faults found as the table says, in {} min {} s",
        all.len(),
        seconds / 60,
        seconds % 60
    ))?;
    Ok(if found == all.len() && found > 0 { Exit::Ok } else { Exit::NotAsExpected })
}

fn list(faults: &[&SelftestFault]) -> Result<Exit, CliError> {
    for fault in faults {
        let profile = fault.profile.map_or_else(String::new, |profile| format!(" on {profile}"));
        let how = format!("{}{profile}: {}", fault.workload, fault.injection.in_words());
        let expected = fault.expected.in_words();
        output::line(format_args!("{}: {}\n    {how}\n    expected: {expected}", fault.name, fault.what))?;
    }
    output::line(format_args!("{} faults", faults.len()))?;
    Ok(Exit::Ok)
}

/// One result; a fault that was not found has several lines.
fn line(tested: &Tested) -> String {
    let Tested { fault, observed, differences, took, folder } = tested;
    let observed = match observed {
        Ok(observed) if differences.is_empty() => {
            return format!("{}: {}  {:.1} s", fault.name, observed.in_words(), took.as_secs_f64());
        }
        Ok(observed) => observed.in_words(),
        Err(why) => return format!("{}: NOT TESTED: {why}", fault.name),
    };
    let mut text = format!("{}: NOT AS THE TABLE SAYS\n    expected: {}", fault.name, fault.expected.in_words());
    text.push_str(&format!("\n    observed: {observed}"));
    differences.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    text.push_str(&format!("\n    evidence: {}", folder.display()));
    text
}

fn case(tested: &Tested) -> TestedFault<'_> {
    let failure = match &tested.observed {
        Ok(_) if tested.differences.is_empty() => None,
        Ok(_) => Some(tested.differences.join("; ")),
        Err(why) => Some(format!("not tested: {why}")),
    };
    let observed = tested.observed.as_ref().map_or_else(String::clone, luqual_engine::Observed::in_words);
    TestedFault { name: tested.fault.name, observed, failure, took: tested.took }
}
