//! The ends of machines.

/// How a machine ended before it was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEnd {
    /// The guest told QEMU that it panicked (pvpanic).
    Panicked,
    /// The guest reset the machine.
    Reset,
    /// The guest powered the machine off.
    PoweredOff,
    /// QEMU is gone or gave up, with what it said.
    Qemu(String),
}
