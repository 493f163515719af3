//! How machines end.

/// How a machine ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEnd {
    /// The guest told QEMU that it panicked (pvpanic).
    Panicked,
    /// The guest reset the machine.
    Reset,
    /// The guest powered the machine off.
    PoweredOff,
    /// QEMU ended or failed, with its message.
    Qemu(String),
}
