//! Watches the devices of workloads from the host: their addresses, and writes to the memory that they can access.

use super::device_trace::{DeviceTrace, Moment, TracedDevice};
use super::frames::{self, Sender, Times};
use super::host_view::{self, Busy, DeviceFacts};
use super::poll::{PERIOD, Poller};
use super::ticks::{Ticks, micros};
use super::witness::{Deaf, Heard, Hears, REPORT_IT};
use crate::judge::Stop;
use crate::lab::Machine;
use luqual_model::{Device, Frames, Iommu, PciAddress, Phase, Probe, Profile, bounds};
use luqual_protocol::{KnownPage, Reaches, Said, Unplug, Workload, Written, digest};
use luqual_vm::{PciFunction, Ram, TRACE, TraceEvents, Traced, file_of, frames_of, parse_trace};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A device of one part of a boot.
pub(crate) struct Watched {
    device: Device,
    workload: Workload,
    before: PciFunction,
    left: Option<Left>,
    taken: Option<Taken>,
    /// Whether the target has opened it again, or tried to.
    is_held: bool,
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
    quiet: Vec<(u64, Box<[u8]>)>,
    /// Whether the RAM file has the content that the guest sees in the page that both know.
    sees_ram: Result<Hears, Deaf>,
    busy: Option<PageWatch>,
}

/// The observations just before the target opens the device.
struct Taken {
    at_us: u64,
    after: Result<Option<PciFunction>, Deaf>,
    changed_pages: Option<Result<Heard<u64>, Deaf>>,
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
pub(crate) struct Devices {
    of_parts: Vec<Option<Watched>>,
    /// The trace events that QEMU writes.
    written: TraceEvents,
}

impl Devices {
    pub(crate) fn of(parts: usize) -> Self {
        Self { of_parts: (0..parts).map(|_| None).collect(), written: TraceEvents::default() }
    }

    pub(crate) fn of_part(&self, part: usize) -> Option<&Watched> {
        self.of_parts.get(part)?.as_ref()
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
        self.written = machine.trace_events().await.map_err(Stop::Host)?;
        let functions = functions(machine).await?;
        for (workload, watched) in workloads.iter().zip(&mut self.of_parts) {
            let Some(device) = workload.device.and_then(|it| profile.device(it.word())) else { continue };
            let before = functions.iter().find(|it| it.id == device.id()).cloned();
            let before = before.ok_or_else(|| Stop::Host(format!("QEMU does not report where {} is", device.id())))?;
            *watched = Some(Watched {
                device,
                workload: **workload,
                before,
                left: None,
                taken: None,
                is_held: false,
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
        let (Some(watched), 1) = (&mut self.of_parts[part], hop) else { return Ok(()) };
        let after = find(functions(machine).await?, watched.device.id());
        let changed_pages = match watched.left.as_ref().filter(|left| !left.quiet.is_empty()) {
            Some(Left { quiet, sees_ram, .. }) => {
                let changed = changed(machine.ram(), quiet).map_err(Stop::host("the RAM file"))?;
                Some(sees_ram.clone().map(|sees| sees.heard(changed)))
            }
            None => None,
        };
        watched.sender.iter().for_each(Sender::forget_waiting);
        // Later changes are due to the target.
        watched.taken = Some(Taken { at_us: micros(started.elapsed()), after, changed_pages });
        mark(machine, Moment::Taken, part).await
    }

    /// Marks the end of a part's request in QEMU's trace, after `hop` kexecs.
    pub(crate) async fn mark(
        &self,
        part: usize,
        (phase, hop): (Phase, u32),
        machine: &dyn Machine,
    ) -> Result<(), Stop> {
        match (self.of_part(part), phase, hop) {
            (Some(_), Phase::Preserve, 0) => mark(machine, Moment::Left, part).await,
            (Some(_), Phase::Retrieve, 1) => mark(machine, Moment::Held, part).await,
            _ => Ok(()),
        }
    }

    /// Starts to send frames to busy devices, just before the kexec after `hop` kexecs: a device's queue has space for
    /// seconds of them, and a busy host takes as long to load a kernel.
    pub(crate) fn send_frames(&mut self, hop: u32, machine: &dyn Machine, started: Instant) -> Result<(), Stop> {
        for watched in self.of_parts.iter_mut().flatten().filter(|it| hop == 0 && it.workload.busy) {
            let Some(period_ms) = watched.device.frame_period_ms() else { continue };
            let (input, output) = frames_of(watched.device);
            let (input, output) = (machine.folder().join(input), machine.folder().join(output));
            let sender = Sender::start(&input, &output, started.into_std(), period_ms);
            watched.sender = Some(sender.map_err(Stop::host("the frames"))?);
        }
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
        started: Instant,
    ) -> Result<Vec<Probe>, Stop> {
        let Some(watched) = &mut self.of_parts[part] else { return Ok(Vec::new()) };
        match (phase, hop) {
            (Phase::Preserve, 0) => {
                let Reaches { quiet, busy, known } = said.reaches.clone().unwrap_or_default();
                let ram = machine.ram();
                let sees_ram = sees(ram, &known).map_err(Stop::host("the RAM file"))?;
                let quiet = quiet.into_iter().map(|at| Ok((at, page(ram, at)?))).collect::<std::io::Result<_>>();
                let quiet = quiet.map_err(Stop::host("the RAM file"))?;
                let busy = busy.map(|at| PageWatch::start(ram.clone(), at, started));
                watched.left = Some(Left { quiet, sees_ram, busy });
            }
            (Phase::Retrieve, 1) => {
                watched.is_held = true;
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
        while find(functions(machine).await?, id).map_err(|deaf| Stop::Host(deaf.to_string()))?.is_some() {
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

/// The host view of each part's device, after the machine has ended: with QEMU's trace in `logs`. `guest` has the
/// guest's results of each part. A part without a device has an empty view.
pub(crate) async fn observed(
    devices: &Devices,
    profile: &Profile,
    guest: &[&[Probe]],
    source: Option<&Ticks>,
    logs: &Path,
) -> Vec<HostView> {
    if devices.of_parts.iter().flatten().all(|watched| !watched.is_held) {
        return devices.of_parts.iter().map(|_| HostView::default()).collect();
    }
    let path = logs.join(TRACE);
    // The trace has megabytes: do not block the event loop that watches other machines.
    let read = tokio::task::spawn_blocking(move || read_trace(&path, bounds::QEMU_FILE).map(|text| parse_trace(&text)));
    let read = read.await.map_err(|error| error.to_string()).and_then(|read| read);
    let traced = read.map_err(|why| Deaf {
        witness: "QEMU's trace",
        why,
        remedy: "see qemu.stderr, and whether the disk is full",
    });
    let of_each = devices.of_parts.iter().zip(guest).enumerate().map(|(part, (watched, guest))| match watched {
        Some(watched) => host_view_of(watched, (profile, part), (&traced, &devices.written), guest, source),
        None => HostView::default(),
    });
    of_each.collect()
}

/// The trace. What happened after a trace was cut is not known, so that nothing can be said of any device.
fn read_trace(path: &Path, bound: u64) -> Result<String, String> {
    let bytes = luqual_files::read(path, 2 * bound).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 >= bound {
        return Err(format!("it was cut at {} MiB: what the devices did then was not observed", bound >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn host_view_of(
    watched: &Watched,
    (profile, part): (&Profile, usize),
    (traced, written): (&Result<Vec<Traced>, Deaf>, &TraceEvents),
    guest: &[Probe],
    source: Option<&Ticks>,
) -> HostView {
    let Watched { device, workload, before, left: Some(left), taken: Some(taken), is_held: true, .. } = watched else {
        let (witness, why) = ("the host's view of the device", "the target was not asked for it".to_owned());
        let deaf = Some(Deaf { witness, why, remedy: REPORT_IT });
        return HostView { deaf, ..HostView::default() };
    };
    let (device, address) = (*device, before.address);
    let of = TracedDevice { device, address, requester: profile.bus.requester_of(address), iommu: profile.iommu };
    let trace = traced.as_ref().map_err(Clone::clone).and_then(|events| DeviceTrace::of(events, written, part, of));
    let ticks = || {
        let no_ticks = || deaf_page("no tick of the source was seen".to_owned());
        source.filter(|source| source.last_us().is_some()).ok_or_else(no_ticks)
    };
    let busy: Option<Result<Busy, Deaf>> = left.busy.as_ref().map(|watch| {
        let (last_change_us, last_tick_us) = (watch.last_change_us(), ticks()?.last_seen_us());
        let seen = || deaf_page(format!("the page that {} writes again and again never changed", device.id()));
        Hears::by(last_change_us > 0, seen)?;
        Ok(Busy { last_change_us, last_tick_us })
    });
    let facts = DeviceFacts {
        before,
        after: taken.after.as_ref().map(Option::as_ref).map_err(Clone::clone),
        is_unplugged: workload.unplug == Some(Unplug::WhilePreserved),
        has_dma: device.has_dma(),
        is_busy: workload.busy,
        is_preserved: workload.preserves_device,
        is_control: workload.control,
        is_translated: profile.iommu != Iommu::None,
        busy,
        changed_pages: taken.changed_pages.clone(),
    };
    let host_view::HostProbes { mut probes, mut deaf } = host_view::probes(facts, &trace, guest);
    let counted: Option<Result<(Vec<Probe>, Frames), Deaf>> = watched.sender.as_ref().map(|sender| {
        let last_tick_us = ticks()?.last_us().unwrap_or_default();
        let times = Times { period_us: sender.period_us(), last_tick_us, taken_us: taken.at_us };
        let Received { before, after } = &watched.received;
        let frames = frames::account(&sender.sent(), before, after, &times);
        Ok((frames::probes(&frames, workload)?, frames))
    });
    let mut frames = None;
    match counted {
        Some(Ok((of_frames, counted))) => {
            probes.extend(of_frames);
            frames = Some(counted);
        }
        Some(Err(unheard)) => {
            deaf.get_or_insert(unheard);
        }
        None => {}
    }
    HostView { probes, frames, deaf }
}

/// The host's results for a device.
#[derive(Default)]
pub(crate) struct HostView {
    pub(crate) probes: Vec<Probe>,
    pub(crate) frames: Option<Frames>,
    /// A witness that says nothing. Then nothing is known of the device, unless another probe failed.
    pub(crate) deaf: Option<Deaf>,
}

async fn mark(machine: &dyn Machine, moment: Moment, part: usize) -> Result<(), Stop> {
    machine.mark(&moment.mark(part)).await.map_err(Stop::Host)
}

/// The function of that name. QEMU always names some: a reply that names none does not show that one is gone.
fn find(functions: Vec<PciFunction>, id: &str) -> Result<Option<PciFunction>, Deaf> {
    Hears::by(!functions.is_empty(), || Deaf {
        witness: "query-pci",
        why: "QEMU names none of the machine's devices".to_owned(),
        remedy: "see qmp.jsonl, and use another QEMU",
    })?;
    Ok(functions.into_iter().find(|it| it.id == id))
}

/// Whether the RAM file has what the guest sees. A guest without such a page has no pages to look at.
fn sees(ram: &Ram, known: &KnownPage) -> std::io::Result<Result<Hears, Deaf>> {
    let found = digest(&page(ram, known.at)?);
    let deaf = || deaf_page(format!("at {:#x} it has not the content that the guest wrote there", known.at));
    Ok(Hears::by(found == known.digest, deaf))
}

fn deaf_page(why: String) -> Deaf {
    Deaf { witness: "the RAM file", why, remedy: REPORT_IT }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_names_no_device_does_not_show_that_one_is_gone() {
        let function = |id: &str| {
            let address = PciAddress { bus: 0, slot: 1, function: 0 };
            PciFunction { id: id.into(), address, behind: None, bars: Vec::new() }
        };
        assert_eq!(find(vec![function("edu")], "nvme"), Ok(None));
        assert_eq!(find(vec![function("edu")], "edu"), Ok(Some(function("edu"))));
        assert!(find(Vec::new(), "edu").is_err());
    }

    #[test]
    fn another_memory_than_the_guests_is_no_witness() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ram");
        std::fs::write(&path, [[7; PAGE], [0; PAGE]].concat()).unwrap();
        let ram = Ram::of_file(&path, 2 * PAGE as u64).unwrap();
        let known = |at| KnownPage { at, digest: digest(&[7; PAGE]) };
        assert!(sees(&ram, &known(0)).unwrap().is_ok());
        assert!(sees(&ram, &known(PAGE as u64)).unwrap().is_err());
        assert!(sees(&ram, &KnownPage::default()).unwrap().is_err());
    }

    #[test]
    fn a_trace_that_was_cut_says_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; (1 << 20) - 1]).unwrap();
        assert_eq!(read_trace(file.path(), 1 << 20).map(|text| text.len()), Ok((1 << 20) - 1));
        for more in [1 << 20, 1 << 21, (1 << 21) + 1] {
            std::fs::write(file.path(), vec![b'x'; more]).unwrap();
            assert!(read_trace(file.path(), 1 << 20).is_err(), "{more}");
        }
    }
}
