//! Opens an interactive session in a guest, before any phase of a cell.

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{self, IfExists, remove_if_empty};
use crate::interactive::{Interactive, patient};
use crate::kernels::{bootable, find_kernels, open_store};
use crate::notice::Notice;
use crate::plan;
use crate::profiles::Profiles;
use crate::registry::Registry;
use crate::request::{KernelSource, MachineChoice, MachineSize};
use luqual_config::{Budget, DEFAULT_MACHINE};
use luqual_kernels::not_a_program;
use luqual_model::bounds::PROGRAM;
use luqual_model::{ARCH, CellKey, Event, Phase, PlannedCell};
use luqual_protocol::PROGRAMS;
use luqual_runner::{Boot, BootCell, Host, InteractiveOptions, InteractiveSession, SessionEnd, SessionHandler, visit};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The phases with a connection to the guest.
pub const TALKED_TO: [Phase; 7] =
    [Phase::Preserve, Phase::Load, Phase::Kexec, Phase::Retrieve, Phase::Verify, Phase::Finish, Phase::Collect];

/// The request of an interactive session.
#[derive(Clone, Debug)]
pub struct ShellRequest {
    /// The source.
    pub source: String,
    /// The target, if there is one.
    pub target: Option<String>,
    /// The phase before which the session opens; one of [`TALKED_TO`]. It has no effect without a target.
    pub at: Phase,
    /// The workload; by default memfd.basic if there is a target.
    pub workload: Option<String>,
    /// The machine profile; by default the workload's.
    pub profile: Option<String>,
    /// The size of the machine.
    pub size: MachineSize,
    /// Static programs to copy into the guest.
    pub add: Vec<PathBuf>,
    /// The folder of the logs.
    pub report_dir: Option<PathBuf>,
    /// The interactive options.
    pub interactive: Interactive,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
}

/// The progress until the session opens.
#[derive(Clone, Copy, Debug)]
pub enum OnTheWay<'a> {
    /// The guest starts; its logs are in that folder.
    Starts(&'a CellKey, &'a Path),
    /// A phase has ended; its duration is in microseconds.
    Done(Phase, u64),
}

/// Boots the source, runs the phases, opens the session, and ends the machine. `tell` gets the progress. Returns how
/// the session ended, and the folder of its logs.
pub async fn shell(
    context: &Context<'_>,
    request: &ShellRequest,
    visitor: &dyn SessionHandler,
    tell: &dyn Fn(OnTheWay<'_>),
) -> Result<(SessionEnd, PathBuf), EngineError> {
    let store = open_store(&request.kernels)?;
    let registry = Registry::new(&[], Profiles::new(&[], request.size), &store)?;
    let key = request.cell(&registry)?;
    let profile = registry.profiles.find(&key.profile)?;
    plan::fits(&key, &registry, plan::slots(Some(1), Budget::default()))?;
    let files = request.add.iter().map(|file| brought(file)).collect::<Result<_, EngineError>>()?;
    let found = request.machine.find(context.machines, false).await?;
    let mut kernels = find_kernels(context, &store, std::iter::once(&key)).await?;
    request.interactive.prepare(&mut kernels);
    let kernel = |name: &str| {
        kernels
            .get(name)
            .cloned()
            .ok_or_else(|| EngineError::harness(format!("the kernel {name} was not requested before")))
    };
    let (old, new) = (kernel(&key.source)?, kernel(&key.target)?);
    let wait = |socket: &Path| {
        let target = request.target.as_ref().map(|_| &new);
        context.tell(Notice::GdbWaits { socket, source: &old, target });
    };
    let (source, target) = (bootable(old.clone()), bootable(new.clone()));
    let lab = context.machines.lab(&found)?;
    let (_, folder) = folder::create(request.report_dir.as_deref(), IfExists::Fail)?;
    let planned = PlannedCell { key, prediction: None, expectation: None };
    let workload = registry.find(&planned.key.workload);
    let parts = workload.map(|workload| BootCell { workload, plan: &planned, program: None }).into_iter().collect();
    let boot = Boot { source: &source, target: &target, profile, parts };
    let before = if request.target.is_some() { request.at } else { Phase::Preserve };
    let mut host = Host::once(&*lab, &folder, context.interrupt.clone());
    if request.interactive.gdb {
        host.deadlines = patient(host.deadlines);
    }
    host.person = InteractiveOptions {
        visit: Some(InteractiveSession { before, files, visitor }),
        ..request.interactive.person(&wait)
    };
    tell(OnTheWay::Starts(&planned.key, &folder));
    let (events, mut taken) = mpsc::unbounded_channel();
    let visiting = async {
        let visited = visit(&boot, &host, &events).await;
        drop(events);
        visited
    };
    let telling = async {
        while let Some(event) = taken.recv().await {
            if let Event::PhaseEnded { phase, duration_us, .. } = event
                && phase != Phase::Teardown
            {
                tell(OnTheWay::Done(phase, duration_us));
            }
        }
    };
    let (visited, ()) = tokio::join!(visiting, telling);
    remove_if_empty(&folder);
    Ok((visited, folder))
}

impl ShellRequest {
    /// The cell of the session. A kernel alone is its own target, in case the user types kexec.
    fn cell(&self, registry: &Registry) -> Result<CellKey, EngineError> {
        let name = self.workload.as_deref().or(self.target.as_ref().map(|_| "memfd.basic"));
        let workload = name.map(|name| {
            let hint = "`luqual workloads list` shows all names";
            registry.find(name).ok_or_else(|| EngineError::usage(format!("there is no workload `{name}`")).hint(hint))
        });
        let workload = workload.transpose()?;
        let own = workload.map_or(DEFAULT_MACHINE, |workload| workload.profile);
        Ok(CellKey {
            source: self.source.clone(),
            target: self.target.as_ref().unwrap_or(&self.source).clone(),
            profile: registry.profiles.find(self.profile.as_deref().unwrap_or(own))?.name.clone(),
            workload: workload.map_or_else(String::new, |workload| workload.name.to_owned()),
        })
    }
}

/// Reads a program for the guest's folder of programs. An error if it cannot run there.
fn brought(file: &Path) -> Result<(String, Vec<u8>), EngineError> {
    let wrong = |why: &str| EngineError::usage(format!("{}: {why}", file.display()));
    let content = luqual_files::read(file, PROGRAM).map_err(EngineError::named(file))?;
    if let Some(why) = not_a_program(&content) {
        return Err(wrong(&why).hint(format!(
            "add a statically linked {} program; a guest has no interpreters and no shared libraries",
            ARCH.name
        )));
    }
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| wrong("its name is not UTF-8"))?;
    Ok((format!("{PROGRAMS}/{name}"), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_brought_programs_alone() {
        let error = brought(Path::new("/etc/passwd")).unwrap_err();
        assert!(error.to_string().contains("not a 64-bit ELF"), "{error}");
        assert!(brought(Path::new("/nowhere")).unwrap_err().to_string().contains("No such file"));
    }
}
