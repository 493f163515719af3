//! `external.*`: programs of other people, which are run with `-s 1` in the source and with `-s 2` in the target.

use super::{Case, Scene, StepError};
use crate::log::say;
use crate::program::{End, SKIPPED, Told, run};
use luqual_protocol::{EXTERNAL, program_path};
use std::path::Path;

/// The case of a program, which lives as long as the process that asks for it.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    name.starts_with(EXTERNAL).then(|| {
        let name = Box::leak(name.into());
        &*Box::leak(Box::new(Case { source: before, target: after, ..Case::new(name) }))
    })
}

/// One that does not end well has preserved nothing, as far as anyone can know: that is a refusal.
fn before(scene: &mut Scene) -> Result<(), StepError> {
    let told = stage(scene, "-s 1")?;
    match told.end {
        End::Exit(0) => {
            scene.add(told.probes("-s 1", false));
            Ok(())
        }
        End::Exit(SKIPPED) => Err(StepError::Missing(told.why())),
        end => {
            let call = format!("{} -s 1", scene.name());
            Err(StepError::Declined { call, how: end.to_string(), about: told.why() })
        }
    }
}

fn after(scene: &mut Scene) -> Result<(), StepError> {
    let told = stage(scene, "-s 2")?;
    scene.add(told.probes("-s 2", true));
    Ok(())
}

fn stage(scene: &mut Scene, stage: &str) -> Result<Told, StepError> {
    // The device is open once at a time.
    scene.close_device();
    let name = scene.name();
    let path = program_path(name).ok_or_else(|| StepError::Agent(format!("{name} is no program")))?;
    let words: Vec<&str> = stage.split(' ').collect();
    let told = run(Path::new(&path), &words).map_err(StepError::Agent)?;
    for line in told.lines.iter().filter(|line| !line.is_empty()) {
        say(&format!("luqual-agent: {name} {stage}: {line}"));
    }
    Ok(told)
}
