//! The context in which a case runs on one side of a kexec: what the case holds, and what it has found out so far.

mod probes;
mod sessions;
mod steps;
mod tamper;

pub(crate) use tamper::before_retrieve;

use super::case::Case;
use super::error::StepError;
use super::vfio::plan::{HeldDevice, Plan};
use super::vmm::control_plane::ControlPlane;
use super::vmm::spec::VmSpec;
use super::vmm::vm::Vm;
use crate::helper::Helper;
use crate::luo::{Device, Session};
use crate::mapping::Mapping;
use luqual_protocol::Said;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::fs::File;
use std::process::Child;
use std::rc::Rc;
use std::time::Duration;

/// Lives from the first step on its side until the holder ends.
pub(crate) struct Context {
    case: &'static Case,
    seed: u64,
    /// How many kexecs there were since the first source.
    hop: u32,
    /// How long a program of the current step may run.
    limit: Option<Duration>,
    /// /dev/liveupdate. It is open for no longer than a step.
    device: Option<Rc<Device>>,
    /// By label.
    sessions: BTreeMap<String, Rc<Session>>,
    /// The kept memfds by name. A memfd that the kernel did not give back is absent.
    memfds: BTreeMap<&'static str, Rc<File>>,
    /// Other descriptors by name.
    files: BTreeMap<String, OwnedFd>,
    /// Processes that live as long as the holder.
    children: Vec<Child>,
    helpers: Vec<Helper>,
    mappings: Vec<Mapping>,
    /// A page that nobody preserves, for a fault that must not be found.
    unpreserved: Option<Mapping>,
    /// The PCI address of the case's device.
    address: Option<String>,
    /// That device, while the case has it open.
    held_device: Option<HeldDevice>,
    /// The virtual machines of the case.
    pub(super) vms: Vec<Vm>,
    /// The processes that bring them through the update.
    pub(super) control_plane: Option<ControlPlane>,
    /// Whether this kernel has preserved what is kept, so that it waits for the next kernel.
    is_preserved: bool,
    /// Whether the findings of each step are dropped, for a fault that is injected on purpose.
    mute: bool,
    /// The findings of the current step.
    said: Said,
}

impl Context {
    /// The context of a case after `hop` kexecs; `address` is that of its device, if it has one.
    pub(crate) fn new(case: &'static Case, seed: u64, hop: u32, address: Option<String>) -> Self {
        Self {
            case,
            seed,
            hop,
            limit: None,
            device: None,
            sessions: BTreeMap::new(),
            memfds: BTreeMap::new(),
            files: BTreeMap::new(),
            children: Vec::new(),
            helpers: Vec::new(),
            mappings: Vec::new(),
            unpreserved: None,
            address,
            held_device: None,
            vms: Vec::new(),
            control_plane: None,
            is_preserved: false,
            mute: false,
            said: Said::default(),
        }
    }

    /// The workload's name.
    pub(crate) fn name(&self) -> &'static str {
        self.case.name
    }

    /// What the case does with its device.
    pub(crate) fn plan(&self) -> &'static Plan {
        &self.case.plan
    }

    /// The PCI address of the case's device.
    pub(crate) fn address(&self) -> Result<&str, StepError> {
        self.address
            .as_deref()
            .ok_or_else(|| StepError::Agent("the host did not send the address of the device".to_owned()))
    }

    /// Which virtual machines the case has.
    pub(crate) fn vm_spec(&self) -> VmSpec {
        self.case.vms
    }

    /// The seed of all contents.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many kexecs there were since the first source.
    pub(crate) fn hop(&self) -> u32 {
        self.hop
    }

    /// Says how long a program of the next step may run, in seconds.
    pub(crate) fn set_limit(&mut self, seconds: Option<u64>) {
        self.limit = seconds.map(Duration::from_secs);
    }

    /// How long a program of this step may run.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// How many kexecs are left.
    pub(crate) fn hops_left(&self) -> u32 {
        let workload = luqual_protocol::find_workload(self.case.name);
        workload.map_or(0, |workload| workload.update.hops.saturating_sub(self.hop))
    }

    /// Holds the case's device.
    pub(crate) fn hold_device(&mut self, device: HeldDevice) {
        self.held_device = Some(device);
    }

    /// Takes the device out of the context, for as long as it is used.
    pub(crate) fn take_device(&mut self) -> Option<HeldDevice> {
        self.held_device.take()
    }

    /// A kept memfd. It is an error if the case does not hold it.
    pub(crate) fn kept(&self, name: &str) -> Result<Rc<File>, StepError> {
        self.memfds.get(name).cloned().ok_or_else(|| StepError::NotHeld(format!("memfd {name}")))
    }

    /// A kept memfd, or none if the kernel did not give it back, for which another probe has failed.
    pub(crate) fn retrieved(&self, name: &str) -> Option<Rc<File>> {
        self.memfds.get(name).cloned()
    }

    /// Replaces a kept memfd by another file, before it is preserved.
    pub(crate) fn keep(&mut self, name: &'static str, file: File) {
        self.memfds.insert(name, Rc::new(file));
    }

    /// Closes a kept memfd.
    pub(crate) fn close_kept(&mut self, name: &str) {
        self.memfds.remove(name);
    }

    /// Holds a descriptor.
    pub(crate) fn hold(&mut self, name: impl Into<String>, fd: impl Into<OwnedFd>) {
        self.files.insert(name.into(), fd.into());
    }

    /// A descriptor that is held.
    pub(crate) fn held(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.files.get(name).map(AsFd::as_fd)
    }

    /// Holds a process.
    pub(crate) fn hold_child(&mut self, child: Child) {
        self.children.push(child);
    }

    /// Holds a helper process.
    pub(crate) fn hold_helper(&mut self, helper: Helper) {
        self.helpers.push(helper);
    }

    /// Holds a mapping.
    pub(crate) fn hold_mapping(&mut self, mapping: Mapping) {
        self.mappings.push(mapping);
    }

    /// The mapping that was held last.
    pub(crate) fn held_mapping(&mut self) -> Option<&mut Mapping> {
        self.mappings.last_mut()
    }
}
