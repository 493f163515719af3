//! Machines that QEMU runs.

use super::alone::Alone;
use super::images::unchanged_images;
use super::reply::bounded;
use super::{Guest, Lab, Machine, Start, Waiting, chain};
use crate::observe::{KernelOfLog, LogReader, MachineTime, Ticks};
use luqual_guest::{Agent, AgentLog, GuestFile, Keys, initramfs};
use luqual_model::{Accel, PciAddress, QemuVersion};
use luqual_protocol::{Archived, Kernel, READY_LINE, Reply, Request, UNREACHABLE_LINE};
use luqual_vm::{
    ANSWERS, CellFolder, Console, GDB, Launch, Launcher, Lines, MachineEnd, PciFunction, Qemu, Ram, TraceEvents,
    VmError, WorkFolder, ram_files,
};
use std::fs;
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// Starts machines with QEMU.
pub struct QemuLab<'a> {
    /// Starts the processes.
    pub launcher: &'a Launcher,
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The accelerator.
    pub accel: Accel,
    /// The folder of the machines' files.
    pub work: WorkFolder,
}

impl Lab for QemuLab<'_> {
    fn qemu(&self) -> QemuVersion {
        self.qemu.version
    }

    fn accel(&self) -> Accel {
        self.accel
    }

    fn start<'a>(&'a self, start: Start<'a>) -> Waiting<'a, Result<Box<dyn Machine>, String>> {
        Box::pin(async move {
            unchanged_images(&start).await?;
            let folder = self.work.cell(start.profile.memory_mib).map_err(vm_error)?;
            let initrd = folder.path().join(INITRD);
            fs::create_dir_all(start.logs).map_err(at(start.logs))?;
            let files = write_initramfs(&start, initrd.clone()).await?;
            let launch = Launch {
                profile: start.profile,
                mode: start.mode,
                kernel: start.kernel.1,
                initrd: &initrd,
                command_line: start.command_line,
                folder: folder.path(),
                logs: start.logs,
                open: start.open,
                gdb: start.gdb.is_some(),
            };
            let machine = luqual_vm::Machine::start(self.launcher, self.qemu, &launch, start.started.into_std());
            let machine = machine.await.map_err(vm_error)?;
            if let Some(tell) = start.console {
                machine.console().tell(tell);
            }
            match start.gdb {
                // The debugger lets the machine run.
                Some(wait) => wait(&folder.path().join(GDB)),
                None => machine.resume().await.map_err(vm_error)?,
            }
            let answers = start.logs.join(ANSWERS);
            let alone = match start.mode.alone {
                Some(_) => Some(Alone::new(Lines::open(&answers).map_err(at(&answers))?)),
                None => None,
            };
            let time = MachineTime::watch(machine.pid());
            let kept = ram_files(start.profile).into_iter().map(|(name, _)| name).chain([INITRD.to_owned()]).collect();
            Ok(Box::new(QemuMachine { machine, folder, kept, files, alone, started: start.started, time })
                as Box<dyn Machine>)
        })
    }
}

/// Writes the initramfs of the first guest, and returns its files. It has megabytes: do not block the event loop that watches other
/// machines.
async fn write_initramfs(start: &Start<'_>, to: PathBuf) -> Result<Vec<Archived>, String> {
    let carried: Vec<(Kernel, PathBuf)> =
        start.carried.iter().map(|(kernel, image)| (*kernel, (*image).to_owned())).collect();
    let keys = start.keys.cloned();
    let file = |file: &super::File<'_>| (file.path.clone(), file.content.to_owned(), file.runs);
    let files: Vec<(String, Vec<u8>, bool)> = start.files.iter().map(file).collect();
    let written = tokio::task::spawn_blocking(move || {
        let mut kernels = Vec::new();
        for (kernel, image) in &carried {
            kernels.push((*kernel, fs::read(image).map_err(at(image))?));
        }
        let files: Vec<GuestFile<'_>> =
            files.iter().map(|(path, content, runs)| GuestFile { path, content, runs: *runs }).collect();
        let (archive, entries) =
            initramfs(keys.as_ref(), &kernels, &files).map_err(|error| format!("the initramfs: {error}"))?;
        fs::write(&to, archive).map_err(at(&to)).map(|()| entries)
    });
    written.await.map_err(|error| error.to_string())?
}

/// A QEMU that runs.
struct QemuMachine {
    machine: luqual_vm::Machine,
    folder: CellFolder,
    /// The names of the files that `--keep` keeps: memory and initramfs.
    kept: Vec<String>,
    files: Vec<Archived>,
    /// The guest, if it has no connection.
    alone: Option<Alone>,
    started: Instant,
    time: MachineTime,
}

impl Machine for QemuMachine {
    fn ended(&self) -> Option<MachineEnd> {
        self.machine.ended()
    }

    fn wait_end(&self) -> Waiting<'_, MachineEnd> {
        Box::pin(self.machine.wait_end())
    }

    fn kill(&self) {
        self.machine.kill();
    }

    fn stop(&self) {
        self.machine.stop();
    }

    fn console(&self) -> &Console {
        self.machine.console()
    }

    fn ram(&self) -> &Ram {
        self.machine.ram()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn files(&self) -> &[Archived] {
        &self.files
    }

    fn watch_ticks(&self, page: u64) -> Option<Ticks> {
        self.alone.is_none().then(|| Ticks::watch(self.ram().clone(), page, self.started))
    }

    fn read_log(&self, kernel: KernelOfLog<'_>) -> Option<Result<LogReader, String>> {
        self.alone.is_none().then(|| LogReader::start(self.ram(), kernel, self.started))
    }

    fn time(&self) -> MachineTime {
        self.time.clone()
    }

    fn listens(&self, times: usize) -> Waiting<'_, ()> {
        match &self.alone {
            None => Box::pin(self.console().saw(READY_LINE, times)),
            Some(alone) => Box::pin(alone.answers()),
        }
    }

    fn says_unreachable(&self) -> Waiting<'_, ()> {
        Box::pin(self.console().saw(UNREACHABLE_LINE, 1))
    }

    fn connect<'a>(&'a self, keys: &'a Keys, log: &'a AgentLog) -> Waiting<'a, Result<Box<dyn Guest>, String>> {
        Box::pin(async move {
            if let Some(alone) = &self.alone {
                alone.answers().await;
                return Ok(Box::new(alone.clone()) as Box<dyn Guest>);
            }
            // A machine without an SSH port can never be connected to.
            let Some(port) = self.machine.ssh_port() else { return std::future::pending().await };
            let agent = Agent::connect(port, keys, log.clone()).await.map_err(|error| chain(&error))?;
            Ok(Box::new(Connected(agent)) as Box<dyn Guest>)
        })
    }

    fn functions(&self) -> Waiting<'_, Result<Vec<PciFunction>, String>> {
        Box::pin(async { self.machine.functions().await.map_err(vm_error) })
    }

    fn mark<'a>(&'a self, name: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async { self.machine.mark(name).await.map_err(vm_error) })
    }

    fn trace_events(&self) -> Waiting<'_, Result<TraceEvents, String>> {
        Box::pin(async { self.machine.trace_events().await.map_err(vm_error) })
    }

    fn trace_no_dma(&self) -> Waiting<'_, Result<(), String>> {
        Box::pin(async { self.machine.trace_no_dma().await.map_err(vm_error) })
    }

    fn unplug<'a>(&'a self, id: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async { self.machine.unplug(id).await.map_err(vm_error) })
    }

    fn config(&self, function: PciAddress, offset: u8) -> Waiting<'_, Result<u32, String>> {
        Box::pin(async move { self.machine.config(function, offset).await.map_err(vm_error) })
    }

    fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Waiting<'_, Result<(), String>> {
        Box::pin(async move { self.machine.set_config(function, offset, value).await.map_err(vm_error) })
    }

    fn set_register(&self, address: u64, value: u64) -> Waiting<'_, Result<(), String>> {
        Box::pin(async move { self.machine.set_register(address, value).await.map_err(vm_error) })
    }

    fn registers(&self) -> Waiting<'_, Result<String, String>> {
        Box::pin(async { self.machine.hmp("info registers -a").await.map_err(vm_error) })
    }

    fn inject_nmi(&self) -> Waiting<'_, Result<(), String>> {
        Box::pin(async { self.machine.inject_nmi().await.map_err(vm_error) })
    }

    fn dump<'a>(&'a self, path: &'a Path) -> Waiting<'a, Result<u64, String>> {
        Box::pin(async { self.machine.dump(path).await.map_err(vm_error) })
    }

    fn quit<'a>(self: Box<Self>, keep: Option<&'a Path>) -> Waiting<'a, Result<(), String>> {
        Box::pin(async move {
            let Self { machine, folder, kept, .. } = *self;
            machine.quit().await;
            let keep = keep.map(Path::to_owned);
            // The memory has gigabytes: do not block the event loop that watches other machines. The folder is
            // removed when it is dropped there.
            let copied =
                tokio::task::spawn_blocking(move || keep.map_or(Ok(()), |logs| copy_kept(folder.path(), &kept, &logs)));
            copied.await.map_err(|error| error.to_string())?
        })
    }
}

/// The initramfs in the folder of a machine.
const INITRD: &str = "initrd";

/// Copies the files that `--keep` keeps.
fn copy_kept(folder: &Path, names: &[String], logs: &Path) -> Result<(), String> {
    for name in names {
        fs::copy(folder.join(name), logs.join(name)).map_err(at(&logs.join(name)))?;
    }
    Ok(())
}

/// A guest with an SSH connection.
struct Connected(Agent);

impl Guest for Connected {
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>> {
        Box::pin(async { self.0.ask(request).await.map_err(|error| chain(&error)).and_then(bounded) })
    }

    fn inject<'a>(&'a self, fault: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async {
            match self.0.inject(fault).await {
                Ok(output) if output.status != 0 => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
                // The fault may cut the connection.
                Ok(_) | Err(_) => Ok(()),
            }
        })
    }

    fn agent(&self) -> Option<&Agent> {
        Some(&self.0)
    }
}

fn at<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn vm_error(error: VmError) -> String {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{}{hint}", chain(&error))
}
