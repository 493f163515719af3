//! The start of a boot: its requirements, and the boot phase.

use super::connect::{UNREACHABLE, connect};
use super::driver::BootDriver;
use super::guard::{At, Watched};
use super::identity::Identity;
use super::steps::{BootStep, requests};
use super::{Boot, Host, Program, alone, kexec_images};
use crate::inject;
use crate::judge::{Link, Stop};
use crate::lab::{File, Guest, Machine, Start};
use crate::requirements::kernel_lacks;
use luqual_guest::{AgentLog, Keys};
use luqual_model::Phase;
use luqual_protocol::{AUTORUN, Kernel};
use std::cell::{OnceCell, RefCell};
use std::fs;
use std::rc::Rc;

impl BootDriver<'_> {
    /// Checks the requirements that are known before the machine starts.
    pub(super) fn check_requirements(&self) -> Result<(), Stop> {
        if let Some(lacking) = self.boot.lacks(self.host.lab.qemu()) {
            return Err(Stop::Requirement(lacking));
        }
        let Boot { source, target, parts, .. } = self.boot;
        for part in parts {
            if let Some(Program::Missing(why)) = part.program {
                return Err(Stop::Requirement(why.to_owned()));
            }
        }
        let requires = parts.iter().flat_map(|part| part.workload.requires).copied();
        if let Some(lacking) = kernel_lacks(&source.info, &target.info, requires) {
            return Err(Stop::Requirement(lacking));
        }
        match self.host.deterministic {
            true => alone::needs_the_host(self.boot, self.host.fault.as_ref())
                .map_or(Ok(()), |why| Err(Stop::Requirement(why))),
            false => Ok(()),
        }
    }

    /// The boot phase: starts the machine, and connects to the guest.
    pub(super) async fn start(
        &mut self,
        steps: &[BootStep],
        source: &Identity<'_>,
        keys: &Keys,
    ) -> Result<(Rc<dyn Guest>, AgentLog), Stop> {
        let (boot, host_, logs, mode) = (self.boot, self.host, &self.logs, self.mode());
        let is_alone = mode.alone.is_some();
        let started = self.guard.started();
        let fault = host_.fault.as_ref();
        let slot = &mut self.machine;
        let link = RefCell::new(Link::default());
        let time = OnceCell::new();
        let watched = Watched { link: Some(&link), time: Some(&time), ..Watched::default() };
        let body = async {
            fs::create_dir_all(logs).map_err(Stop::host(logs.display()))?;
            let log =
                AgentLog::create(&logs.join("agent.jsonl"), started.into_std()).map_err(Stop::host("agent.jsonl"))?;
            let autorun = if is_alone { Some(requests(steps, fault).map_err(Stop::host("the script"))?) } else { None };
            let command_line = source.command_line(mode);
            let carried = kexec_images::images_in_guest(0, boot.update().hops, boot.is_one()).into_iter();
            let image =
                |kernel| (kernel, if kernel == Kernel::Target { boot.target } else { boot.source }.image.as_path());
            let start = Start {
                profile: boot.profile,
                mode,
                kernel: (&boot.source.info, &boot.source.image),
                command_line: &command_line,
                images: [boot.source, boot.target].map(|kernel| (&kernel.info, kernel.image.as_path())),
                carried: carried.map(image).collect(),
                keys: (!is_alone).then_some(keys),
                files: files(boot, host_, autorun.as_deref()),
                logs,
                open: inject::is_from_outside(fault),
                console: host_.person.console,
                gdb: host_.person.gdb,
                started,
            };
            let machine: &dyn Machine = &**slot.insert(host_.lab.start(start).await.map_err(Stop::Host)?);
            // The machine was just started, so that the cell is empty.
            let _ = time.set(machine.time());
            tokio::select! {
                biased;
                end = machine.wait_end() => Err(Stop::Machine(end)),
                guest = connect(machine, keys, &log, 1, &link) => {
                    let guest = guest.ok_or_else(|| Stop::Requirement(UNREACHABLE.to_owned()))?;
                    Ok((guest, log.clone()))
                }
                () = inject::kill_when_it_speaks(machine, fault) => Err(Stop::Machine(machine.wait_end().await)),
            }
        };
        self.guard.phase(At { phase: Phase::Boot, hop: 0, part: None }, watched, body).await
    }
}

/// The files for the first guest.
fn files<'a>(boot: &'a Boot<'_>, host: &'a Host<'_>, autorun: Option<&'a str>) -> Vec<File<'a>> {
    let brought = boot.programs().into_iter().chain(host.person.brought());
    let programs = brought.map(|(path, content)| File { path, content, runs: true });
    let modules = boot.modules().into_iter().map(|(path, content)| File { path, content, runs: false });
    let autorun = autorun.map(|it| File { path: AUTORUN.to_owned(), content: it.as_bytes(), runs: false });
    programs.chain(modules).chain(autorun).collect()
}
