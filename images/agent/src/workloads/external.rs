//! `external.*`: test programs of other projects, which run with `-s 1` in the source and with `-s 2` in the target.

use crate::ktap::{End, Output, SKIPPED, run};
use crate::log::say;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use luqual_protocol::{EXTERNAL, program_path};
use std::path::Path;

/// The case of a program. It lives until this process ends.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    name.starts_with(EXTERNAL).then(|| {
        let name = Box::leak(name.into());
        &*Box::leak(Box::new(Case { source: before, target: after, ..Case::new(name) }))
    })
}

/// A program that does not end well has preserved nothing that is known. That counts as a refusal.
fn before(context: &mut Context) -> Result<(), StepError> {
    let output = stage(context, "-s 1")?;
    match output.end {
        End::Exit(0) => {
            context.add_probes(output.probes("-s 1", false));
            Ok(())
        }
        End::Exit(SKIPPED) => Err(StepError::Missing(output.reason())),
        end => {
            let call = format!("{} -s 1", context.name());
            Err(StepError::Declined { call, how: end.to_string(), about: output.reason() })
        }
    }
}

fn after(context: &mut Context) -> Result<(), StepError> {
    let output = stage(context, "-s 2")?;
    context.add_probes(output.probes("-s 2", true));
    Ok(())
}

fn stage(context: &mut Context, stage: &str) -> Result<Output, StepError> {
    // /dev/liveupdate opens once at a time.
    context.close_device();
    let name = context.name();
    let path = program_path(name).ok_or_else(|| StepError::Agent(format!("{name} is not a program")))?;
    let words: Vec<&str> = stage.split(' ').collect();
    let output = run(Path::new(&path), &words).map_err(StepError::Agent)?;
    for line in output.lines.iter().filter(|line| !line.is_empty()) {
        say(&format!("luqual-agent: {name} {stage}: {line}"));
    }
    Ok(output)
}
