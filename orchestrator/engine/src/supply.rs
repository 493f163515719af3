//! Supplies the cells of a run as soon as their kernels exist. Missing kernels are built one after the other, while
//! cells of other kernels run.

use crate::context::Context;
use crate::error::EngineError;
use crate::kernels::{bootable, build_kernel};
use luqual_kernels::{Kernel, Store, predict};
use luqual_model::{Event, KernelInfo, PlannedCell};
use luqual_runner::BootKernel;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use tokio::sync::mpsc;

/// The cells of a run, as their kernels come.
pub(crate) struct Supply<'a> {
    /// The available kernels, by name.
    kernels: BTreeMap<String, Rc<BootKernel>>,
    /// The cells that were not supplied yet.
    waiting: Vec<PlannedCell>,
    /// The names of the kernels to build, in order, and the builder.
    missing: VecDeque<String>,
    builder: Option<(&'a Context<'a>, &'a Store)>,
}

impl<'a> Supply<'a> {
    /// A supply of cells whose kernels all exist.
    pub(crate) fn of(kernels: BTreeMap<String, Kernel>, cells: Vec<PlannedCell>) -> Self {
        let kernels = kernels.into_iter().map(|(name, kernel)| (name, Rc::new(bootable(kernel)))).collect();
        Self { kernels, waiting: cells, missing: VecDeque::new(), builder: None }
    }

    /// Adds kernels that still have to be built.
    pub(crate) fn and(self, missing: VecDeque<String>, context: &'a Context<'a>, store: &'a Store) -> Self {
        Self { missing, builder: Some((context, store)), ..self }
    }

    /// The kernel with that name.
    pub(crate) fn kernel(&self, name: &str) -> Result<Rc<BootKernel>, EngineError> {
        let found = self.kernels.get(name).cloned();
        found.ok_or_else(|| EngineError::harness(format!("kernel {name} was not resolved before its cells")))
    }

    /// The cells that can run next; `None` after the last. Builds kernels until there are some, and sends an event
    /// for each kernel.
    pub(crate) async fn next(
        &mut self,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Option<Vec<PlannedCell>>, EngineError> {
        loop {
            let has = |name: &String| self.kernels.contains_key(name);
            let is_ready = |it: &PlannedCell| has(&it.key.source) && has(&it.key.target);
            let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(is_ready);
            self.waiting = waiting;
            if !Vec::is_empty(&ready) {
                return Ok(Some(ready));
            }
            let Some((name, (context, store))) = self.missing.pop_front().zip(self.builder) else {
                return self.waiting.first().map_or(Ok(None), |cell| {
                    Err(EngineError::harness(format!("the kernels of {} were not resolved", cell.key.id())))
                });
            };
            let kernel = build_kernel(context, store, &name).await?;
            let _ = events.send(self.add(name, kernel));
        }
    }

    /// Adds a kernel, with which more cells can be predicted.
    fn add(&mut self, name: String, kernel: Kernel) -> Event {
        let kernel = Rc::new(bootable(kernel));
        self.kernels.insert(name, kernel.clone());
        kernel_added(&kernel.info, &mut self.waiting, |name| self.kernels.get(name).map(|it| &it.info))
    }
}

/// The event for a kernel that was built after the run had started. The cells get the predictions that are possible
/// with it; `info` has all kernels so far.
fn kernel_added<'k>(
    kernel: &KernelInfo,
    cells: &mut [PlannedCell],
    info: impl Fn(&str) -> Option<&'k KernelInfo>,
) -> Event {
    let mut predictions = BTreeMap::new();
    for cell in cells.iter_mut().filter(|cell| [&cell.key.source, &cell.key.target].contains(&&kernel.name)) {
        let pair = info(&cell.key.source).zip(info(&cell.key.target));
        if let Some(prediction) = pair.and_then(|(source, target)| predict(source, target)) {
            predictions.insert(cell.key.id(), prediction.clone());
            cell.prediction = Some(prediction);
        }
    }
    Event::KernelAdded { kernel: Box::new(kernel.clone()), predictions }
}

/// The events for kernels that were built after the run was interrupted, for its journal.
pub(crate) fn late_kernels(
    kernels: &BTreeMap<String, Kernel>,
    known: &BTreeMap<String, KernelInfo>,
    cells: &mut [PlannedCell],
) -> Vec<Event> {
    let late = kernels.iter().filter(|(name, _)| !known.contains_key(*name));
    let info = |name: &str| kernels.get(name).map(|kernel| &kernel.info);
    late.map(|(_, kernel)| kernel_added(&kernel.info, cells, info)).collect()
}
