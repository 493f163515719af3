//! The kinds of IOMMUs, of all architectures. What QEMU and a kernel make of each is in `arch`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The IOMMU of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Iommu {
    /// No IOMMU: VFIO only works in its unsafe mode.
    None,
    /// Intel VT-d by root and context tables, with interrupt remapping (QEMU hw/i386/intel_iommu.c).
    Intel,
    /// The same without interrupt remapping.
    IntelNoRemapping,
    /// Intel VT-d by scalable-mode tables, second stage.
    IntelScalable,
    /// Intel VT-d by scalable-mode tables, first stage.
    IntelFirstStage,
    /// AMD-Vi (QEMU hw/i386/amd_iommu.c).
    Amd,
    /// virtio-iommu, which remaps no interrupts (QEMU hw/virtio/virtio-iommu.c).
    Virtio,
}

impl Iommu {
    /// QEMU's trace event of an access that virtio-iommu translated (QEMU hw/virtio/trace-events).
    pub const VIRTIO_TRANSLATED: &'static str = "virtio_iommu_translate_out";
    /// QEMU's trace event of an access that it refused.
    pub const VIRTIO_FAULT: &'static str = "virtio_iommu_report_fault";

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Intel,
        Self::IntelNoRemapping,
        Self::IntelScalable,
        Self::IntelFirstStage,
        Self::Amd,
        Self::Virtio,
    ];

    /// The word in matrix files and records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Intel => "intel",
            Self::IntelNoRemapping => "intel-no-remapping",
            Self::IntelScalable => "intel-scalable",
            Self::IntelFirstStage => "intel-first-stage",
            Self::Amd => "amd",
            Self::Virtio => "virtio",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_records() {
        for iommu in Iommu::ALL {
            assert_eq!(serde_json::to_value(iommu).unwrap(), iommu.word());
        }
    }
}
