//! Whether the memory of a machine is free again.

use super::spec::PATIENCE;
use crate::facts::mem_free_kib;
use crate::wait::until;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;

/// Runs what frees a machine's memory, with a probe that the kernel has it back.
pub(super) fn check_memory_freed<T>(
    context: &mut Context,
    name: &str,
    free: impl FnOnce(&mut Context) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let (before, expected) = (mem_free_kib().map_err(StepError::Agent)?, context.vm_spec().mib * 1024 * 3 / 4);
    let freed = free(context)?;
    let now = || mem_free_kib().map_or(0, |now| now.saturating_sub(before));
    let is_back = until(PATIENCE, || now() >= expected);
    let observed = format!("{} KiB", now());
    context.check_condition(
        &format!("{name} memory that is free again"),
        &format!("{expected} KiB or more"),
        observed,
        is_back,
    );
    Ok(freed)
}
