//! What a workload does: the steps of its own beside those that every workload has.

use super::context::Context;
use super::error::StepError;
use super::vfio::plan::Plan;
use super::vmm::spec::VmSpec;
use crate::memfd::Memfd;

/// What a workload does. Every case keeps at least one memfd, which has to come back whole: otherwise a kernel that loses
/// everything could pass.
pub(crate) struct Case {
    /// `family.case`.
    pub(super) name: &'static str,
    /// The memfds that are preserved in the source and have to come back in the target.
    pub(super) kept: &'static [PreservedMemfd],
    /// Runs in the first source, after the kept memfds are made and before any is preserved.
    pub(super) prepare: Hook,
    /// Runs after they are preserved: in the source, and in each target that is the next source.
    pub(super) source: Hook,
    /// Runs in the target, after they were retrieved and before they are compared.
    pub(super) retrieved: Hook,
    /// Runs in the target, after they were compared and before their sessions are finished.
    pub(super) target: Hook,
    /// Runs in the target, after their sessions are finished.
    pub(super) finished: Hook,
    /// What is done with the case's device, if it has one.
    pub(super) plan: Plan,
    /// The case's virtual machines, if it has any.
    pub(super) vms: VmSpec,
}

/// A step of the case's own.
pub(super) type Hook = fn(&mut Context) -> Result<(), StepError>;

/// A memfd that a case keeps.
#[derive(Clone, Copy)]
pub(crate) struct PreservedMemfd {
    /// The session's label: the session's name is the case's name and the label.
    pub(super) session: &'static str,
    pub(super) token: u64,
    pub(super) memfd: Memfd,
}

impl Case {
    /// A case that keeps one small memfd and does nothing else.
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            kept: &CONTROL,
            prepare: nothing,
            source: nothing,
            retrieved: nothing,
            target: nothing,
            finished: nothing,
            plan: Plan::PLAIN,
            vms: VmSpec::NONE,
        }
    }
}

/// The memfd that a case keeps if it names no others.
pub(super) const CONTROL: [PreservedMemfd; 1] =
    [PreservedMemfd { session: "control", token: 7, memfd: Memfd::new("control", 3 * 4096 - 5) }];

/// The hook that does nothing.
pub(super) fn nothing(_: &mut Context) -> Result<(), StepError> {
    Ok(())
}
