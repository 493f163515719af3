//! What workloads need, in the words of kernels.

use luqual_model::Ability;
use luqual_protocol::Need;

/// What a need is called among the abilities of kernels.
pub fn ability(need: Need) -> Ability {
    match need {
        Need::Luo => Ability::Luo,
        Need::Iommu => Ability::Iommu,
        Need::Kvm => Ability::Kvm,
        Need::Vfio => Ability::Vfio,
    }
}
