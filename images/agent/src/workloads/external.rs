//! `external.*`: test programs of other projects, which run with `-s 1` in the source and with `-s 2` in the target.

use crate::log::say;
use crate::program::run;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use luqual_ktap::Verdict;
use luqual_protocol::{EXTERNAL, Probe, program_path};
use std::time::Duration;

/// How long a program runs if nobody said: what a user types at the prompt.
const PATIENCE: Duration = Duration::from_secs(25);

/// The case of a program. It lives until this process ends.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    name.starts_with(EXTERNAL).then(|| {
        let name = Box::leak(name.into());
        &*Box::leak(Box::new(Case { source: before, target: after, ..Case::new(name) }))
    })
}

/// A program that gives up has preserved nothing that is known. That counts as a refusal.
fn before(context: &mut Context) -> Result<(), StepError> {
    let stage = "-s 1";
    let verdict = run_stage(context, stage)?;
    if let Some(end) = verdict.stopped() {
        let call = format!("{} {stage}", context.name());
        return Err(StepError::Declined { call, how: end.to_string(), about: verdict.reason() });
    }
    if let Some(why) = verdict.skipped() {
        return Err(StepError::Missing(why));
    }
    context.add_probes(verdict.probes(stage, false));
    Ok(())
}

/// What was preserved has to be found: a program that skips all here has lost it.
fn after(context: &mut Context) -> Result<(), StepError> {
    let stage = "-s 2";
    let verdict = run_stage(context, stage)?;
    context.add_probes(verdict.probes(stage, true));
    Ok(())
}

fn run_stage(context: &mut Context, stage: &str) -> Result<Verdict, StepError> {
    // /dev/liveupdate opens once at a time.
    context.close_device();
    let name = context.name();
    let path = program_path(name).ok_or_else(|| StepError::Agent(format!("{name} is not a program")))?;
    let words: Vec<&str> = stage.split(' ').collect();
    let ended = run(&path, &words, context.limit().unwrap_or(PATIENCE)).map_err(StepError::Agent)?;
    for line in ended.output.lines().iter().filter(|line| !line.is_empty()) {
        say(&format!("luqual-agent: {name} {stage}: {line}"));
    }
    if ended.output.cut > 0 {
        let observed = format!("all of it; {} bytes in the middle are not kept", ended.output.cut);
        let (name, expected) = (format!("{stage} output read"), "all of it".to_owned());
        context.add_probes(vec![Probe { name, expected, observed, passed: true }]);
    }
    context.hold_child(ended.around);
    Ok(ended.verdict)
}
