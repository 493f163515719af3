//! Watches the devices of workloads from the host: their addresses, and writes to the memory that they can access.

use super::frames::{Sender, Times, account, probes};
use super::host_view::{self, Busy, DeviceFacts};
use super::poll::{PERIOD, Poller};
use super::ticks::{Ticks, micros};
use crate::judge::Stop;
use crate::lab::Machine;
use luqual_model::{Frames, Phase, Probe, bounds};
use luqual_protocol::{Reaches, Said, Unplug, Workload, Written, digest};
use luqual_vm::{
    Device, Happened, Iommu, PciAddress, PciFunction, Profile, Ram, TRACE, Traced, file_of, frames_of, parse_trace,
};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A device of one part of a boot.
pub(crate) struct Watched {
    device: Device,
    workload: Workload,
    before: PciFunction,
    left: Option<Left>,
    taken: Option<Taken>,
    held_us: Option<u64>,
    /// Sends numbered frames to it while it is busy.
    sender: Option<Sender>,
    received: Received,
}

/// The frames that a device has received, in runs.
#[derive(Default)]
struct Received {
    /// The frames that the preserved memory had at retrieve.
    before: Vec<(u32, u32)>,
    after: Vec<(u32, u32)>,
}

/// The observations from preserve on.
struct Left {
    at_us: u64,
    quiet: Vec<(u64, Box<[u8]>)>,
    busy: Option<PageWatch>,
}

/// The observations just before the target opens the device.
struct Taken {
    at_us: u64,
    after: Option<PciFunction>,
    changed_pages: Option<Vec<u64>>,
}

const PAGE: usize = 4096;

/// The limit for a guest to release a device; a hot-plug port waits for five seconds after its button is pressed.
const UNPLUG: Duration = Duration::from_secs(20);
/// When the request is repeated.
const UNPLUG_AGAIN: Duration = Duration::from_secs(6);

impl Watched {
    /// The name of the device.
    pub(crate) fn name(&self) -> &'static str {
        self.device.id()
    }

    /// The PCI address.
    pub(crate) fn address(&self) -> PciAddress {
        self.before.address
    }

    /// The bridge above it.
    pub(crate) fn port(&self) -> Option<PciAddress> {
        self.before.behind
    }

    /// The guest-physical addresses of the pages that must not be written.
    pub(crate) fn quiet(&self) -> impl Iterator<Item = u64> {
        self.left.iter().flat_map(|left| left.quiet.iter().map(|(at, _)| *at))
    }
}

/// The device of each part that owns one, by part.
pub(crate) struct Devices(Vec<Option<Watched>>);

impl Devices {
    pub(crate) fn of(parts: usize) -> Self {
        Self((0..parts).map(|_| None).collect())
    }

    pub(crate) fn of_part(&self, part: usize) -> Option<&Watched> {
        self.0.get(part)?.as_ref()
    }

    /// The PCI address of a part's device in the source.
    pub(crate) fn address(&self, part: usize) -> Option<String> {
        self.of_part(part).map(|watched| watched.address().to_string())
    }

    /// Finds the devices of all parts in the source.
    pub(crate) async fn find(
        &mut self,
        machine: &dyn Machine,
        profile: &Profile,
        workloads: &[&Workload],
    ) -> Result<(), Stop> {
        if workloads.iter().all(|workload| workload.device.is_none()) {
            return Ok(());
        }
        let functions = functions(machine).await?;
        for (workload, watched) in workloads.iter().zip(&mut self.0) {
            let Some(device) = workload.device.and_then(|it| profile.device(it.word())) else { continue };
            let before = functions.iter().find(|it| it.id == device.id()).cloned();
            let before = before.ok_or_else(|| Stop::Host(format!("QEMU does not report where {} is", device.id())))?;
            *watched = Some(Watched {
                device,
                workload: **workload,
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

    /// Records the observations before a part retrieves its state, after `hop` kexecs.
    pub(crate) async fn before_it_is_taken(
        &mut self,
        part: usize,
        hop: u32,
        machine: &dyn Machine,
        started: Instant,
    ) -> Result<(), Stop> {
        let (Some(watched), 1) = (&mut self.0[part], hop) else { return Ok(()) };
        let after = functions(machine).await?.into_iter().find(|it| it.id == watched.device.id());
        let changed_pages = match watched.left.as_ref().filter(|left| !left.quiet.is_empty()) {
            Some(left) => Some(changed(machine.ram(), &left.quiet).map_err(Stop::host("the RAM file"))?),
            None => None,
        };
        watched.sender.iter().for_each(Sender::forget_waiting);
        // Later changes are due to the target.
        watched.taken = Some(Taken { at_us: micros(started.elapsed()), after, changed_pages });
        Ok(())
    }

    /// Records the observations after a part's request in a phase, after `hop` kexecs. Times are in microseconds
    /// since the boot's start, at `started`.
    pub(crate) fn after(
        &mut self,
        part: usize,
        (phase, hop): (Phase, u32),
        said: &Said,
        machine: &dyn Machine,
        (now_us, started): (u64, Instant),
    ) -> Result<Vec<Probe>, Stop> {
        let Some(watched) = &mut self.0[part] else { return Ok(Vec::new()) };
        match (phase, hop) {
            (Phase::Preserve, 0) => {
                let Reaches { quiet, busy } = said.reaches.clone().unwrap_or_default();
                let ram = machine.ram();
                let quiet = quiet.into_iter().map(|at| Ok((at, page(ram, at)?))).collect::<std::io::Result<_>>();
                let quiet = quiet.map_err(Stop::host("the RAM file"))?;
                let busy = busy.map(|at| PageWatch::start(ram.clone(), at, started));
                watched.left = Some(Left { at_us: now_us, quiet, busy });
                let period_ms = watched.device.frame_period_ms().filter(|_| watched.workload.busy);
                if let Some(period_ms) = period_ms {
                    let (input, output) = frames_of(watched.device);
                    let (input, output) = (machine.folder().join(input), machine.folder().join(output));
                    let sender = Sender::start(&input, &output, started.into_std(), period_ms);
                    watched.sender = Some(sender.map_err(Stop::host("the frames"))?);
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
                    let path = machine.folder().join(file_of(watched.device));
                    let mut bytes = [0; PAGE];
                    let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, *offset));
                    read.map_err(Stop::host(path.display()))?;
                    return Ok(vec![host_view::file(told, &digest(&bytes))]);
                }
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Unplugs a device, and waits until it is gone. Returns false if it is still there after the limit.
    pub(crate) async fn unplug(machine: &dyn Machine, id: &str) -> Result<bool, Stop> {
        machine.unplug(id).await.map_err(Stop::Host)?;
        let (started, mut asked) = (Instant::now(), Instant::now());
        // Poll, since QEMU sends an event only for guests that release the device; one guest of some hundred misses
        // the request.
        while functions(machine).await?.iter().any(|it| it.id == id) {
            if started.elapsed() > UNPLUG {
                return Ok(false);
            }
            if asked.elapsed() > UNPLUG_AGAIN {
                asked = Instant::now();
                // QEMU may answer that the removal is already pending.
                let _ = machine.unplug(id).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(true)
    }
}

/// The host view of each part's device, after the machine has ended: from QEMU's trace in `logs` of a boot that began
/// at `epoch_us`. `guest` has the guest's results of each part.
pub(crate) async fn observed(
    devices: &Devices,
    profile: &Profile,
    guest: &[&[Probe]],
    source: Option<&Ticks>,
    (logs, epoch_us): (&Path, u64),
) -> Result<Vec<HostView>, Stop> {
    if devices.0.iter().flatten().all(|watched| watched.held_us.is_none()) {
        return Ok(devices.0.iter().map(|_| HostView::default()).collect());
    }
    let path = logs.join(TRACE);
    // The trace has megabytes: do not block the event loop that watches other machines.
    let read = tokio::task::spawn_blocking(move || {
        read_trace(&path, bounds::QEMU_FILE).map(|text| parse_trace(&text, epoch_us))
    });
    let traced = read.await.map_err(Stop::host("the trace"))??;
    let of_each = devices.0.iter().zip(guest).map(|(watched, guest)| match watched {
        Some(watched) => host_view_of(watched, profile, &traced, guest, source),
        None => Ok(HostView::default()),
    });
    of_each.collect()
}

/// The trace. What happened after a trace was cut is not known, so that nothing can be said of any device.
fn read_trace(path: &Path, bound: u64) -> Result<String, Stop> {
    let bytes = luqual_files::read(path, 2 * bound).map_err(Stop::host(path.display()))?;
    if bytes.len() as u64 >= bound {
        return Err(Stop::Host(format!(
            "QEMU's trace of the devices was cut at {} MiB: what they did then was not observed",
            bound >> 20
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn host_view_of(
    watched: &Watched,
    profile: &Profile,
    traced: &[Traced],
    guest: &[Probe],
    source: Option<&Ticks>,
) -> Result<HostView, Stop> {
    let Watched { device, workload, before, left: Some(left), taken: Some(taken), held_us: Some(held_us), .. } =
        watched
    else {
        return Ok(HostView::default());
    };
    // Firmware and kernel configure each device. A trace without this has no events at all, and would look like a
    // quiet device.
    let is_traced = traced
        .iter()
        .any(|event| matches!(event.what, Happened::ConfigWritten { address, .. } if address == before.address));
    if !is_traced {
        let why = "QEMU's trace has no events of the device; use a QEMU that is built with the trace backend `log`";
        return Err(Stop::Host(why.to_owned()));
    }
    let busy = left.busy.as_ref().zip(source);
    let facts = DeviceFacts {
        qemu_type: device.qemu_type(),
        before,
        after: taken.after.as_ref(),
        left_us: left.at_us,
        taken_us: taken.at_us,
        held_us: *held_us,
        is_unplugged: workload.unplug == Some(Unplug::WhilePreserved),
        is_busy: workload.busy,
        is_control: workload.control,
        is_translated: profile.iommu != Iommu::None,
        busy: busy
            .map(|(watch, ticks)| Busy { last_change_us: watch.last_change_us(), last_tick_us: ticks.last_seen_us() }),
        changed_pages: taken.changed_pages.clone(),
    };
    let mut view = HostView { probes: host_view::probes(&facts, traced, guest), frames: None };
    if let (Some(sender), Some(last_tick_us)) = (&watched.sender, source.and_then(Ticks::last_us)) {
        let times = Times { period_us: sender.period_us(), last_tick_us, taken_us: taken.at_us };
        let frames = account(&sender.sent(), &watched.received.before, &watched.received.after, &times);
        view.probes.extend(probes(&frames, workload.control));
        view.frames = Some(frames);
    }
    Ok(view)
}

/// The host's results for a device.
#[derive(Default)]
pub(crate) struct HostView {
    pub(crate) probes: Vec<Probe>,
    pub(crate) frames: Option<Frames>,
}

async fn functions(machine: &dyn Machine) -> Result<Vec<PciFunction>, Stop> {
    machine.functions().await.map_err(Stop::Host)
}

fn page(ram: &Ram, at: u64) -> std::io::Result<Box<[u8]>> {
    let mut bytes = vec![0; PAGE];
    ram.read(at, &mut bytes)?;
    Ok(bytes.into())
}

/// The addresses of the pages whose content has changed.
fn changed(ram: &Ram, known: &[(u64, Box<[u8]>)]) -> std::io::Result<Vec<u64>> {
    let mut places = Vec::new();
    for (place, (at, before)) in known.iter().enumerate() {
        if page(ram, *at)? != *before {
            places.push(place as u64);
        }
    }
    Ok(places)
}

/// A page of the guest that is polled as often as the ticks.
struct PageWatch {
    last_change_us: Arc<AtomicU64>,
    _poller: Poller,
}

impl PageWatch {
    fn start(ram: Ram, at: u64, started: Instant) -> Self {
        let last_change_us = Arc::new(AtomicU64::new(0));
        let poller = Poller::start(PERIOD, {
            let last_change_us = last_change_us.clone();
            let mut known = page(&ram, at).unwrap_or_default();
            let started = started.into_std();
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

/// The present time in microseconds since 1970, as in QEMU's trace.
pub(crate) fn epoch_us() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_was_cut_says_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; (1 << 20) - 1]).unwrap();
        assert_eq!(read_trace(file.path(), 1 << 20).map(|text| text.len()), Ok((1 << 20) - 1));
        for more in [1 << 20, 1 << 21, (1 << 21) + 1] {
            std::fs::write(file.path(), vec![b'x'; more]).unwrap();
            assert!(matches!(read_trace(file.path(), 1 << 20), Err(Stop::Host(_))), "{more}");
        }
    }
}
