//! `luqual doctor`: can a run start here, and if not, what to do.

use crate::arguments::{KernelArgs, MachineArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output;
use clap::Args;
use luqual_engine::{Condition, examine};

/// What to look at.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Looks, prints, and exits with 0 only if a run can start.
pub(crate) async fn run(command: &Doctor, here: &Here<'_>) -> Result<Exit, CliError> {
    let conditions = examine(&here.engine, &command.machine.choice(), &command.kernels.source()).await?;
    for Condition { what, says, todo, optional } in &conditions {
        let mark = match (todo, optional) {
            (None, _) => "ok  ",
            (Some(_), true) => "note",
            (Some(_), false) => "FAIL",
        };
        output::line(format_args!("{mark} {what:<15} {says}"))?;
        if let Some(todo) = todo {
            output::line(format_args!("     {:<15} → {todo}", ""))?;
        }
    }
    let ready = conditions.iter().all(|condition| condition.todo.is_none() || condition.optional);
    output::line(if ready { "a run can start" } else { "a run cannot start" })?;
    Ok(if ready { Exit::Ok } else { Exit::Harness })
}
