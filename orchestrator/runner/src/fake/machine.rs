//! The machine.

use super::guest::FakeGuest;
use super::script::Script;
use crate::lab::{Guest, Machine, Start, Waiting};
use crate::observe::{KernelOfLog, LogReader, MachineTime, Ticks, micros};
use luqual_guest::{AgentLog, Keys};
use luqual_model::{KernelInfo, PciAddress};
use luqual_protocol::{Archived, NONCE_OPTION, TICK_PERIOD_MS, tick_page};
use luqual_vm::{Console, Feed, MachineEnd, PciFunction, Ram, TraceEvents};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// A machine that is not there.
pub(super) struct FakeMachine {
    state: Rc<State>,
    console: Console,
    ram: Ram,
    folder: TempDir,
}

/// What a machine and the guests in it share.
pub(super) struct State {
    pub(super) script: Rc<Script>,
    /// Of source and target.
    kernels: [KernelInfo; 2],
    /// The nonce of each kernel that was booted so far, and when it was.
    booted: RefCell<Vec<(String, Instant)>>,
    /// How many kexecs are behind it.
    hop: watch::Sender<u32>,
    end: watch::Sender<Option<MachineEnd>>,
    feed: RefCell<Feed>,
    /// The command line of the kernel that is loaded.
    pub(super) loaded: RefCell<Option<String>>,
    /// Since when there are no ticks.
    silent_since: Cell<Option<Instant>>,
    started: Instant,
    attempts: Cell<usize>,
    running: Rc<Cell<usize>>,
    /// Whether its guest goes on alone, and is watched by its console only.
    is_alone: bool,
}

/// What anything takes.
pub(super) const A_MOMENT: Duration = Duration::from_millis(5);

impl FakeMachine {
    pub(super) fn start(
        script: Rc<Script>,
        start: &Start<'_>,
        target: KernelInfo,
        running: Rc<Cell<usize>>,
    ) -> io::Result<Self> {
        let folder = tempfile::tempdir_in(start.logs)?;
        let (console, feed) = Console::fed(&start.logs.join("console.log"), start.started.into_std())?;
        let (path, size) = (folder.path().join("ram"), start.profile.memory_mib << 20);
        std::fs::File::create(&path)?.set_len(size)?;
        let ram = Ram::of_file(&path, size)?;
        running.set(running.get() + 1);
        let state = State {
            script,
            kernels: [start.kernel.0.clone(), target],
            booted: RefCell::new(vec![(nonce(start.command_line), Instant::now())]),
            hop: watch::Sender::new(0),
            end: watch::Sender::new(None),
            feed: RefCell::new(feed),
            loaded: RefCell::default(),
            silent_since: Cell::default(),
            started: start.started,
            attempts: Cell::default(),
            running,
            is_alone: start.mode.alone.is_some(),
        };
        state.say(&format!("[    0.000000] Linux version {}", start.kernel.0.release));
        Ok(Self { state: Rc::new(state), console, ram, folder })
    }
}

fn nonce(command_line: &str) -> String {
    let word = command_line.split_whitespace().find_map(|word| word.strip_prefix(NONCE_OPTION));
    word.unwrap_or_default().to_owned()
}

impl State {
    pub(super) fn hop(&self) -> u32 {
        *self.hop.borrow()
    }

    /// The kernel that runs after so many kexecs, with its nonce.
    pub(super) fn kernel(&self, hop: u32) -> (&KernelInfo, String) {
        let booted = self.booted.borrow();
        (&self.kernels[hop as usize % 2], booted.get(hop as usize).map(|it| it.0.clone()).unwrap_or_default())
    }

    pub(super) fn say(&self, line: &str) {
        self.feed.borrow_mut().take(format!("{line}\n").as_bytes());
    }

    pub(super) fn end(&self, end: MachineEnd) {
        self.hang();
        self.end.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                *known = Some(end);
            }
            is_first
        });
    }

    /// No ticks any more.
    pub(super) fn hang(&self) {
        if self.silent_since.get().is_none() {
            self.silent_since.set(Some(Instant::now()));
        }
    }

    /// It ticks again.
    pub(super) fn resume(&self) {
        self.silent_since.set(None);
    }

    /// The kernel that is loaded takes over.
    pub(super) fn kexec(&self) {
        self.hang();
        self.say("[    3.000000] kexec_core: Starting new kernel");
        let nonce = nonce(self.loaded.take().unwrap_or_default().as_str());
        self.booted.borrow_mut().push((nonce, Instant::now()));
        self.attempts.set(0);
        self.hop.send_modify(|hop| *hop += 1);
    }

    /// When the kernel after so many kexecs listens, once it runs.
    async fn listens_at(&self, hop: u32) {
        let mut now = self.hop.subscribe();
        // The sender is the machine's, which waits here.
        let _ = now.wait_for(|now| *now >= hop).await;
        let booted = self.booted.borrow().get(hop as usize).map(|it| it.1);
        match booted.zip((self.script.boots_in)(hop)) {
            Some((at, takes)) => sleep_until(at + takes).await,
            None => pending().await,
        }
    }

    fn is_up(&self) -> bool {
        let (hop, booted) = (self.hop(), self.booted.borrow());
        let since = booted.last().map(|it| it.1.elapsed()).unwrap_or_default();
        (self.script.boots_in)(hop).is_some_and(|takes| since >= takes)
    }

    /// The tick page of a kernel that was first looked at then, when it was looked at first, when it changed last, and now.
    fn tick_page(&self, hop: u32, first: Instant) -> Vec<([u8; tick_page::LENGTH], u64)> {
        let now = Instant::now();
        // What is silent is the kernel that runs, or the one that was left last.
        let silent = self.silent_since.get().filter(|_| self.hop() <= hop + 1);
        let last = silent.unwrap_or(now).max(first);
        let us = |at: Instant| micros(at.duration_since(self.started));
        let page = |at: Instant| {
            let ticks = us(at) / 1000 / TICK_PERIOD_MS + 1;
            let words = [tick_page::MAGIC, ticks, us(first) * 1000, us(at) * 1000];
            let mut page = [0; tick_page::LENGTH];
            page.chunks_mut(8).zip(words).for_each(|(place, word)| place.copy_from_slice(&word.to_le_bytes()));
            page
        };
        vec![(page(first), us(first)), (page(last), us(last)), (page(last), us(now))]
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.state.running.set(self.state.running.get() - 1);
    }
}

impl Machine for FakeMachine {
    fn ended(&self) -> Option<MachineEnd> {
        self.state.end.borrow().clone()
    }

    fn wait_end(&self) -> Waiting<'_, MachineEnd> {
        let mut end = self.state.end.subscribe();
        Box::pin(async move {
            match end.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(end)) => end.clone(),
                _ => pending().await,
            }
        })
    }

    fn kill(&self) {
        self.state.end(MachineEnd::Qemu("QEMU ended (signal: 9 (SIGKILL))".to_owned()));
    }

    fn stop(&self) {}

    fn console(&self) -> &Console {
        &self.console
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn files(&self) -> &[Archived] {
        &[]
    }

    fn watch_ticks(&self, _: u64) -> Option<Ticks> {
        if self.state.is_alone {
            return None;
        }
        self.state.silent_since.set(None);
        let (state, hop, first) = (self.state.clone(), self.state.hop(), Instant::now());
        Some(Ticks::asked(Box::new(move || state.tick_page(hop, first))))
    }

    fn read_log(&self, _: KernelOfLog<'_>) -> Option<Result<LogReader, String>> {
        (!self.state.is_alone).then(|| Ok(LogReader::told((self.state.script.says_late)(self.state.hop()))))
    }

    fn time(&self) -> MachineTime {
        let state = self.state.clone();
        MachineTime::asked(move || (state.script.withheld)(state.started.elapsed()))
    }

    fn listens(&self, times: usize) -> Waiting<'_, ()> {
        Box::pin(async move {
            let hop = u32::try_from(times).unwrap_or(u32::MAX).saturating_sub(1);
            self.state.listens_at(hop).await;
            if !(self.state.script.says_that_it_listens)(hop) {
                pending::<()>().await;
            }
        })
    }

    fn says_unreachable(&self) -> Waiting<'_, ()> {
        Box::pin(async move {
            let mut now = self.state.hop.subscribe();
            // The sender is the machine's, which waits here.
            let _ = now.wait_for(|hop| (self.state.script.is_unreachable)(*hop)).await;
        })
    }

    fn connect<'a>(&'a self, _: &'a Keys, _: &'a AgentLog) -> Waiting<'a, Result<Box<dyn Guest>, String>> {
        Box::pin(async move {
            sleep(A_MOMENT).await;
            if !self.state.is_up() {
                return Err("connection refused".to_owned());
            }
            let attempt = self.state.attempts.replace(self.state.attempts.get() + 1);
            match (self.state.script.connects)(self.state.hop(), attempt) {
                Ok(()) => Ok(Box::new(FakeGuest::new(self.state.clone())) as Box<dyn Guest>),
                Err(Some(why)) => Err(why),
                Err(None) => pending().await,
            }
        })
    }

    fn functions(&self) -> Waiting<'_, Result<Vec<PciFunction>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn mark<'a>(&'a self, _: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn trace_events(&self) -> Waiting<'_, Result<TraceEvents, String>> {
        Box::pin(async { Ok(TraceEvents::default()) })
    }

    fn unplug<'a>(&'a self, _: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn config(&self, _: PciAddress, _: u8) -> Waiting<'_, Result<u32, String>> {
        Box::pin(async { Ok(0) })
    }

    fn set_config(&self, _: PciAddress, _: u8, _: u32) -> Waiting<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn trace_no_dma(&self) -> Waiting<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn set_register(&self, _: u64, _: u64) -> Waiting<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn registers(&self) -> Waiting<'_, Result<String, String>> {
        Box::pin(async { Ok("RIP=0".to_owned()) })
    }

    fn inject_nmi(&self) -> Waiting<'_, Result<(), String>> {
        Box::pin(async {
            self.state.say("[    9.000000] NMI: asked for");
            Ok(())
        })
    }

    fn dump<'a>(&'a self, _: &'a Path) -> Waiting<'a, Result<u64, String>> {
        Box::pin(async { Err("a machine that is not there has no memory".to_owned()) })
    }

    fn quit<'a>(self: Box<Self>, _: Option<&'a Path>) -> Waiting<'a, Result<(), String>> {
        Box::pin(async move {
            if self.state.script.never_quits {
                pending::<()>().await;
            }
            Ok(())
        })
    }
}
