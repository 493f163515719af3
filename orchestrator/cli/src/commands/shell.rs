//! `luqual shell`: a prompt in a guest, at any phase of a cell.

use super::KernelSource;
use super::attended::{Attended, patient, what_to_type};
use super::execute::{There, bootable, create_folder, find_kernels, interrupted, remove_if_empty};
use super::machine::{MachineChoice, launcher};
use super::plan;
use super::registry::Registry;
use super::selection::profile_of;
use crate::error::{CliError, Exit};
use crate::terminal::{self, Raw};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use luqual_config::Budget;
use luqual_guest::{Agent, LinkError, Typed};
use luqual_kernels::not_a_program;
use luqual_model::{CellKey, Event, Outcome, Phase, Planned};
use luqual_protocol::{PROGRAMS, Prompt};
use luqual_runner::{Boot, Host, Part, Person, QemuLab, Visit, Visited, Visiting, Visitor, visit};
use luqual_vm::WorkFolder;
use luqual_vm::profile::PROFILES;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};

/// Where to look around.
#[derive(Args, Debug)]
#[command(after_help = "\
With one kernel: a prompt in it. With two: what a cell does from the one to the other is done up to a phase, and the prompt stands
before that. `help` at the prompt says what can be typed: the requests that luqual makes of a guest, by words, and programs that
were brought along. Ctrl-D ends it, and the machine with it; Ctrl-] does so where nothing answers.

If standard input is no terminal, each of its lines is a command.

Examples:
  luqual shell 7.3.4
  luqual shell 7.2.12 7.3.4 --workload memfd.basic            (in the target, before anything is retrieved)
  luqual shell 7.2.12 7.3.4 --at kexec --add /bin/busybox     (in the source, all is preserved; `busybox sh` is a shell)
  echo 'verify memfd.basic' | luqual shell 7.2.12 7.3.4 --at verify

Exit codes: 0 the prompt was left; 1 the guest came to an end before that; 2 a mistake in what was asked for;
3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Shell {
    /// The kernel that is booted
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The kernel that it is updated to
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Before which phase the prompt stands: up to kexec in the source, from retrieve on in the target
    #[arg(long, value_name = "PHASE", requires = "target", default_value = "retrieve", value_parser = phase())]
    at: Phase,
    /// What is preserved [default: memfd.basic, where there is a target]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// The machine [default: the workload's]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A static program that is brought along into the guest; can be repeated
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// The folder of the logs; it must not have a run in it [default: luqual-runs/ID]
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    attended: Attended,
    #[command(flatten)]
    machine: MachineChoice,
    #[command(flatten)]
    kernels: KernelSource,
}

/// The phases in which a guest is there to be talked to.
const TALKED_TO: [Phase; 7] =
    [Phase::Preserve, Phase::Load, Phase::Kexec, Phase::Retrieve, Phase::Verify, Phase::Finish, Phase::Collect];

fn phase() -> impl TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(TALKED_TO.map(Phase::word)).try_map(|word| Phase::from_word(&word).ok_or("no phase"))
}

/// Boots, gives the prompt, and takes all down.
pub(crate) async fn run(command: &Shell) -> Result<Exit, CliError> {
    let store = command.kernels.store()?;
    let registry = Registry::new(&[], &store)?;
    let key = command.cell(&registry)?;
    let profile = profile_of(&key.profile)?;
    plan::fits(&key, plan::slots(Some(1), Budget::default()))?;
    let files = command.add.iter().map(|file| brought(file)).collect::<Result<_, CliError>>()?;
    let (qemu, accel) = command.machine.find().await?;
    let interrupt = interrupt_by_signals()?;
    let mut kernels = tokio::select! {
        kernels = find_kernels(&store, std::iter::once(&key)) => kernels?,
        () = interrupted(interrupt.clone()) => return Ok(Exit::Interrupted),
    };
    command.attended.prepare(&mut kernels);
    let kernel = |name: &str| {
        kernels.get(name).cloned().ok_or_else(|| CliError::harness(format!("kernel {name} was not looked for")))
    };
    let (old, new) = (kernel(&key.source)?, kernel(&key.target)?);
    let wait = |socket: &Path| eprint!("{}", what_to_type(socket, &old, command.target.as_ref().map(|_| &new)));
    let (source, target) = (bootable(old.clone()), bootable(new.clone()));
    let (work, _) = WorkFolder::create()?;
    let (_, folder) = create_folder(command.report_dir.as_deref(), There::Refused)?;
    let planned = Planned { key, prediction: None, expectation: None };
    let workload = registry.find(&planned.key.workload);
    let parts = workload.map(|workload| Part { workload, plan: &planned, program: None }).into_iter().collect();
    let boot = Boot { source: &source, target: &target, profile, parts };
    let before = if command.target.is_some() { command.at } else { Phase::Preserve };
    let visitor = Seat::new();
    let launcher = launcher()?;
    let lab = QemuLab { launcher: &launcher, qemu: &qemu, accel: accel.accel, work: &work };
    let mut host = Host::once(&lab, &folder, interrupt);
    if command.attended.gdb {
        host.deadlines = patient(host.deadlines);
    }
    host.person = Person { visit: Some(Visit { before, files, visitor: &visitor }), ..command.attended.person(&wait) };
    eprintln!("{}; logs: {}", command.told(&planned.key), folder.display());
    let (events, taken) = mpsc::unbounded_channel();
    let telling = tokio::spawn(tell(taken));
    let visited = visit(&boot, &host, &events).await;
    drop(events);
    // It can only have been cut short by a panic, which was told.
    let _ = telling.await;
    remove_if_empty(&folder);
    ended(visited, &folder)
}

impl Shell {
    /// The cell whose phases are gone through. A kernel alone is updated to itself, if somebody types that.
    fn cell(&self, registry: &Registry) -> Result<CellKey, CliError> {
        let name = self.workload.as_deref().or(self.target.as_ref().map(|_| "memfd.basic"));
        let workload = name.map(|name| {
            let hint = "luqual workloads list has all of them";
            registry.find(name).ok_or_else(|| CliError::usage(format!("there is no workload `{name}`")).hint(hint))
        });
        let workload = workload.transpose()?;
        let own = workload.map_or(PROFILES[0].name, |workload| workload.profile);
        Ok(CellKey {
            source: self.source.clone(),
            target: self.target.as_ref().unwrap_or(&self.source).clone(),
            profile: profile_of(self.profile.as_deref().unwrap_or(own))?.name.to_owned(),
            workload: workload.map_or_else(String::new, |workload| workload.name.to_owned()),
        })
    }

    fn told(&self, key: &CellKey) -> String {
        match &self.target {
            None => format!("{} on {}", key.source, key.profile),
            Some(target) => {
                format!("{} → {target} {} on {}, up to {}", key.source, key.workload, key.profile, self.at)
            }
        }
    }
}

/// A file for the guest's folder of programs.
fn brought(file: &Path) -> Result<(String, Vec<u8>), CliError> {
    let wrong = |why: String| CliError::usage(format!("{}: {why}", file.display()));
    let content = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    if let Some(why) = not_a_program(&content) {
        return Err(wrong(why).hint("a guest has nothing but the kernel and luqual's agent"));
    }
    let name =
        file.file_name().and_then(|name| name.to_str()).ok_or_else(|| wrong("its name is no text".to_owned()))?;
    Ok((format!("{PROGRAMS}/{name}"), content))
}

/// Each ends the visit in order; a terminal is given back before that.
fn interrupt_by_signals() -> Result<watch::Receiver<bool>, CliError> {
    let (sender, receiver) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (sender, mut signals) = (sender.clone(), signal(kind).map_err(CliError::file("signals"))?);
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                let _ = sender.send(true);
            }
        });
    }
    Ok(receiver)
}

/// What is waited for until the prompt is there.
async fn tell(mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        if let Event::PhaseEnded { phase, duration_us, .. } = event
            && phase != Phase::Teardown
        {
            eprint!("  {phase} {:.1} s{}", duration_us as f64 / 1e6, terminal::line_end());
        }
    }
}

fn ended(visited: Visited, folder: &Path) -> Result<Exit, CliError> {
    let logs = format!("its logs are in {}", folder.display());
    match visited {
        Visited::Left => Ok(Exit::Ok),
        Visited::Interrupted => Ok(Exit::Interrupted),
        Visited::Ended(Outcome::HarnessFailed, why) => Err(CliError::harness(why).hint(logs)),
        Visited::Ended(outcome, why) => {
            eprintln!("the guest's boot ended: {outcome}: {why}\n  {logs}");
            Ok(Exit::NotAsExpected)
        }
    }
}

/// Where somebody sits, or has left what to do.
enum Seat {
    Terminal(Mutex<Option<mpsc::Receiver<Typed>>>),
    Lines(Mutex<Option<mpsc::Receiver<String>>>),
}

impl Seat {
    fn new() -> Self {
        if terminal::is_there() { Self::Terminal(Mutex::default()) } else { Self::Lines(Mutex::default()) }
    }
}

impl Visitor for Seat {
    fn visit<'a>(&'a self, agent: &'a Agent, prompt: &'a Prompt) -> Visiting<'a> {
        Box::pin(async move {
            match self {
                Self::Terminal(typed) => {
                    converse(agent, prompt, typed.lock().await.get_or_insert_with(terminal::typed)).await
                }
                Self::Lines(lines) => {
                    follow(agent, prompt, lines.lock().await.get_or_insert_with(terminal::lines)).await
                }
            }
        })
    }
}

async fn converse(agent: &Agent, prompt: &Prompt, typed: &mut mpsc::Receiver<Typed>) -> Result<(), LinkError> {
    let kind = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    // What led here is told first.
    tokio::task::yield_now().await;
    eprintln!("`help` says what can be typed; Ctrl-D ends it");
    // A terminal that cannot be set types lines, which the guest's prompt takes too.
    let _raw = Raw::begin();
    agent.shell(prompt, (&kind, terminal::size()), typed, terminal::show).await
}

/// One line after the other; what comes after a kexec is for the next kernel.
async fn follow(agent: &Agent, prompt: &Prompt, lines: &mut mpsc::Receiver<String>) -> Result<(), LinkError> {
    while let Some(line) = lines.recv().await {
        if line.trim() == "exit" {
            break;
        }
        let output = agent.line(prompt, &line).await?;
        terminal::show(&output.stdout);
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
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

    #[test]
    fn a_guest_is_brought_programs_alone() {
        let error = brought(Path::new("/etc/passwd")).unwrap_err();
        assert!(error.message().contains("no 64-bit ELF"), "{}", error.message());
        assert!(brought(Path::new("/nowhere")).unwrap_err().message().contains("No such file"));
    }
}
