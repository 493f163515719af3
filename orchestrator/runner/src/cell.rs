//! One boot, from the start of its source to the end of its machine, and the cells that are run in it.

mod carry;
mod core;
mod devices;
mod end;
mod lives;
mod phases;
mod plant;
mod script;
mod visit;

pub use self::core::CoresTaken;
pub use self::visit::{Person, Visit, Visited, Visiting, Visitor, visit};
use crate::attempts::Attempts;
use crate::dispatch::folder_of;
use crate::evidence::{Evidence, Stop};
use crate::eye::overrule;
use crate::fault::Fault;
use crate::reach::{Identity, chain};
use crate::recorder::Recorder;
use crate::seed::Seed;
use crate::ticks::Ticks;
use crate::verdict::judge;
use luqual_config::Deadlines;
use luqual_model::{
    Ability, Account, Blackout, CellId, CellRecord, Event, Frames, KernelInfo, Measure, Phase, Planned, Probe, Refused,
    Side, Status, Told, Vmcore,
};
use luqual_protocol::{Need, Said, Update, Workload, program_path};
use luqual_vm::{Accel, CellFolder, Launcher, Machine, MachineEnd, Mode, Profile, Qemu, WorkFolder};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct BootKernel {
    /// What is known of it.
    pub info: KernelInfo,
    /// Its bzImage.
    pub image: PathBuf,
}

/// One life of a machine, and the cells that are run in it: one, or several that share it.
#[derive(Clone)]
pub struct Boot<'a> {
    /// The kernel before the kexec.
    pub source: &'a BootKernel,
    /// The kernel after it.
    pub target: &'a BootKernel,
    /// The machine.
    pub profile: &'a Profile,
    /// What runs in it; one at least.
    pub parts: Vec<Part<'a>>,
}

/// What one cell adds to a boot.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// What runs in the guest.
    pub workload: &'a Workload,
    /// The cell's name, and what is thought of it before.
    pub plan: &'a Planned,
    /// What the workload brings into the guest, if it is somebody's program.
    pub program: Option<Program<'a>>,
}

/// Somebody's program, which runs as a workload.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// Its file's content.
    Here(&'a [u8]),
    /// Why there is no such file, and what to do.
    Missing(&'a str),
}

impl Boot<'_> {
    /// How its update is made, but for the options of the command lines.
    fn update(&self) -> Update {
        self.parts.first().map_or(Update::PLAIN, |part| part.workload.update)
    }

    /// The kernel that runs after so many kexecs.
    fn kernel(&self, hop: u32) -> &BootKernel {
        if hop.is_multiple_of(2) { self.source } else { self.target }
    }

    /// Whether both kernels are one image.
    fn is_one(&self) -> bool {
        self.source.info.image_sha256 == self.target.info.image_sha256
    }

    /// The kernel that runs after so many kexecs, with a nonce of its own.
    fn identity(&self, hop: u32, nonce: u64) -> Identity<'_> {
        let of = |update: Update| if hop == 0 { update.source_options } else { update.target_options };
        let mut options: Vec<&str> = self.parts.iter().map(|part| of(part.workload.update)).collect();
        // Several may ask for the same.
        options.sort_unstable();
        options.dedup();
        options.retain(|options| !options.is_empty());
        Identity::new(&self.kernel(hop).info, options.join(" "), nonce)
    }

    /// How its guest is run.
    fn mode(&self, accel: Accel, alone: Option<u64>) -> Mode {
        Mode { accel, nested: self.parts.iter().any(|part| part.workload.needs.contains(&Need::Kvm)), alone }
    }

    /// Somebody's programs that its parts run: where each is in the guest, and its content.
    fn programs(&self) -> Vec<(String, &[u8])> {
        let parts = self.parts.iter().filter_map(|part| match part.program {
            Some(Program::Here(content)) => program_path(part.workload.name).zip(Some(content)),
            Some(Program::Missing(_)) | None => None,
        });
        parts.collect()
    }

    /// Unique in a run: a lone cell's own, else that of the first with the number of the others, as in `…_memfd.basic+3`.
    pub fn id(&self) -> CellId {
        let first = self.parts.first().map_or_else(String::new, |part| part.plan.key.id().to_string());
        match self.parts.len() {
            0 | 1 => CellId(first),
            count => CellId(format!("{first}+{}", count - 1)),
        }
    }
}

/// What all cells of a run share.
pub struct Host<'a> {
    /// How QEMU is started.
    pub launcher: &'a Launcher,
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// What runs the guests' code.
    pub accel: Accel,
    /// Where machines have their files.
    pub work: &'a WorkFolder,
    /// The folder of the run.
    pub folder: &'a Path,
    /// How long phases may take here.
    pub deadlines: Deadlines,
    /// Whether RAM file and initramfs are copied into each cell's folder at its end.
    pub keep: bool,
    /// Of which machines the memory is kept as an ELF core.
    pub vmcore: Option<Vmcore>,
    /// How much of that there is already.
    pub cores_taken: CoresTaken,
    /// A fault to plant in each cell.
    pub plant: Option<Fault>,
    /// How often each cell is run.
    pub attempts: Attempts,
    /// Where the seeds of attempts come from.
    pub seed: Seed,
    /// Whether each waits around preserve, by its seed.
    pub waits: bool,
    /// Whether each does the same every time, instruction by instruction; nobody talks to it then.
    pub deterministic: bool,
    /// What somebody who is there wants of it.
    pub person: Person<'a>,
    /// Turns true when the user ends the run.
    pub interrupt: watch::Receiver<bool>,
}

impl<'a> Host<'a> {
    /// For boots outside of a run: one attempt each, with the usual deadlines, of which nothing is kept but the logs.
    pub fn once(
        launcher: &'a Launcher,
        qemu: &'a Qemu,
        accel: Accel,
        work: &'a WorkFolder,
        folder: &'a Path,
        interrupt: watch::Receiver<bool>,
    ) -> Self {
        Self {
            launcher,
            qemu,
            accel,
            work,
            folder,
            deadlines: Deadlines::default().stretched(accel.deadline_factor()),
            keep: false,
            vmcore: None,
            cores_taken: CoresTaken::default(),
            plant: None,
            attempts: Attempts { repeat: 1, retries: 0 },
            seed: Seed::OfRun(rand::random()),
            waits: false,
            deterministic: false,
            person: Person::default(),
            interrupt,
        }
    }
}

/// Ticks that did not come for this long mean that the source is gone.
const SILENCE: Duration = Duration::from_millis(100);

/// Around preserve, a boot that waits does so for up to this long, by its seed.
const JITTER: Duration = Duration::from_millis(300);

/// Makes one attempt at a boot, of which `earlier` ones were made; `None` when the user ended the run before it was done.
pub(crate) async fn run_once(
    boot: &Boot<'_>,
    host: &Host<'_>,
    earlier: usize,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<Vec<CellRecord>> {
    let id = boot.id();
    let folder = folder(&id, earlier);
    let mut run = Run::new(boot, host, host.folder.join(&folder), earlier, events);
    let done = if host.deterministic { run.scripted().await } else { run.sequence().await };
    let mut stop = done.err().unwrap_or(Stop::Complete);
    let (findings, late) = run.end(&stop).await;
    let is_same = host.deterministic && script::is_of_its_own(&stop, late.as_ref());
    let digest = if is_same { script::digest(&run.logs) } else { None };
    // A machine that ended after the last phase did not run on.
    if let (Stop::Complete, Some(end)) = (&stop, late)
        && !(host.deterministic && end == MachineEnd::PoweredOff)
    {
        stop = Stop::Machine(end);
    }
    if stop == Stop::Interrupted {
        return None;
    }
    match run.see() {
        Ok(seen) => run.checked.iter_mut().zip(seen).for_each(|(checked, sight)| {
            overrule(&mut checked.probes, &sight.probes);
            checked.add(sight.probes, Phase::Retrieve);
            checked.frames = sight.frames;
        }),
        Err(unseen) if stop == Stop::Complete => stop = unseen,
        Err(_) => {}
    }
    for finding in &findings {
        let _ = events.send(Event::ConsoleFinding { cell: id.clone(), finding: finding.clone() });
    }
    let (duration_us, entered) = (run.recorder.now_us(), run.recorder.decided_in());
    let record = |(number, (part, checked)): (usize, (&Part<'_>, Checked))| {
        let evidence = Evidence {
            // What a probe said is decided where it was said, though the boot went on.
            phase: checked.first_broken.unwrap_or(entered),
            stop: stop.clone(),
            probes: checked.probes,
            findings: findings.clone(),
            source_taint: run.source_taint,
            target_taint: run.target_taint,
        };
        let verdict = judge(&evidence);
        let (tainted, told) = (!verdict.tainted.is_empty(), Told::of(&evidence.probes));
        let others = boot.parts.iter().enumerate().filter(|(other, _)| *other != number);
        CellRecord {
            id: part.plan.key.id(),
            plan: part.plan.clone(),
            outcome: verdict.outcome,
            status: Status::of(verdict.outcome, tainted, &told, part.plan.expectation.as_ref()),
            title: verdict.title,
            tainted: verdict.tainted,
            phase: evidence.phase,
            seed: run.seed,
            digest: digest.clone(),
            planted: host.plant.as_ref().map(ToString::to_string),
            duration_us,
            phases: run.recorder.phases_of(number),
            probes: evidence.probes,
            measures: checked.measures,
            frames: checked.frames,
            accounts: checked.accounts,
            blackout: run.blackout,
            findings: evidence.findings,
            folder: folder.clone(),
            shared_with: others.map(|(_, part)| part.workload.name.to_owned()).collect(),
            attempts: Vec::new(),
        }
    };
    Some(boot.parts.iter().zip(run.checked).enumerate().map(record).collect())
}

/// Where the evidence of an attempt is, relative to the run's folder.
fn folder(boot: &CellId, earlier: usize) -> String {
    let folder = folder_of(boot);
    if earlier == 0 { folder } else { format!("{folder}/attempt-{}", earlier + 1) }
}

/// A boot while it runs.
struct Run<'a> {
    boot: &'a Boot<'a>,
    host: &'a Host<'a>,
    recorder: Recorder,
    logs: PathBuf,
    /// The machine's own files.
    work: Option<CellFolder>,
    machine: Option<Machine>,
    /// How many kexecs are behind it.
    hop: u32,
    /// Of each kernel that ran.
    ticks: Vec<Ticks>,
    seed: u64,
    /// In the order of the boot's parts.
    checked: Vec<Checked>,
    source_taint: u64,
    target_taint: u64,
    kernel_log: Vec<String>,
    blackout: Option<Blackout>,
    /// The device of each part that owns one.
    watched: Vec<Option<devices::Watched>>,
    /// The virtual machine of each part, from when it was paused on.
    lives: Vec<Option<lives::Life>>,
    /// When it started, in microseconds since 1970.
    epoch_us: u64,
}

impl<'a> Run<'a> {
    fn new(
        boot: &'a Boot<'a>,
        host: &'a Host<'a>,
        logs: PathBuf,
        earlier: usize,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Self {
        let id = boot.id();
        let recorder = Recorder::new(id.clone(), events.clone(), host.deadlines.clone(), host.interrupt.clone());
        Self {
            boot,
            host,
            epoch_us: devices::epoch_us(recorder.started()),
            recorder,
            logs,
            work: None,
            machine: None,
            hop: 0,
            ticks: Vec::new(),
            seed: host.seed.of_attempt(&id, earlier),
            checked: boot.parts.iter().map(|_| Checked::default()).collect(),
            source_taint: 0,
            target_taint: 0,
            kernel_log: Vec::new(),
            blackout: None,
            watched: boot.parts.iter().map(|_| None).collect(),
            lives: boot.parts.iter().map(|_| None).collect(),
        }
    }
}

/// What one part has said so far.
#[derive(Default)]
struct Checked {
    probes: Vec<Probe>,
    measures: Vec<Measure>,
    frames: Option<Frames>,
    accounts: Vec<Account>,
    first_broken: Option<Phase>,
    /// Something of it was broken before this update: there is nothing more to learn from it.
    is_out: bool,
}

impl Checked {
    /// Takes in what the guest has found out in a phase.
    fn take(&mut self, said: Said, phase: Phase, hop: u32) {
        let probes = said.probes.into_iter().map(|it| {
            let luqual_protocol::Probe { name, expected, observed, held } = it;
            Probe { name, expected, observed, held }
        });
        self.add(probes.collect(), phase);
        self.measures.extend(said.measures.into_iter().map(|it| {
            let luqual_protocol::Measure { what, size, unit, duration_us } = it;
            Measure { what, size, unit, hop, duration_us }
        }));
    }

    fn add(&mut self, probes: Vec<Probe>, phase: Phase) {
        if self.first_broken.is_none() && probes.iter().any(|probe| !probe.held) {
            self.first_broken = Some(phase);
        }
        self.probes.extend(probes);
    }
}

fn host<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Host(format!("{what}: {error}"))
}

fn explained(error: luqual_vm::VmError) -> Stop {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    Stop::Host(format!("{}{hint}", chain(&error)))
}

/// A source without the device: one that is known to be built with LUO says no by that.
fn no_device(source: &KernelInfo) -> Stop {
    if source.abilities.as_ref().is_some_and(|abilities| abilities.contains(&Ability::Luo)) {
        let about = "/dev/liveupdate, though it is built with LUO".to_owned();
        let refused = Refused { call: "open".to_owned(), errno: "ENOENT".to_owned(), about };
        return Stop::Refused { refused, side: Side::Source, intact: Ok(()) };
    }
    Stop::Requirement(format!("the source {} has no /dev/liveupdate (LUO)", source.name))
}

fn no_machine() -> Stop {
    Stop::Host("the machine is gone".to_owned())
}
