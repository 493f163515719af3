//! Machines that are not there, for tests of the engine: what is tested is this tool, and no kernel.

use crate::error::EngineError;
use crate::machine::{Found, Machines};
use luqual_kernels::image;
use luqual_model::{Accel, KernelInfo, QemuVersion};
use luqual_protocol::{Kernel, NotDone, Probe, Reply, Request, Said};
use luqual_runner::fake::{FakeLab, Play, Script};
use luqual_runner::{Lab, Machine, Start, Waiting, unchanged_images};
use luqual_vm::{AccelChoice, AccelFound, MachineEnd, Qemu};
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;

/// A host without any machine.
pub(crate) struct NoMachines;

impl Machines for NoMachines {
    fn find<'a>(&'a self, _: Option<&'a Path>, _: AccelChoice) -> Waiting<'a, Result<Found, EngineError>> {
        Box::pin(async { Err(EngineError::harness("there is no QEMU")) })
    }

    fn lab<'a>(&'a self, _: &'a Found) -> Result<Box<dyn Lab + 'a>, EngineError> {
        Err(EngineError::harness("there is no machine"))
    }
}

/// A boot that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booted {
    /// How many were started before.
    pub(crate) number: usize,
    /// The releases of its kernels.
    pub(crate) source: String,
    pub(crate) target: String,
    /// What the first of them is told.
    pub(crate) command_line: String,
}

/// How a workload ends in a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Well,
    Lost,
    Refused,
    Crashed,
    /// QEMU ends while it is verified.
    WithQemu,
    /// With all that it has in common with the others: the machine is not started.
    Unstarted,
}

type Ending = Rc<dyn Fn(&Booted, &str) -> Ends>;

/// Machines that are not there.
pub(crate) struct FakeMachines {
    /// What is found.
    pub(crate) found: RefCell<Found>,
    /// How each workload ends in each boot; the workload of a machine's start is `""`.
    ending: RefCell<Ending>,
    /// The boots that were started.
    pub(crate) booted: RefCell<Vec<Booted>>,
    labs: RefCell<Vec<Rc<FakeLab>>>,
    /// How many machines there were at once, at most.
    pub(crate) most: Cell<usize>,
    /// Whether the user has ended the run; and how many machines were started after that.
    pub(crate) ended: Cell<bool>,
    pub(crate) late: Cell<usize>,
}

impl FakeMachines {
    pub(crate) fn new() -> Self {
        let qemu = Qemu { path: "/nowhere/qemu".into(), version: QemuVersion(99, 0, 0) };
        let accel = AccelFound { accel: Accel::Tcg, reason: "it is not there".to_owned() };
        Self {
            found: RefCell::new(Found { qemu, accel }),
            ending: RefCell::new(Rc::new(|_, _| Ends::Well)),
            booted: RefCell::default(),
            labs: RefCell::default(),
            most: Cell::default(),
            ended: Cell::default(),
            late: Cell::default(),
        }
    }

    /// From now on workloads end like this.
    pub(crate) fn end(&self, ending: impl Fn(&Booted, &str) -> Ends + 'static) {
        *self.ending.borrow_mut() = Rc::new(ending);
    }

    /// How many machines are there now.
    pub(crate) fn running(&self) -> usize {
        self.labs.borrow().iter().map(|lab| lab.running()).sum()
    }

    async fn start(&self, start: Start<'_>) -> Result<Box<dyn Machine>, String> {
        unchanged_images(&start).await?;
        let source = start.kernel.0;
        let target = start.carried.iter().find(|(kernel, _)| *kernel == Kernel::Target);
        let target = target.map_or_else(|| Ok(source.clone()), |(_, image)| kernel(image))?;
        let number = self.booted.borrow().len();
        self.late.set(self.late.get() + usize::from(self.ended.get()));
        let booted = Booted {
            number,
            source: source.release.clone(),
            target: target.release.clone(),
            command_line: start.command_line.to_owned(),
        };
        let lab = Rc::new(FakeLab::new(script(self.ending.borrow().clone(), booted.clone()), target));
        self.booted.borrow_mut().push(booted);
        self.labs.borrow_mut().push(lab.clone());
        let machine = lab.start(start).await;
        self.most.set(self.most.get().max(self.running()));
        machine
    }
}

/// What a kernel's image says of it.
fn kernel(path: &Path) -> Result<KernelInfo, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let facts = image::read(&bytes).map_err(|error| error.to_string())?;
    Ok(KernelInfo { release: facts.release, build_id: facts.build_id, ..KernelInfo::default() })
}

fn script(ending: Ending, booted: Booted) -> Script {
    let does_not_start = (ending(&booted, "") == Ends::Unstarted).then(|| "there is no room".to_owned());
    let plays = move |_: u32, request: &Request| match request {
        Request::Preserve { workload, .. } if ending(&booted, workload) == Ends::Refused => {
            let (call, errno, about) = ("ioctl".to_owned(), "EBUSY".to_owned(), "a session".to_owned());
            Play::Reply(NotDone::Refused { call, errno, about }.into())
        }
        Request::Verify { workload, .. } => match ending(&booted, workload) {
            Ends::Lost => {
                let probes = vec![Probe::compare("memfd 4k content", "as it was", "another")];
                Play::Reply(Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 })
            }
            Ends::Crashed => Play::End(MachineEnd::Panicked),
            Ends::WithQemu => Play::End(MachineEnd::Qemu("QEMU ended (signal: 9 (SIGKILL))".to_owned())),
            _ => Play::Well,
        },
        _ => Play::Well,
    };
    Script { does_not_start, ..Script::plays(plays) }
}

impl Machines for FakeMachines {
    fn find<'a>(&'a self, qemu: Option<&'a Path>, accel: AccelChoice) -> Waiting<'a, Result<Found, EngineError>> {
        Box::pin(async move {
            if qemu.is_some() {
                Qemu::find(qemu)?;
            }
            let mut found = self.found.borrow().clone();
            if accel == AccelChoice::Kvm {
                found.accel.accel = Accel::Kvm;
            }
            Ok(found)
        })
    }

    fn lab<'a>(&'a self, found: &'a Found) -> Result<Box<dyn Lab + 'a>, EngineError> {
        Ok(Box::new(FakeHost { machines: self, found }))
    }
}

/// Where they are started.
struct FakeHost<'a> {
    machines: &'a FakeMachines,
    found: &'a Found,
}

impl Lab for FakeHost<'_> {
    fn qemu(&self) -> QemuVersion {
        self.found.qemu.version
    }

    fn accel(&self) -> Accel {
        self.found.accel.accel
    }

    fn start<'a>(&'a self, start: Start<'a>) -> Waiting<'a, Result<Box<dyn Machine>, String>> {
        Box::pin(self.machines.start(start))
    }
}
