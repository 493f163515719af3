//! What runs a guest, and the kinds of faults that it can have itself.

use crate::finding::FindingKind;
use crate::iommu::Iommu;
use std::fmt;

/// The accelerator: what runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's virtualisation.
    Kvm,
    /// QEMU's translation.
    Tcg,
}

impl Accel {
    /// QEMU's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The factor for deadlines, which are given for KVM.
    pub const fn deadline_factor(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

/// `MAJOR.MINOR.MICRO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion(pub u32, pub u32, pub u32);

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What runs a guest, as far as faults of it are known by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// The QEMU.
    pub qemu: QemuVersion,
    /// Its accelerator.
    pub accel: Accel,
    /// The guest's processors.
    pub processors: u32,
    /// Whether QEMU runs all of them in one thread.
    pub one_thread: bool,
    /// Whether the guest runs nested VMs.
    pub nested: bool,
    /// The IOMMU.
    pub iommu: Iommu,
}

/// A known fault of QEMU.
#[derive(Debug)]
pub struct EmulatorFault {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong, in one sentence.
    pub what: &'static str,
    /// How luqual avoids it, in one sentence; `None` if it cannot.
    pub avoided: Option<&'static str>,
    /// Where it is described.
    pub source: &'static str,
    /// The versions of QEMU that have it.
    pub versions: FaultyVersions,
    /// The accelerator that has it.
    pub accel: Accel,
    /// Whether a machine can meet it.
    pub is_met_by: fn(&Emulation) -> bool,
    /// By what it is known.
    pub shows: FaultSign,
}

/// The versions of QEMU that have a fault.
#[derive(Clone, Copy, Debug)]
pub enum FaultyVersions {
    /// All before the one that mends it.
    Before(QemuVersion),
    /// All of the series `MAJOR.MINOR` in which it was seen. No other version was looked at.
    Series(u32, u32),
    /// All: none is known to mend it.
    All,
}

/// What a guest shows of a fault.
#[derive(Clone, Copy, Debug)]
pub enum FaultSign {
    /// A message of that kind whose text begins so.
    Line(FindingKind, &'static [&'static str]),
    /// A kernel that hangs while it boots.
    BootHang,
    /// Nothing by which it is known.
    Nothing,
}

impl EmulatorFault {
    /// Whether a QEMU with this accelerator has it, whatever its guest.
    pub fn is_of(&self, qemu: QemuVersion, accel: Accel) -> bool {
        let is_of_version = match self.versions {
            FaultyVersions::Before(mended) => qemu < mended,
            FaultyVersions::Series(major, minor) => (qemu.0, qemu.1) == (major, minor),
            FaultyVersions::All => true,
        };
        self.accel == accel && is_of_version
    }

    /// Whether a guest that runs so can meet it.
    pub fn can_be_met(&self, emulation: &Emulation) -> bool {
        self.is_of(emulation.qemu, emulation.accel) && (self.is_met_by)(emulation)
    }

    /// Which QEMU does not have it, in words.
    pub fn mended(&self) -> String {
        match self.versions {
            FaultyVersions::Before(mended) => format!("QEMU {mended} mends it"),
            FaultyVersions::Series(major, minor) => format!("use another QEMU than {major}.{minor}"),
            FaultyVersions::All => "no version of QEMU is known to mend it".to_owned(),
        }
    }
}

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a fault of QEMU, {}: {}; {} ({})", self.name, self.what, self.mended(), self.source)
    }
}
