//! What a case does with its device, and the device while it is held.

use crate::drivers::{Driver, Rig};

/// What a case does with its device.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Whether its interrupts are used.
    pub(crate) interrupts: bool,
    pub(crate) memory: Memory,
    pub(crate) access: Access,
    /// Whether its bus mastering is turned on again and again until the kexec.
    pub(crate) keeps_bus_master: bool,
    /// Whether the source closes it, so that it can be unplugged.
    pub(crate) lets_go: bool,
    /// Whether the target opens it again.
    pub(crate) claims: bool,
    /// Whether its descriptor is preserved, and its registers and its work are compared.
    pub(crate) preserves: bool,
}

impl Plan {
    /// An open device with interrupts and preserved memory, which the target opens again.
    pub(crate) const PLAIN: Self = Self {
        interrupts: true,
        memory: Memory::Preserved,
        access: Access::Any,
        keeps_bus_master: false,
        lets_go: false,
        claims: true,
        preserves: false,
    };
}

/// The memory that its DMA reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A preserved memfd.
    Preserved,
    /// Anonymous memory, which nobody preserves.
    Ordinary,
}

/// How it is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// By its character device if it has one, otherwise by its group.
    Any,
    /// By its group.
    Group,
}

/// A device that a case has open.
pub(crate) struct HeldDevice {
    pub(super) driver: &'static Driver,
    pub(super) rig: Rig,
}
