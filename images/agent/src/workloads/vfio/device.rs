//! The device under test: its driver, and what a case preserves for it.

use crate::drivers::{self, Driver};
use crate::mapping::PAGE;
use crate::memfd::Memfd;
use crate::pci::Function;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;

/// The memory that the device reaches by DMA.
pub(super) const fn dma_memfd(driver: &Driver) -> Memfd {
    Memfd::new("dma", (driver.pages * PAGE) as u64)
}

/// Memory that the device is never told of: a change of it is a stray write.
pub(super) const CANARY: Memfd = Memfd::new("canary", 4 << 20);

/// Tokens in the session `control`.
pub(super) const DMA_TOKEN: u64 = 2;
pub(super) const CANARY_TOKEN: u64 = 3;
pub(super) const MANIFEST_TOKEN: u64 = 4;
pub(super) const DEVICE_TOKEN: u64 = 5;
pub(super) const SPACE_TOKEN: u64 = 6;
pub(super) const GROUP_TOKEN: u64 = 8;

/// The device under test, as the workload's table entry names it.
pub(super) struct DeviceUnderTest {
    pub(super) driver: &'static Driver,
    /// Whether it is in the middle of work when the update begins.
    pub(super) is_busy: bool,
    pub(super) function: Function,
}

/// The device under test of the case.
pub(super) fn device_under_test(context: &Context) -> Result<DeviceUnderTest, StepError> {
    let workload = luqual_protocol::find_workload(context.name());
    let found = workload.and_then(|workload| Some((drivers::find(workload.device?)?, workload.busy)));
    let (driver, is_busy) = found.ok_or_else(|| {
        StepError::Agent(format!("{} names no device that the agent has a driver for", context.name()))
    })?;
    Ok(DeviceUnderTest { driver, is_busy, function: Function { address: context.address()?.to_owned() } })
}
