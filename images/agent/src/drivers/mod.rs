//! Small drivers in userspace, one for each device: enough to see that the device works, to keep it busy, and to read its state.

mod driver;
mod edu;
mod intel;
mod ivshmem;
mod nvme;
mod testdev;
mod virtio_net;

pub(crate) use driver::{
    BUSY_PAGE, BusyMemory, Check, DMA_PAGES, Driver, KNOWN_PAGE, Load, Rig, TransferCounts, until, written_page,
};

/// All drivers.
pub(crate) const DRIVERS: [&Driver; 8] = [
    &edu::DRIVER,
    &intel::E1000E,
    &intel::IGB,
    &ivshmem::DOORBELL,
    &ivshmem::PLAIN,
    &nvme::DRIVER,
    &testdev::DRIVER,
    &virtio_net::DRIVER,
];

/// The driver of the device.
pub(crate) fn find(device: luqual_protocol::Device) -> Option<&'static Driver> {
    DRIVERS.into_iter().find(|driver| driver.device == device)
}
