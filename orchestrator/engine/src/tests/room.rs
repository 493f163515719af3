//! A folder with kernels and a matrix file, and machines that are not there.

use crate::conclusion::Conclusion;
use crate::context::Context;
use crate::error::{EngineError, ErrorKind};
use crate::fakes::{Booted, Ends, FakeMachines};
use crate::folder::{Finished, IfExists};
use crate::interactive::Interactive;
use crate::notice::{Listener, Notice};
use crate::repro::ReproRequest;
use crate::request::{Demand, Execution, KeepOptions, KernelSource, MachineChoice, Pairs, RunRequest, Selection};
use luqual_model::{Accel, CellRecord, Event, Outcome, QemuVersion, RunRecord, Stamped, Status};
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::sync::watch;

/// Two workloads that share a boot, and two that have their own.
pub(super) const WORKLOADS: [&str; 4] =
    ["kexec.crash-kernel", "kexec.long-command-line", "memfd.basic", "memfd.empty-grows"];
/// The releases of the kernels, which are the names of their files.
pub(super) const OLD: &str = "9.1.0";
pub(super) const NEW: &str = "9.2.0";

/// What all runs of a test have in common. It is the one who listens, and the user who ends a run.
pub(super) struct Room {
    folder: TempDir,
    pub(super) machines: FakeMachines,
    pub(super) tool: RefCell<String>,
    /// The events that were told, and the other notices.
    pub(super) heard: RefCell<Vec<Stamped>>,
    pub(super) notices: RefCell<Vec<String>>,
    /// The user ends a run when so many of its events were told.
    ended_after: Cell<Option<usize>>,
    interrupt: watch::Sender<bool>,
}

impl Listener for Room {
    fn hear(&self, notice: Notice<'_>) {
        let Notice::Event(stamped) = notice else { return self.notices.borrow_mut().push(format!("{notice:?}")) };
        self.heard.borrow_mut().push(stamped.clone());
        if self.ended_after.get() == Some(self.heard.borrow().len()) {
            self.end();
        }
    }
}

impl Room {
    /// With two kernels and no expectations; all cells survive.
    pub(super) fn new() -> Self {
        let room = Self {
            folder: tempfile::tempdir_in(quick()).unwrap(),
            machines: FakeMachines::new(),
            tool: RefCell::new("luqual test".to_owned()),
            heard: RefCell::default(),
            notices: RefCell::default(),
            ended_after: Cell::default(),
            interrupt: watch::Sender::new(false),
        };
        room.kernel(OLD, OLD);
        room.kernel(NEW, NEW);
        room.expect("");
        room
    }

    /// One whose cells end like this.
    pub(super) fn whose(ending: impl Fn(&Booted, &str) -> Ends + 'static) -> Self {
        let room = Self::new();
        room.machines.end(ending);
        room
    }

    /// A bzImage of nothing but a header with its release (Documentation/arch/x86/boot.rst).
    pub(super) fn kernel(&self, name: &str, release: &str) {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x236] = 1;
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        fs::write(self.path(name), image).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The matrix file, with these rules: `update` is one pair, `square` all four.
    pub(super) fn expect(&self, rules: &str) {
        let kernels = [OLD, NEW].map(|name| self.path(name));
        let matrix = |(name, pairs): (&str, &str)| {
            format!("[matrix.{name}]\nkernels = {kernels:?}\npairs = \"{pairs}\"\nworkloads = {WORKLOADS:?}\n")
        };
        let matrices: String = [("update", "adjacent"), ("square", "all")].map(matrix).concat();
        fs::write(self.path("m.toml"), matrices + rules).unwrap();
    }

    /// The rule that a workload ends as the machines that are not there let it end.
    pub(super) fn expect_of(&self, workload: &str, outcome: &str) {
        let what = match outcome {
            "lost" => "failed = [\"memfd 4k content\"]",
            "refused" => "call = \"ioctl\"\nerrno = \"EBUSY\"",
            "crashed" => "signature = \"the guest panicked*\"\nside = \"target\"\nphase = \"verify\"",
            _ => "",
        };
        self.expect(&format!(
            "[[expect]]\nsource = \"*\"\ntarget = \"*\"\nworkload = \"{workload}\"\noutcome = \"{outcome}\"\n{what}\nreason = \"x\"\n"
        ));
    }

    /// A cell of the run in the folder `run`, once more in the folder `again`.
    pub(super) fn repro_request(&self, cell: &str) -> ReproRequest {
        ReproRequest {
            run: self.path("run"),
            cell: Some(cell.to_owned()),
            anyway: false,
            report_dir: Some(self.path("again")),
            deterministic: false,
            kept: KeepOptions::default(),
            interactive: Interactive::default(),
            machine: MachineChoice::default(),
            kernels: KernelSource::default(),
        }
    }

    /// These workloads of one pair, one machine at a time, in the folder `run`.
    pub(super) fn request(&self, workloads: &[&str]) -> RunRequest {
        RunRequest {
            selection: Selection {
                matrix_file: Some(self.path("m.toml")),
                workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
                ..Selection::default()
            },
            execution: Execution { jobs: Some(1), seed: Some(7), ..Execution::default() },
            report_dir: Some(self.path("run")),
            ..RunRequest::of(Pairs::Matrix("update".to_owned()))
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            tool: self.tool.borrow().clone(),
            program: "/nowhere/luqual".into(),
            command: vec!["luqual".into()],
            listener: self,
            machines: &self.machines,
            interrupt: self.interrupt.subscribe(),
        }
    }

    /// The user ends what runs next after so many events; 0 is before it begins.
    pub(super) fn ends_after(&self, events: Option<usize>) {
        self.heard.borrow_mut().clear();
        self.ended_after.set(events);
        self.machines.ended.set(false);
        self.interrupt.send_replace(false);
        if events == Some(0) {
            self.end();
        }
    }

    fn end(&self) {
        self.machines.ended.set(true);
        self.interrupt.send_replace(true);
    }

    pub(super) async fn try_run(&self, request: &RunRequest, existing: IfExists) -> Result<Finished, EngineError> {
        let done = crate::run::run(&self.context(), request, existing, Interactive::default()).await;
        self.is_quiet();
        done
    }

    /// No machine is left, and none was started after the user had ended the run.
    pub(super) fn is_quiet(&self) {
        assert_eq!(
            (self.machines.running(), self.machines.late.get()),
            (0, 0),
            "machines that are left, and started late"
        );
    }

    /// A new run.
    pub(super) async fn run(&self, request: &RunRequest) -> Finished {
        self.try_run(request, IfExists::Fail).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) async fn try_resume(&self, name: &str) -> Result<Finished, EngineError> {
        let (machine, kernels) = (MachineChoice::default(), KernelSource::default());
        let done = crate::resume::resume(&self.context(), &self.path(name), &machine, &kernels).await;
        self.is_quiet();
        done
    }

    /// The run is refused as a mistake of the user, whose message and hint have that in them.
    pub(super) fn refused(done: Result<Finished, EngineError>, told: &str) {
        let error = done.err().unwrap_or_else(|| panic!("it was run, and not refused with: {told}"));
        let text = format!("{error}; {}", error.hint_text().unwrap_or_default());
        assert!(error.kind() == ErrorKind::Usage && text.contains(told), "{:?}: {text}", error.kind());
    }

    /// As if the kernels of the run had been told something else then.
    pub(super) fn other_command_line(&self) {
        let journal = self.path("run").join("events.jsonl");
        let text = fs::read_to_string(&journal).unwrap();
        assert!(text.contains("kho=on liveupdate=on"));
        fs::write(&journal, text.replace("kho=on liveupdate=on", "kho=on liveupdate=on printk.time=1")).unwrap();
    }

    /// What the kernel that was booted last was told.
    pub(super) fn last_command_line(&self) -> String {
        self.machines.booted.borrow().last().unwrap().command_line.clone()
    }

    /// How many machines were started until now.
    pub(super) fn boots(&self) -> usize {
        self.machines.booted.borrow().len()
    }

    /// The whole lines of a run's journal.
    pub(super) fn events(&self, name: &str) -> Vec<Event> {
        let text = fs::read_to_string(self.path(name).join("events.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Stamped>(line).unwrap().event).collect()
    }

    /// The `run.json` of a run.
    pub(super) fn json(&self, name: &str) -> RunRecord {
        serde_json::from_slice(&fs::read(self.path(name).join("run.json")).unwrap()).unwrap()
    }
}

/// A change of a room after a run, and how the refusal to go on with the run names it.
type Change = (fn(&Room), &'static str);

/// Each thing that a run is resumed or reproduced with, changed.
pub(super) const CHANGES: [Change; 5] = [
    (|room| *room.tool.borrow_mut() = "luqual other".into(), "another luqual"),
    (|room| room.machines.found.borrow_mut().qemu.version = QemuVersion(99, 1, 0), "another QEMU"),
    (|room| room.machines.found.borrow_mut().accel.accel = Accel::Kvm, "another accelerator"),
    (|room| room.kernel(OLD, "9.1.1"), "is not the one that the run was started with"),
    (|room| room.kernel(NEW, "9.2.0-other"), "is not the one that the run was started with"),
];

/// A folder in memory, if there is one: runs make hundreds of files.
fn quick() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// The ids of the cells that ended, in that order.
pub(super) fn ended(events: &[Event]) -> Vec<String> {
    let id = |event: &Event| if let Event::CellFinished { record } = event { Some(record.id.0.clone()) } else { None };
    events.iter().filter_map(id).collect()
}

/// What of a cell does not depend on when it was run, and beside whom.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Essence {
    pub(super) workload: String,
    pub(super) outcome: Outcome,
    pub(super) status: Status,
    title: String,
    probes: Vec<(String, bool)>,
    attempts: Vec<Outcome>,
}

impl Essence {
    pub(super) fn of(cell: &CellRecord) -> Self {
        Self {
            workload: cell.plan.key.workload.clone(),
            outcome: cell.outcome,
            status: cell.status,
            title: cell.title.clone(),
            probes: cell.probes.iter().map(|probe| (probe.name.clone(), probe.passed)).collect(),
            attempts: cell.attempts.iter().map(|attempt| attempt.outcome).collect(),
        }
    }

    pub(super) fn all(record: &RunRecord) -> Vec<Self> {
        record.cells.iter().map(Self::of).collect()
    }
}

/// What a run comes to, if no more than usual is demanded of it.
pub(super) fn concluded(run: &Finished) -> Conclusion {
    Conclusion::of(&run.record, Demand::default())
}

/// Copies a run's journal and evidence, the journal up to so many bytes.
pub(super) fn copy_cut(from: &Path, to: &Path, length: usize) {
    fs::create_dir_all(to).unwrap();
    let journal = fs::read(from.join("events.jsonl")).unwrap();
    fs::write(to.join("events.jsonl"), &journal[..length]).unwrap();
}
