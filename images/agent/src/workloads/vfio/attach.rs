//! Opens a device through VFIO, with its memory and its interrupts.

use super::plan::{Access, Memory, Plan};
use crate::drivers::{BusyMemory, DMA_PAGES, Driver, Rig};
use crate::errno::errno_name;
use crate::mapping::{Bar, Mapping, PAGE};
use crate::pci::Function;
use crate::vfio::{Device, Dma, DmaError, Refusal};
use crate::workloads::error::StepError;
use std::fs::File;

/// Why a device could not be attached.
pub(super) enum AttachError {
    /// The kernel refused a call.
    Kernel(Refusal),
    /// The agent failed.
    Agent(String),
}

impl AttachError {
    pub(super) fn of(self, driver: &Driver) -> StepError {
        match self {
            Self::Kernel(refusal) => refused(refusal, driver),
            Self::Agent(message) => StepError::Agent(message),
        }
    }
}

/// A refusal as an observed value.
pub(super) fn call_and_errno(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.call, errno_name(refusal.errno))
}

/// A refusal as the end of a step.
pub(super) fn refused(Refusal { call, errno }: Refusal, driver: &Driver) -> StepError {
    StepError::refused(call, driver.device.word())(errno)
}

/// Opens the device, and gives it its memory and its interrupts.
pub(super) fn attach(driver: &Driver, function: &Function, plan: Plan, memory: &File) -> Result<Rig, AttachError> {
    let cdev = function.cdev().map(|name| format!("/dev/vfio/devices/{name}"));
    let device = match (plan.access, cdev) {
        (Access::Any, Ok(node)) => Device::open_cdev(&node),
        _ => Device::open_group(&function.group().map_err(AttachError::Agent)?, &function.address),
    }
    .map_err(AttachError::Kernel)?;
    let agent = |error: std::io::Error| AttachError::Agent(format!("memory for DMA: {error}"));
    let mapping = match plan.memory {
        Memory::Preserved => Mapping::of_file(memory, driver.pages * PAGE),
        Memory::Ordinary => Mapping::locked(DMA_PAGES),
    };
    let dma = Dma::by_physical(mapping.map_err(agent)?, &device.space).map_err(|error| match error {
        DmaError::Kernel(refusal) => AttachError::Kernel(refusal),
        DmaError::Agent(error) => agent(error),
    })?;
    if plan.memory == Memory::Preserved && !dma.is_contiguous(DMA_PAGES..DMA_PAGES + driver.contiguous_pages) {
        return Err(AttachError::Agent("the kernel gave no physically contiguous memory".to_owned()));
    }
    let vectors = match driver.interrupts.filter(|_| plan.interrupts) {
        Some((kind, count)) => device.interrupts(kind, count).map_err(AttachError::Kernel)?,
        None => Vec::new(),
    };
    Ok(Rig { device, dma, vectors })
}

/// Starts the thread that keeps a device busy. It has a mapping and a BAR of its own, since it runs until the process ends.
pub(super) fn start_load(run: fn(Bar, BusyMemory), bar: Bar, dma: &Dma, memory: &File) -> Result<(), StepError> {
    let memory = memory.try_clone().map_err(StepError::agent("memory for DMA"))?;
    let iova: Vec<u64> = (0..DMA_PAGES).map(|page| dma.iova(page * PAGE)).collect();
    let (sender, begun) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mapping = Mapping::of_file(&memory, DMA_PAGES * PAGE);
        let _ = sender.send(mapping.as_ref().map(drop).map_err(ToString::to_string));
        if let Ok(memory) = mapping {
            run(bar, BusyMemory { memory, iova });
        }
    });
    let begun = begun.recv().map_err(|error| error.to_string()).and_then(|begun| begun);
    begun.map_err(|error| StepError::Agent(format!("memory for DMA: {error}")))
}
