//! A device that a case owns: how it is left in the source, and what is found of it in the target. The levels, D0 to D5, are the
//! first words of the probes.

use super::manifest::{self, Manifest};
use super::{Scene, StepError, errno_name, observed, said};
use crate::drivers::{self, BUSY_PAGE, Busy, DMA_PAGES, Driver, Load, Progress, Rig, Tried};
use crate::mapping::{Bar, Mapping, PAGE};
use crate::memfd::{self, Memfd};
use crate::pci::{self, Function};
use crate::vfio::{Device, Dma, DmaError, Refusal};
use luqual_protocol::{Reaches, Written, digest};
use rustix::fd::AsFd;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::File;
use std::time::{Duration, Instant};

/// What is done with a device.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Whether it interrupts.
    pub(crate) interrupts: bool,
    pub(crate) memory: Memory,
    pub(crate) access: Access,
    /// Whether its bus mastering is turned on again and again until the kexec.
    pub(crate) keeps_bus_master: bool,
    /// Whether it is closed in the source, so that it can be unplugged.
    pub(crate) lets_go: bool,
    /// Whether the target takes it again.
    pub(crate) claims: bool,
    pub(crate) retrieves_twice: bool,
}

impl Plan {
    pub(crate) const PLAIN: Self = Self {
        interrupts: true,
        memory: Memory::Preserved,
        access: Access::Any,
        keeps_bus_master: false,
        lets_go: false,
        claims: true,
        retrieves_twice: false,
    };
}

/// What its DMA reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Preserved,
    /// Memory of the process, which nobody preserves.
    Ordinary,
}

/// How VFIO is asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// By its character device where there is one, else by its group.
    Any,
    Group,
}

/// A device that is held.
pub(crate) struct Owned {
    driver: &'static Driver,
    rig: Rig,
}

/// The memory that a device reaches.
const fn dma(driver: &Driver) -> Memfd {
    Memfd::new("dma", (driver.pages * PAGE) as u64)
}

const CANARY: Memfd = Memfd::new("canary", 4 << 20);
const DMA_TOKEN: u64 = 2;
const CANARY_TOKEN: u64 = 3;
const MANIFEST_TOKEN: u64 = 4;
const DEVICE_TOKEN: u64 = 5;
const SPACE_TOKEN: u64 = 6;
const GROUP_TOKEN: u64 = 8;

/// In the source: the device is put to work, and left to the update.
pub(super) fn leave(scene: &mut Scene) -> Result<(), StepError> {
    let (Asked { driver, busy }, function, plan) = (asked(scene)?, function(scene)?, *scene.plan());
    let session = scene.session("control")?;
    // What is preserved is pinned, and so stays where it is from here on.
    scene.hand_over_new(&session, &CANARY, CANARY_TOKEN)?;
    let memory = memfd::with_large_folios(|| scene.make(&dma(driver))).map_err(StepError::Missing)??;
    scene.hand_over(&session, memory.as_fd(), DMA_TOKEN, "dma")?;

    function.bind("vfio-pci").map_err(StepError::Missing)?;
    let rig = attach(driver, &function, plan, &memory).map_err(|error| error.of(driver))?;
    let tried = (driver.exercise)(&rig, scene.seed()).map_err(|refusal| refused(refusal, driver))?;
    if let Some(Tried { what, expected, observed }) = tried.into_iter().find(|it| it.expected != it.observed) {
        let how = format!("expected {expected}, observed {observed}");
        return Err(StepError::Declined {
            call: format!("{} {what}", driver.device),
            how,
            about: "the source".to_owned(),
        });
    }
    scene.takes("D4 descriptor preserve", session.preserve(rig.device.as_fd(), DEVICE_TOKEN));
    scene.takes("D4 address space preserve", session.preserve(rig.device.space.fd(), SPACE_TOKEN));
    if let Some(group) = rig.device.space.group() {
        scene.takes("D4 group preserve", session.preserve(group, GROUP_TOKEN));
    }

    let mut manifest = facts(&function).map_err(StepError::Agent)?;
    let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
    let load = driver.load.as_ref().filter(|_| busy);
    if let Some(Load::Frames { listen, .. }) = load {
        listen(&rig).map_err(|refusal| refused(refusal, driver))?;
    }
    if let Some(Load::Transfers { run, .. }) = load {
        let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
        Progress::clear(&rig.dma.memory);
        start(*run, bar, &rig.dma, &memory)?;
        if !drivers::until(|| Progress::read(&rig.dma.memory).1 > 0) {
            let about = "the source".to_owned();
            return Err(StepError::Declined {
                call: format!("{} at work", driver.device),
                how: "no end".to_owned(),
                about,
            });
        }
    }
    let config = function.config().map_err(StepError::Agent)?;
    manifest.insert(STATE.to_owned(), state(driver, &config, &bar));
    for page in quiet_pages(driver, busy) {
        manifest.insert(page_name(page), digest_of(&rig.dma.memory, page));
    }
    if plan.keeps_bus_master {
        // Wherever the kexec is made, another processor goes on to the end.
        for cpu in 0..sched_getaffinity(None).map_or(1, |cpus| cpus.count() as usize) {
            let again = rig.device.bus_master_switch().map_err(|refusal| refused(refusal, driver))?;
            std::thread::spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu);
                let _ = sched_setaffinity(None, &only);
                again.keep_on();
            });
        }
    }
    manifest::leave(scene, &session, MANIFEST_TOKEN, &manifest)?;
    if plan.memory == Memory::Preserved {
        let at = |page: usize| rig.dma.iova(page * PAGE);
        let quiet = quiet_pages(driver, busy).map(at).collect();
        let busy = matches!(load, Some(Load::Transfers { .. })).then(|| at(BUSY_PAGE));
        scene.tell_reaches(Reaches { quiet, busy });
    }
    scene.hold("dma", memory);
    if !plan.lets_go {
        scene.own(Owned { driver, rig });
    }
    Ok(())
}

/// In the target, before anything of the device is touched: is it what it was, and was it quiet? Then it is taken again.
pub(super) fn reattach(scene: &mut Scene) -> Result<(), StepError> {
    let (Asked { driver, busy }, function, plan) = (asked(scene)?, function(scene)?, *scene.plan());
    let Ok(session) = scene.session("control") else { return Ok(()) };
    let canary = scene.retrieve_file(&session, CANARY_TOKEN, "canary");
    let memory = scene.retrieve_file(&session, DMA_TOKEN, "dma");
    let manifest = manifest::take(scene, &session, MANIFEST_TOKEN)?;
    let (Some(canary), Some(memory), Some(manifest)) = (canary, memory, manifest) else { return Ok(()) };

    let presence = |there| if there { "there" } else { "gone" };
    scene.check("D0 presence", presence(!plan.lets_go), presence(function.exists()));
    if !function.exists() {
        return Ok(());
    }
    let now = facts(&function).map_err(StepError::Agent)?;
    for name in FACTS {
        scene.check(format!("D0 {name}"), manifest.get(name).cloned().unwrap_or_default(), now[name].clone());
    }
    let mapping = Mapping::of_file(&memory, driver.pages * PAGE).map_err(StepError::agent("mmap"))?;
    let changed: Vec<usize> = quiet_pages(driver, busy)
        .filter(|page| manifest.get(&page_name(*page)).is_some_and(|known| *known != digest_of(&mapping, *page)))
        .collect();
    if driver.has_dma && plan.memory == Memory::Preserved {
        scene.check("D2 preserved pages", "unchanged", listed(&changed));
    }
    let differs = CANARY.difference(&canary, scene.seed());
    let differs = differs.map(|place| place.map_or_else(|| "unchanged".to_owned(), |place| place.to_string()));
    scene.check("D2 canaries", "unchanged", observed(differs));
    if let Some(Load::Frames { heard, .. }) = driver.load.as_ref().filter(|_| busy) {
        scene.tell_frames(heard(&mapping));
    } else if busy {
        let name = if plan.keeps_bus_master { "control DMA under way" } else { "D5 DMA under way" };
        scene.check(name, "arrived", arrival(&mapping));
    }
    let left = manifest.get(STATE).cloned().unwrap_or_default();
    let config = function.config().map_err(StepError::Agent)?;
    let found = function.bar(driver.registers as usize).map_or_else(|error| error, |bar| state(driver, &config, &bar));
    scene.check("D3 registers before the open", &left, found);

    if !plan.claims {
        return Ok(());
    }
    scene.check("D1 bind", "vfio-pci", function.bind("vfio-pci").map_or_else(|why| why, |()| "vfio-pci".to_owned()));
    let again = session.retrieve(DEVICE_TOKEN);
    scene.check("D4 descriptor retrieve", "a descriptor", said(&again, "a descriptor"));
    if plan.retrieves_twice {
        let second = session.retrieve(DEVICE_TOKEN);
        scene.check("D4 second retrieve", "a descriptor", said(&second, "a descriptor"));
    }
    let rig = match attach(driver, &function, plan, &memory) {
        Ok(rig) => rig,
        Err(Failed::Kernel(refusal)) => {
            scene.check("D1 open", "opened", told(&refusal));
            return Ok(());
        }
        Err(error) => return Err(error.of(driver)),
    };
    scene.check("D1 open", "opened", "opened");
    let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
    scene.check("D3 registers after the open", left, state(driver, &config, &bar));
    if !rig.vectors.is_empty() {
        scene.check("D2 stray interrupts", 0, rig.vectors.iter().map(|vector| vector.taken()).sum::<u64>());
    }
    scene.own(Owned { driver, rig });
    Ok(())
}

/// In the target: the device is put to work again.
pub(super) fn try_out(scene: &mut Scene) -> Result<(), StepError> {
    let Some(Owned { driver, rig }) = scene.take_owned() else { return Ok(()) };
    let busy = asked(scene)?.busy;
    let round = scene.seed().wrapping_add(1);
    if let Some(offset) = driver.leaves_at {
        scene.tell_written(Written { offset, digest: digest(&drivers::written(round)) });
    }
    match (driver.exercise)(&rig, round) {
        Ok(tried) => {
            for Tried { what, expected, observed } in tried {
                scene.check(format!("D1 {what}"), expected, observed);
            }
        }
        Err(refusal) => scene.check("D1 work", "no error", told(&refusal)),
    }
    if let Some(Load::Frames { listen, heard }) = driver.load.as_ref().filter(|_| busy) {
        match listen(&rig) {
            Ok(()) => scene.tell_frames(wait_for_frames(&rig.dma.memory, *heard)),
            Err(refusal) => scene.check("D1 receive", "no error", told(&refusal)),
        }
    }
    scene.own(Owned { driver, rig });
    Ok(())
}

/// Until some have come; the host sends one each few milliseconds.
fn wait_for_frames(memory: &Mapping, heard: fn(&Mapping) -> Vec<u32>) -> Vec<u32> {
    const ENOUGH: usize = 20;
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let numbers = heard(memory);
        if numbers.len() >= ENOUGH || Instant::now() > until {
            return numbers;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// In the target, at the end: it is closed, so that it can be unplugged.
pub(super) fn let_go(scene: &mut Scene) -> Result<(), StepError> {
    drop(scene.take_owned());
    Ok(())
}

/// What the table says of the case.
struct Asked {
    driver: &'static Driver,
    busy: bool,
}

fn asked(scene: &Scene) -> Result<Asked, StepError> {
    let workload = luqual_protocol::find_workload(scene.name());
    let asked = workload.and_then(|it| Some(Asked { driver: drivers::find(it.device()?)?, busy: it.busy }));
    asked.ok_or_else(|| StepError::Agent(format!("{} names no device that there is a driver for", scene.name())))
}

fn function(scene: &Scene) -> Result<Function, StepError> {
    Ok(Function { address: scene.address()?.to_owned() })
}

/// Why a device could not be attached.
enum Failed {
    Kernel(Refusal),
    Agent(String),
}

impl Failed {
    fn of(self, driver: &Driver) -> StepError {
        match self {
            Self::Kernel(refusal) => refused(refusal, driver),
            Self::Agent(message) => StepError::Agent(message),
        }
    }
}

fn told(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.call, errno_name(refusal.errno))
}

fn refused(Refusal { call, errno }: Refusal, driver: &Driver) -> StepError {
    StepError::refused(call, driver.device)(errno)
}

fn attach(driver: &Driver, function: &Function, plan: Plan, memory: &File) -> Result<Rig, Failed> {
    let cdev = function.cdev().map(|name| format!("/dev/vfio/devices/{name}"));
    let device = match (plan.access, cdev) {
        (Access::Any, Ok(node)) => Device::open_cdev(&node),
        _ => Device::open_group(&function.group().map_err(Failed::Agent)?, &function.address),
    }
    .map_err(Failed::Kernel)?;
    let agent = |error: std::io::Error| Failed::Agent(format!("memory for DMA: {error}"));
    let mapping = match plan.memory {
        Memory::Preserved => Mapping::of_file(memory, driver.pages * PAGE),
        Memory::Ordinary => Mapping::locked(DMA_PAGES),
    };
    let dma = Dma::by_physical(mapping.map_err(agent)?, &device.space).map_err(|error| match error {
        DmaError::Kernel(refusal) => Failed::Kernel(refusal),
        DmaError::Agent(error) => agent(error),
    })?;
    if plan.memory == Memory::Preserved && !dma.is_in_one_piece(DMA_PAGES..DMA_PAGES + driver.in_one_piece) {
        return Err(Failed::Agent("the kernel gave no memory in one piece".to_owned()));
    }
    let vectors = match driver.interrupts.filter(|_| plan.interrupts) {
        Some((kind, count)) => device.interrupts(kind, count).map_err(Failed::Kernel)?,
        None => Vec::new(),
    };
    Ok(Rig { device, dma, vectors })
}

/// What a driver's thread works with lives as long as the process.
fn start(run: fn(Bar, Busy), bar: Bar, dma: &Dma, memory: &File) -> Result<(), StepError> {
    let memory = memory.try_clone().map_err(StepError::agent("memory for DMA"))?;
    let iova: Vec<u64> = (0..DMA_PAGES).map(|page| dma.iova(page * PAGE)).collect();
    let (sender, begun) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mapping = Mapping::of_file(&memory, DMA_PAGES * PAGE);
        let _ = sender.send(mapping.as_ref().map(drop).map_err(ToString::to_string));
        if let Ok(memory) = mapping {
            run(bar, Busy { memory, iova });
        }
    });
    let begun = begun.recv().map_err(|error| error.to_string()).and_then(|begun| begun);
    begun.map_err(|error| StepError::Agent(format!("memory for DMA: {error}")))
}

/// What must be of a device after the update as before, by name.
const FACTS: [&str; 4] = ["BARs", "IDs", "capabilities", "link"];
const STATE: &str = "state";

fn facts(function: &Function) -> Result<Manifest, String> {
    let config = function.config()?;
    let bars: Vec<String> =
        function.resources()?.iter().map(|bar| format!("{}: {:#x}-{:#x}", bar.number, bar.start, bar.end)).collect();
    let capabilities = pci::capabilities(&config).into_iter().map(|(id, at)| format!("{id:#04x}@{at:#x}"));
    let extended = pci::extended_capabilities(&config).into_iter().map(|(id, at)| format!("{id:#06x}@{at:#x}"));
    // Only a PCI Express function has a link.
    let link = |name| function.text(name).unwrap_or_else(|_| "none".to_owned());
    let facts = [
        bars.join(", "),
        format!("{}:{} class {}", function.text("vendor")?, function.text("device")?, function.text("class")?),
        capabilities.chain(extended).collect::<Vec<_>>().join(" "),
        format!("{} x{}", link("current_link_speed"), link("current_link_width")),
    ];
    Ok(FACTS.map(str::to_owned).into_iter().zip(facts).collect())
}

fn state(driver: &Driver, config: &[u8], bar: &Bar) -> String {
    let registers = (driver.state)(config, bar).into_iter().map(|(name, value)| format!("{name} {value:#x}"));
    registers.collect::<Vec<_>>().join(", ")
}

/// The pages that nothing should write once the device is left to the update.
fn quiet_pages(driver: &Driver, busy: bool) -> impl Iterator<Item = usize> {
    let mut works_in: Vec<usize> = Vec::new();
    if let Some(Load::Transfers { works_in: others, .. }) = driver.load.as_ref().filter(|_| busy) {
        works_in.extend(others.iter().copied().chain([BUSY_PAGE, Progress::PAGE]));
    }
    (0..DMA_PAGES).filter(move |page| !works_in.contains(page))
}

fn page_name(page: usize) -> String {
    format!("page {page}")
}

fn digest_of(memory: &Mapping, page: usize) -> String {
    let mut bytes = [0; PAGE];
    memory.read(page * PAGE, &mut bytes);
    digest(&bytes)
}

fn listed(changed: &[usize]) -> String {
    match changed {
        [] => "unchanged".to_owned(),
        pages => format!("changed: {}", pages.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// What became of the transfer that was under way.
fn arrival(memory: &Mapping) -> &'static str {
    let (begun, ended) = Progress::read(memory);
    let mut page = [0; PAGE];
    memory.read(BUSY_PAGE * PAGE, &mut page);
    match (begun == ended, page.iter().any(|byte| *byte != 0)) {
        (true, _) => "none was under way",
        (false, true) => "arrived",
        (false, false) => "nothing arrived",
    }
}
