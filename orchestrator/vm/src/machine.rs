//! A QEMU process: starts it paused, controls it, watches it, and ends it.

use crate::args::{self, Launch, arguments};
use crate::cgroup::{MemoryGroups, MemoryLimit};
use crate::console::Console;
use crate::end::MachineEnd;
use crate::error::VmError;
use crate::grown::{self, STDERR};
use crate::holes;
use crate::ivshmem::Server;
use crate::pci::{PciFunction, named};
use crate::qemu::Qemu;
use crate::qmp::{Log, Qmp};
use crate::qtest::Qtest;
use crate::ram::Ram;
use crate::supervise::Launcher;
use crate::trace::{TraceEvents, iommu_patterns, mark_command, traced};
use luqual_model::{Device, PciAddress};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running QEMU. Dropping it kills it; [`Machine::quit`] ends it in order.
pub struct Machine {
    qmp: Arc<Qmp>,
    qtest: Option<Qtest>,
    console: Console,
    ram: Ram,
    ssh_port: Option<u16>,
    pid: Pid,
    reaped: Arc<AtomicBool>,
    end: watch::Receiver<Option<MachineEnd>>,
    waiter: JoinHandle<()>,
    /// Ends QEMU if one of its files becomes too large.
    bounding: JoinHandle<()>,
    /// The server of a device, if it needs one.
    _server: Option<Server>,
}

/// The limit for QEMU to open its sockets; it usually takes 0.1 s.
const START: Duration = Duration::from_secs(30);

impl Machine {
    /// Starts QEMU, paused; times in its logs are relative to `started`.
    pub async fn start(
        launcher: &Launcher,
        qemu: &Qemu,
        launch: &Launch<'_>,
        started: Instant,
    ) -> Result<Self, VmError> {
        let arguments = arguments(launch);
        let logs = launch.logs;
        let command = args::command_line(&qemu.path, &arguments);
        let (command_file, stderr_file) = (logs.join("command.txt"), logs.join(STDERR));
        fs::write(&command_file, command + "\n").map_err(VmError::file(&command_file))?;
        let stderr = File::create(&stderr_file).map_err(VmError::file(&stderr_file))?;
        for direction in ["in", "out"].into_iter().filter(|_| launch.mode.alone.is_none()) {
            let pipe = console_pipe(launch, direction);
            mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).map_err(|errno| VmError::file(&pipe)(errno.into()))?;
        }
        for (name, size) in files(launch) {
            let path = launch.folder.join(name);
            File::create(&path).and_then(|file| file.set_len(size)).map_err(VmError::file(&path))?;
        }
        let server = serve(launch)?;
        let mut command = launcher.command(&qemu.path);
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        let groups = MemoryGroups::own();
        let killed_before = groups.kills();
        let mut child = launcher.start(command).await.map_err(|error| VmError::Start(error.to_string()))?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| VmError::Start("QEMU has no process id".to_owned()))?;
        let reaped = Arc::new(AtomicBool::new(false));
        let opening = open(launch, reaped.clone(), started);
        let opened = unless_it_ends(opening, &mut child, &stderr_file, START).await?;
        let Opened { qmp, reading, qtest, console, ram, ssh_port, ended } = opened;
        let end = ended.subscribe();
        let qmp = Arc::new(qmp);
        let bounding = tokio::spawn({
            let (qmp, logs, ended, reaped) = (qmp.clone(), logs.to_owned(), ended.clone(), reaped.clone());
            async move {
                let why = grown::too_large(&qmp, &logs).await;
                set_once(&ended, MachineEnd::Qemu(why));
                send(Signal::KILL, pid, &reaped);
            }
        });
        let waiter = tokio::spawn({
            let reaped = reaped.clone();
            async move {
                let status = child.wait().await;
                // First of all: another process can have the id from now on.
                reaped.store(true, Ordering::SeqCst);
                let is_for_memory = status.as_ref().is_ok_and(|status| status.signal() == Some(Signal::KILL.as_raw()))
                    && groups.kills() > killed_before;
                let limit = is_for_memory.then(|| groups.limit());
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                // QEMU's last QMP event has the reason; its end only follows.
                let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
                let why = limit.map_or_else(String::new, |limit| for_memory(limit.as_ref()));
                set_once(&ended, MachineEnd::Qemu(format!("{why}QEMU ended ({status}){}", said(&stderr_file))));
            }
        });
        Ok(Self { qmp, qtest, console, ram, ssh_port, pid, reaped, end, waiter, bounding, _server: server })
    }

    /// Lets the guest run.
    pub async fn resume(&self) -> Result<(), VmError> {
        self.qmp.ask(qapi::qmp::cont {}).await.map(drop)
    }

    /// Sends an NMI to the guest's processors (QEMU qapi/machine.json, inject-nmi).
    pub async fn inject_nmi(&self) -> Result<(), VmError> {
        self.qmp.ask(qapi::qmp::inject_nmi {}).await.map(drop)
    }

    /// Writes the guest's memory and registers into an ELF core (QEMU qapi/dump.json, dump-guest-memory), with holes
    /// where memory is zero. Returns the size on disk in bytes. A running machine is paused meanwhile.
    pub async fn dump(&self, path: &Path) -> Result<u64, VmError> {
        let protocol = format!("file:{}", path.display());
        let whole = qapi::qmp::dump_guest_memory {
            paging: false,
            protocol,
            detach: None,
            begin: None,
            length: None,
            format: None,
        };
        self.qmp.expect_stops();
        self.qmp.ask(whole).await?;
        let (file, path) = (path.to_owned(), path.to_owned());
        let dug = tokio::task::spawn_blocking(move || holes::dig(&file)).await;
        dug.map_err(io::Error::other).and_then(|dug| dug).map_err(VmError::file(&path))
    }

    /// Runs a command of QEMU's human monitor.
    pub async fn hmp(&self, line: &str) -> Result<String, VmError> {
        self.qmp.hmp(line).await
    }

    /// The PCI functions of the devices that workloads own, as the guest has configured them (QEMU qapi/pci.json,
    /// query-pci).
    pub async fn functions(&self) -> Result<Vec<PciFunction>, VmError> {
        self.qmp.ask(qapi::qmp::query_pci {}).await.map(|buses| named(&buses))
    }

    /// Leaves a mark in the trace of QEMU's devices, between what happened before it and after it.
    pub async fn mark(&self, name: &str) -> Result<(), VmError> {
        self.hmp(&mark_command(name)).await.map(drop)
    }

    /// Which of the trace events of devices this QEMU writes.
    pub async fn trace_events(&self) -> Result<TraceEvents, VmError> {
        let mut replies = Vec::new();
        for name in traced() {
            replies.push(self.hmp(&format!("info trace-events {name}")).await?);
        }
        Ok(TraceEvents::of(replies.iter().map(String::as_str)))
    }

    /// Turns off what QEMU writes of DMA and of IOMMU faults, to inject a fault.
    pub async fn trace_no_dma(&self) -> Result<(), VmError> {
        for pattern in iommu_patterns() {
            self.hmp(&format!("trace-event {pattern} off")).await?;
        }
        Ok(())
    }

    /// Requests the guest to release a device, which is then removed (QEMU qapi/qdev.json, device_del).
    pub async fn unplug(&self, id: &str) -> Result<(), VmError> {
        self.qmp.ask(qapi::qmp::device_del { id: id.to_owned() }).await.map(drop)
    }

    /// Reads a word of a function's configuration space; the machine needs qtest.
    pub async fn config(&self, function: PciAddress, offset: u8) -> Result<u32, VmError> {
        self.outside()?.config(function, offset).await
    }

    /// Writes a word of a function's configuration space; the machine needs qtest.
    pub async fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Result<(), VmError> {
        self.outside()?.set_config(function, offset, value).await
    }

    /// Writes eight bytes at a guest-physical address, such as a register's; the machine needs qtest.
    pub async fn set_register(&self, address: u64, value: u64) -> Result<(), VmError> {
        self.outside()?.write(address, value).await
    }

    fn outside(&self) -> Result<&Qtest, VmError> {
        let closed =
            || VmError::Qmp { command: "qtest".to_owned(), why: "this machine was not started open".to_owned() };
        self.qtest.as_ref().ok_or_else(closed)
    }

    /// The process id of QEMU, which has a process group of its own.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// The port on 127.0.0.1 of the guest's SSH server, if there is one.
    pub fn ssh_port(&self) -> Option<u16> {
        self.ssh_port
    }

    /// The guest's memory.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The guest's console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Sends SIGKILL, to inject a fault.
    pub fn kill(&self) {
        send(Signal::KILL, self.pid, &self.reaped);
    }

    /// Sends SIGSTOP, to inject a fault.
    pub fn stop(&self) {
        send(Signal::STOP, self.pid, &self.reaped);
    }

    /// The machine's own end, if it has come.
    pub fn ended(&self) -> Option<MachineEnd> {
        self.end.borrow().clone()
    }

    /// Waits for the machine's own end. Every wait for the guest has to be raced with this.
    pub async fn wait_end(&self) -> MachineEnd {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => end.clone(),
            _ => MachineEnd::Qemu("the task that watches QEMU has ended".to_owned()),
        }
    }

    /// Ends QEMU and waits for its end. The guest is not shut down first, since its state is no longer needed.
    pub async fn quit(mut self) {
        self.kill();
        let _ = (&mut self.waiter).await;
        // The log has all of QEMU's output before it is read.
        self.console.drain(Duration::ZERO, Duration::from_secs(1)).await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.bounding.abort();
        self.kill();
    }
}

fn send(signal: Signal, pid: Pid, reaped: &AtomicBool) {
    // After QEMU is reaped, another process can have its id.
    if !reaped.load(Ordering::SeqCst) {
        let _ = kill_process_group(pid, signal);
    }
}

fn set_once(ended: &watch::Sender<Option<MachineEnd>>, end: MachineEnd) {
    ended.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(end);
        }
        first
    });
}

/// The connections to a QEMU that has started.
struct Opened {
    qmp: Qmp,
    reading: JoinHandle<()>,
    qtest: Option<Qtest>,
    console: Console,
    ram: Ram,
    ssh_port: Option<u16>,
    ended: Arc<watch::Sender<Option<MachineEnd>>>,
}

/// Waits for `opening` while QEMU runs, but not longer than `limit`. On failure QEMU is killed.
async fn unless_it_ends<T>(
    opening: impl Future<Output = Result<T, VmError>>,
    child: &mut Child,
    stderr: &Path,
    limit: Duration,
) -> Result<T, VmError> {
    let error = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => return Ok(opened),
            // QEMU may have closed its sockets since it is ending; then use its own message.
            Err(error) => match tokio::time::timeout(Duration::from_secs(1), child.wait()).await {
                Ok(status) => ended_at_once(status, stderr),
                Err(_) => error,
            },
        },
        status = child.wait() => ended_at_once(status, stderr),
        () = tokio::time::sleep(limit) => {
            VmError::Start(format!("QEMU was not ready within {} s{}", limit.as_secs(), said(stderr)))
        }
    };
    // An error means that it has already ended.
    let _ = child.kill().await;
    Err(error)
}

fn ended_at_once(status: io::Result<ExitStatus>, stderr: &Path) -> VmError {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    VmError::Start(format!("it ended ({status}){}", said(stderr)))
}

/// Connects to QEMU's sockets and pipes. The caller has to bound the time and to watch QEMU.
async fn open(launch: &Launch<'_>, reaped: Arc<AtomicBool>, started: Instant) -> Result<Opened, VmError> {
    let logs = launch.logs;
    let qmp_log = logs.join("qmp.jsonl");
    let log = Log { file: Arc::new(File::create(&qmp_log).map_err(VmError::file(&qmp_log))?), started };
    let ended = Arc::new(watch::Sender::new(None));
    let on_end = {
        let ended = ended.clone();
        move |end| set_once(&ended, end)
    };
    let socket = connect(&launch.folder.join(args::QMP)).await;
    let (qmp, reading) = Qmp::connect(socket, log, launch.gdb, on_end).await?;
    let qtest = match launch.open {
        true => Some(Qtest::new(connect(&launch.folder.join(args::QTEST)).await)),
        false => None,
    };
    // QEMU answers, so that it has opened the pipe; the guest does not run yet, so that no output is lost.
    let console_log = logs.join("console.log");
    let (console, ssh_port) = if launch.mode.alone.is_some() {
        let raw = logs.join(args::CONSOLE_RAW);
        let console = Console::follow(&raw, reaped, &console_log, started).map_err(VmError::file(&console_log))?;
        (console, None)
    } else {
        let pipe = console_pipe(launch, "out");
        let console = pipe::OpenOptions::new().open_receiver(&pipe).map_err(VmError::file(&pipe))?;
        let console = Console::attach(console, &console_log, started).map_err(VmError::file(&console_log))?;
        let usernet = qmp.hmp("info usernet").await?;
        let ssh_port = forwarded_port(&usernet).ok_or_else(|| VmError::Qmp {
            command: "info usernet".to_owned(),
            why: format!("QEMU reports no forwarded port in: {usernet}"),
        })?;
        (console, Some(ssh_port))
    };
    let ram = Ram::open(launch.folder, &args::ram_files(launch.profile)).map_err(VmError::file(launch.folder))?;
    Ok(Opened { qmp, reading, qtest, console, ram, ssh_port, ended })
}

/// The files that devices share with the host, and their sizes.
fn files<'a>(launch: &Launch<'a>) -> impl Iterator<Item = (String, u64)> + use<'a> {
    let sized = |device| args::file_size(device).map(|size| (args::file_of(device), size));
    launch.profile.devices.iter().copied().filter_map(sized)
}

/// Starts the ivshmem server, if the machine needs one. QEMU connects to it when it starts.
fn serve(launch: &Launch<'_>) -> Result<Option<Server>, VmError> {
    let device = Device::IvshmemDoorbell;
    if !launch.profile.devices.contains(&device) {
        return Ok(None);
    }
    let path = |name: String| launch.folder.join(name);
    Server::start(&path(args::server_of(device)), &path(args::file_of(device))).map(Some)
}

fn console_pipe(launch: &Launch<'_>, direction: &str) -> PathBuf {
    launch.folder.join(format!("{}.{direction}", args::CONSOLE))
}

/// Connects to a socket that QEMU will open; there is no event, so this polls.
async fn connect(socket: &Path) -> UnixStream {
    loop {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Why the host killed QEMU for memory, in words.
fn for_memory(limit: Option<&MemoryLimit>) -> String {
    let limit = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
    format!("the host killed QEMU since memory ran out{limit}: ")
}

/// The end of QEMU's standard error, if there is any.
fn said(stderr: &Path) -> String {
    let text = fs::read(stderr).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}

/// The host's port from a line such as `TCP[HOST_FORWARD]  12   127.0.0.1 33211       10.0.2.15    22`.
fn forwarded_port(usernet: &str) -> Option<u16> {
    let line = usernet.lines().find(|line| line.contains("HOST_FORWARD"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::process::Command;

    #[test]
    fn the_port_is_read_from_what_qemu_prints() {
        let text = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                    TCP[HOST_FORWARD]  12       127.0.0.1 33211       10.0.2.15    22     0     0\n";
        assert_eq!(forwarded_port(text), Some(33211));
        assert_eq!(forwarded_port("Hub -1 (net):\n"), None);
    }

    #[test]
    fn a_kill_for_memory_names_the_limit() {
        let limit = MemoryLimit { group: "/g".into(), limit_mib: 600, free_mib: 2 };
        let told =
            "the host killed QEMU since memory ran out (the control group /g is limited to 600 MiB, 2 of them free): ";
        assert_eq!(for_memory(Some(&limit)), told);
        assert_eq!(for_memory(None), "the host killed QEMU since memory ran out: ");
    }

    #[tokio::test]
    async fn a_start_that_fails_says_what_qemu_said_and_leaves_nothing() {
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let start =
            |script: &str| Command::new("sh").args(["-c", script]).stderr(stderr.reopen().unwrap()).spawn().unwrap();
        let never = || std::future::pending::<Result<(), VmError>>();
        let long = Duration::from_secs(60);

        let mut child = start("echo no such device >&2; exit 1");
        let error = unless_it_ends(never(), &mut child, stderr.path(), long).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU did not start: it ended (exit status: 1): no such device");

        // Its socket is closed a moment before it ends.
        let mut child = start("sleep 0.2; echo bad kernel >&2; exit 1");
        let closed = async { Err::<(), _>(VmError::Start("closed".to_owned())) };
        let error = unless_it_ends(closed, &mut child, stderr.path(), long).await.unwrap_err();
        assert!(error.to_string().contains("bad kernel"), "{error}");

        let mut child = start("exec sleep 600");
        let error = unless_it_ends(never(), &mut child, stderr.path(), Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("not ready within 0 s"), "{error}");
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn the_first_end_stands() {
        let (sender, receiver) = watch::channel(None);
        set_once(&sender, MachineEnd::Panicked);
        set_once(&sender, MachineEnd::Qemu("ended".into()));
        assert_eq!(*receiver.borrow(), Some(MachineEnd::Panicked));
    }
}
