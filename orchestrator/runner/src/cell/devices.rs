//! The devices that workloads own, watched from the host: where they are, and what is done to the memory that they reach.

use super::{Boot, Run, host, no_machine};
use crate::evidence::Stop;
use crate::eye::{self, Busy, Seen};
use crate::frames::{Sender, Times, account, probes};
use crate::need;
use crate::poll::Poller;
use crate::ticks::micros;
use luqual_model::{Frames, Phase, Probe};
use luqual_protocol::{Reaches, Said, Unplug, Workload, Written, digest};
use luqual_vm::{
    Device, Happened, Iommu, Machine, PciAddress, PciFunction, Ram, TRACE, Traced, file_of, frames_of, parse_trace,
};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A device of one part of a boot.
pub(super) struct Watched {
    device: Device,
    before: PciFunction,
    left: Option<Left>,
    taken: Option<Taken>,
    held_us: Option<u64>,
    /// The frames that it receives while it is busy.
    sender: Option<Sender>,
    received: Received,
}

/// The frames that a device has received, in runs.
#[derive(Default)]
struct Received {
    /// Those that were in the preserved memory.
    before: Vec<(u32, u32)>,
    after: Vec<(u32, u32)>,
}

/// From when it was left to the update on.
struct Left {
    at_us: u64,
    quiet: Vec<(u64, Box<[u8]>)>,
    busy: Option<PageWatch>,
}

/// What the host found just before it is taken again.
struct Taken {
    at_us: u64,
    after: Option<PciFunction>,
    changed_pages: Option<Vec<u64>>,
}

const PAGE: usize = 4096;

/// How long a guest may take to let go of a device; a port that is asked by its button waits for five seconds.
const UNPLUG: Duration = Duration::from_secs(20);
/// When it is asked once more.
const UNPLUG_AGAIN: Duration = Duration::from_secs(6);

impl Watched {
    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        self.device.id()
    }

    /// Where it is.
    pub(super) fn address(&self) -> PciAddress {
        self.before.address
    }

    /// The bridge that it is behind.
    pub(super) fn port(&self) -> Option<PciAddress> {
        self.before.behind
    }

    /// The pages that nobody should write, by their guest-physical addresses.
    pub(super) fn quiet(&self) -> impl Iterator<Item = u64> {
        self.left.iter().flat_map(|left| left.quiet.iter().map(|(at, _)| *at))
    }
}

impl Boot<'_> {
    /// What its machine lacks, by this QEMU or by what the machine is.
    pub(super) fn lacks(&self, qemu: luqual_vm::QemuVersion) -> Option<String> {
        let profile = self.profile;
        profile.lacks(qemu).or_else(|| self.parts.iter().find_map(|part| need::machine_lacks(profile, part.workload)))
    }
}

impl Run<'_> {
    /// Finds the devices of all parts in the source.
    pub(super) async fn find_devices(&mut self) -> Result<(), Stop> {
        if self.boot.parts.iter().all(|part| part.workload.device().is_none()) {
            return Ok(());
        }
        let functions = functions(self.machine.as_ref().ok_or_else(no_machine)?).await?;
        for (part, watched) in self.boot.parts.iter().zip(&mut self.watched) {
            let Some(device) = part.workload.device().and_then(|it| self.boot.profile.device(it)) else { continue };
            let before = functions.iter().find(|it| it.id == device.id()).cloned();
            let before = before.ok_or_else(|| Stop::Host(format!("QEMU does not know where {} is", device.id())))?;
            *watched = Some(Watched {
                device,
                before,
                left: None,
                taken: None,
                held_us: None,
                sender: None,
                received: Received::default(),
            });
        }
        Ok(())
    }

    /// Before a part's turn in a phase of the update.
    pub(super) async fn device_before(&mut self, part: usize, phase: Phase) -> Result<(), Stop> {
        let (Some(watched), Phase::Retrieve, 1) = (&mut self.watched[part], phase, self.hop) else { return Ok(()) };
        let machine = self.machine.as_ref().ok_or_else(no_machine)?;
        let after = functions(machine).await?.into_iter().find(|it| it.id == watched.device.id());
        let changed_pages = match watched.left.as_ref().filter(|left| !left.quiet.is_empty()) {
            Some(left) => Some(changed(machine.ram(), &left.quiet).map_err(host("the RAM file"))?),
            None => None,
        };
        watched.sender.iter().for_each(Sender::forget_waiting);
        watched.taken = Some(Taken { at_us: self.recorder.now_us(), after, changed_pages });
        Ok(())
    }

    /// After it.
    pub(super) fn device_after(&mut self, part: usize, phase: Phase, said: &Said) -> Result<(), Stop> {
        let Some(watched) = &mut self.watched[part] else { return Ok(()) };
        let now_us = self.recorder.now_us();
        match (phase, self.hop) {
            (Phase::Preserve, 0) => {
                let Reaches { quiet, busy } = said.reaches.clone().unwrap_or_default();
                let ram = self.machine.as_ref().ok_or_else(no_machine)?.ram();
                let quiet = quiet.into_iter().map(|at| Ok((at, page(ram, at)?))).collect::<std::io::Result<_>>();
                let quiet = quiet.map_err(host("the RAM file"))?;
                let busy = busy.map(|at| PageWatch::start(ram.clone(), at, self.recorder.started()));
                watched.left = Some(Left { at_us: now_us, quiet, busy });
                let period_ms = watched.device.frame_period_ms().filter(|_| self.boot.parts[part].workload.busy);
                if let Some(period_ms) = period_ms {
                    let folder = self.work.as_ref().ok_or_else(no_machine)?.path();
                    let (input, output) = frames_of(watched.device);
                    let (input, output, started) = (folder.join(input), folder.join(output), self.recorder.started());
                    let sender = Sender::start(&input, &output, started, period_ms).map_err(host("the frames"))?;
                    watched.sender = Some(sender);
                }
            }
            (Phase::Retrieve, 1) => {
                watched.held_us = Some(now_us);
                watched.received.before.clone_from(&said.frames);
            }
            (Phase::Verify, 1) => {
                watched.received.after.clone_from(&said.frames);
                watched.sender.iter().for_each(Sender::end);
                if let Some(Written { offset, digest: told }) = &said.written {
                    let path = self.work.as_ref().ok_or_else(no_machine)?.path().join(file_of(watched.device));
                    let mut bytes = [0; PAGE];
                    let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, *offset));
                    read.map_err(host(path.display()))?;
                    self.checked[part].add(vec![eye::file(told, &digest(&bytes))], phase);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Unplugs the devices whose time for it has come, and waits until they are gone.
    pub(super) async fn unplug(&mut self, now: Unplug, phase: Phase) -> Result<(), Stop> {
        for (number, part) in self.boot.parts.iter().enumerate() {
            let Some(watched) = self.watched[number].as_ref().filter(|_| part.workload.unplug == Some(now)) else {
                continue;
            };
            let id = watched.device.id();
            let machine = self.machine.as_ref().ok_or_else(no_machine)?;
            let gone = async {
                machine.unplug(id).await.map_err(super::explained)?;
                let (started, mut asked) = (Instant::now(), Instant::now());
                // QEMU tells of it by an event, but not of a guest that has not heard: one of some hundred has not.
                while functions(machine).await?.iter().any(|it| it.id == id) {
                    if started.elapsed() > UNPLUG {
                        return Ok(false);
                    }
                    if asked.elapsed() > UNPLUG_AGAIN {
                        asked = Instant::now();
                        // It may say that it is about to.
                        let _ = machine.unplug(id).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(true)
            };
            let ticks = self.ticks.get(self.hop as usize);
            let is_gone = self
                .recorder
                .phase(phase, self.hop, Some((machine, ticks)), async {
                    tokio::select! {
                        end = machine.wait_end() => Err(Stop::Machine(end)),
                        gone = gone => gone,
                    }
                })
                .await?;
            let observed = if is_gone { "gone" } else { "still there" };
            let name = "D0 host: after it was unplugged".to_owned();
            let probe = Probe { name, expected: "gone".to_owned(), observed: observed.to_owned(), held: is_gone };
            self.checked[number].add(vec![probe], phase);
        }
        Ok(())
    }

    /// What the host says of each part's device, once the machine is gone. A device that was not taken again has been judged by
    /// what came before.
    pub(super) fn see(&self) -> Result<Vec<Sight>, Stop> {
        let nothing = || self.boot.parts.iter().map(|_| Sight::default()).collect();
        if self.watched.iter().flatten().all(|watched| watched.held_us.is_none()) {
            return Ok(nothing());
        }
        let path = self.logs.join(TRACE);
        let text = fs::read(&path).map_err(host(path.display()))?;
        let traced = parse_trace(&String::from_utf8_lossy(&text), self.epoch_us);
        let mut all: Vec<Sight> = nothing();
        let parts = self.boot.parts.iter().zip(&self.watched).zip(&self.checked);
        for (((part, watched), checked), sight) in parts.zip(&mut all) {
            if let Some(watched) = watched {
                *sight = self.see_one(watched, part.workload, &traced, &checked.probes)?;
            }
        }
        Ok(all)
    }

    fn see_one(
        &self,
        watched: &Watched,
        workload: &Workload,
        traced: &[Traced],
        guest: &[Probe],
    ) -> Result<Sight, Stop> {
        let Watched { device, before, left: Some(left), taken: Some(taken), held_us: Some(held_us), .. } = watched
        else {
            return Ok(Sight::default());
        };
        // Firmware and kernel have configured it: a trace without that is none, and would say that nothing has happened.
        let is_traced = traced
            .iter()
            .any(|event| matches!(event.what, Happened::ConfigWritten { address, .. } if address == before.address));
        if !is_traced {
            let why = "QEMU's trace has nothing of the device; it has to be built with the trace backend `log`";
            return Err(Stop::Host(why.to_owned()));
        }
        let last_tick_us = self.ticks.first().and_then(|ticks| ticks.last_us());
        let busy = left.busy.as_ref().zip(self.ticks.first());
        let seen = Seen {
            qemu_type: device.qemu_type(),
            before,
            after: taken.after.as_ref(),
            left_us: left.at_us,
            taken_us: taken.at_us,
            held_us: *held_us,
            is_unplugged: workload.unplug == Some(Unplug::WhilePreserved),
            is_busy: workload.busy,
            is_control: workload.control,
            is_translated: self.boot.profile.iommu != Iommu::None,
            busy: busy.map(|(watch, ticks)| Busy {
                last_change_us: watch.last_change_us(),
                last_tick_us: ticks.last_seen_us(),
            }),
            changed_pages: taken.changed_pages.clone(),
        };
        let mut sight = Sight { probes: eye::probes(&seen, traced, guest), frames: None };
        if let (Some(sender), Some(last_tick_us)) = (&watched.sender, last_tick_us) {
            let times = Times { period_us: sender.period_us(), last_tick_us, taken_us: taken.at_us };
            let frames = account(&sender.sent(), &watched.received.before, &watched.received.after, &times);
            sight.probes.extend(probes(&frames, workload.control));
            sight.frames = Some(frames);
        }
        Ok(sight)
    }
}

/// What the host says of a device.
#[derive(Default)]
pub(super) struct Sight {
    pub(super) probes: Vec<Probe>,
    pub(super) frames: Option<Frames>,
}

async fn functions(machine: &Machine) -> Result<Vec<PciFunction>, Stop> {
    machine.functions().await.map_err(super::explained)
}

fn page(ram: &Ram, at: u64) -> std::io::Result<Box<[u8]>> {
    let mut bytes = vec![0; PAGE];
    ram.read(at, &mut bytes)?;
    Ok(bytes.into())
}

/// The places among these pages whose content is another now.
fn changed(ram: &Ram, known: &[(u64, Box<[u8]>)]) -> std::io::Result<Vec<u64>> {
    let mut places = Vec::new();
    for (place, (at, before)) in known.iter().enumerate() {
        if page(ram, *at)? != *before {
            places.push(place as u64);
        }
    }
    Ok(places)
}

/// A page of the guest that is looked at as often as the ticks are.
struct PageWatch {
    last_change_us: Arc<AtomicU64>,
    _poller: Poller,
}

impl PageWatch {
    fn start(ram: Ram, at: u64, started: Instant) -> Self {
        let last_change_us = Arc::new(AtomicU64::new(0));
        let poller = Poller::start({
            let last_change_us = last_change_us.clone();
            let mut known = page(&ram, at).unwrap_or_default();
            move || {
                if let Ok(now) = page(&ram, at)
                    && now != known
                {
                    last_change_us.store(micros(started.elapsed()), Ordering::Relaxed);
                    known = now;
                }
                ControlFlow::Continue(())
            }
        });
        Self { last_change_us, _poller: poller }
    }

    fn last_change_us(&self) -> u64 {
        self.last_change_us.load(Ordering::Relaxed)
    }
}

/// When the boot that started then did so, in microseconds since 1970, by which QEMU stamps its trace.
pub(super) fn epoch_us(started: Instant) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    micros(now.saturating_sub(started.elapsed()))
}
