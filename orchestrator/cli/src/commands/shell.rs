//! `luqual shell`: a prompt in a guest, at any phase of a cell.

use crate::arguments::{InteractiveArgs, KernelArgs, MachineArgs, SizeArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::here::Here;
use crate::output::tell;
use crate::session_input::SessionInput;
use crate::terminal;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use luqual_engine::{OnTheWay, ShellRequest, TALKED_TO, shell};
use luqual_model::{Outcome, Phase};
use luqual_runner::SessionEnd;
use std::path::{Path, PathBuf};

/// Where to look around.
#[derive(Args, Debug)]
#[command(after_help = "\
With one kernel, the prompt is in that kernel. With two, the phases of a cell
run up to the phase of --at, and the prompt opens before that phase. `help` at
the prompt lists the commands: the requests that luqual sends to a guest, and
the programs that were added. Ctrl-D ends the session and the machine; Ctrl-]
does the same if the guest does not answer.

If standard input is no terminal, each of its lines is a command.

Examples:
  luqual shell 7.3.4
  luqual shell 7.2.12 7.3.4 --workload memfd.basic
      (in the target, before anything is retrieved)
  luqual shell 7.2.12 7.3.4 --at kexec --add /bin/busybox
      (in the source, all is preserved; `busybox sh` is a shell)
  echo 'verify memfd.basic' | luqual shell 7.2.12 7.3.4 --at verify

Exit codes: 0 you left the prompt; 1 the guest ended before that; 2 a mistake in
the arguments; 3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Shell {
    /// The kernel to boot
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The kernel to update to
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// The phase before which the prompt opens: up to kexec in the source, from retrieve on in the target
    #[arg(long, value_name = "PHASE", requires = "target", default_value = "retrieve", value_parser = phase())]
    at: Phase,
    /// The workload [default: memfd.basic, if there is a target]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// The machine profile [default: the workload's]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A static program to copy into the guest; can be repeated
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// The folder of the logs; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    interactive: InteractiveArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    kernels: KernelArgs,
}

fn phase() -> impl TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(TALKED_TO.map(Phase::word)).try_map(|word| Phase::from_word(&word).ok_or("no phase"))
}

/// Boots, gives the prompt, and takes all down.
pub(crate) async fn run(command: &Shell, here: &Here<'_>) -> Result<Exit, CliError> {
    let Shell { source, target, at, workload, profile, add, report_dir, .. } = command;
    let request = ShellRequest {
        source: source.clone(),
        target: target.clone(),
        at: *at,
        workload: workload.clone(),
        profile: profile.clone(),
        size: command.size.size(),
        add: add.clone(),
        report_dir: report_dir.clone(),
        interactive: command.interactive.wanted(),
        machine: command.machine.choice(),
        kernels: command.kernels.source(),
    };
    let on_the_way = |told: OnTheWay<'_>| match told {
        OnTheWay::Starts(key, folder) => {
            let folder = folder.display();
            match target {
                None => tell(format_args!("{} on {}; logs: {folder}\n", key.source, key.profile)),
                Some(target) => tell(format_args!(
                    "{} → {target} {} on {}, up to {at}; logs: {folder}\n",
                    key.source, key.workload, key.profile
                )),
            }
        }
        OnTheWay::Done(phase, us) => tell(format_args!("  {phase} {:.1} s{}", us as f64 / 1e6, terminal::line_end())),
    };
    let (visited, folder) = shell(&here.engine, &request, &SessionInput::new(), &on_the_way).await?;
    ended(visited, &folder)
}

fn ended(visited: SessionEnd, folder: &Path) -> Result<Exit, CliError> {
    let logs = format!("the logs are in {}", folder.display());
    match visited {
        SessionEnd::Left => Ok(Exit::Ok),
        SessionEnd::Interrupted => Ok(Exit::Interrupted),
        SessionEnd::Ended(Outcome::HarnessFailed, why) => Err(CliError::harness(why).hint(logs)),
        SessionEnd::Ended(outcome, why) => {
            tell(format_args!("the guest ended before the session: {outcome}: {why}\n  {logs}\n"));
            Ok(Exit::NotAsExpected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    fn read(words: &[&str]) -> Result<Shell, String> {
        let words = [&["shell"], words].concat();
        let command = Shell::augment_args(Command::new("shell"));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        Shell::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn a_prompt_stands_where_a_guest_can_be_talked_to() {
        assert_eq!(read(&["a", "b"]).unwrap().at, Phase::Retrieve);
        for phase in TALKED_TO {
            assert_eq!(read(&["a", "b", "--at", phase.word()]).unwrap().at, phase);
        }
        for phase in ["boot", "handshake", "reconnect", "teardown", "x"] {
            let told = read(&["a", "b", "--at", phase]).unwrap_err();
            let all = "possible values: preserve, load, kexec, retrieve, verify, finish, collect";
            assert!(told.contains(all), "{told}");
        }
        assert!(read(&["a", "--at", "verify"]).unwrap_err().contains("<TARGET>"));
    }
}
