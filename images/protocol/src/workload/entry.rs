//! The entry of a workload in the tables, and the functions that build one.

use super::device::Device;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `family.case`.
    pub name: &'static str,
    /// What the workload asserts, in one sentence.
    pub asserts: &'static str,
    /// The kernel source or document that states the rule.
    pub rule: &'static str,
    /// The fault that the workload finds, and no other workload does.
    pub finds: &'static str,
    /// The machine profile; the user can name another.
    pub profile: &'static str,
    /// The capabilities that the kernels must have.
    pub requires: &'static [Requirement],
    /// Whether it can share a boot with workloads whose updates are compatible ([`Update::goes_with`]).
    pub shares_boot: bool,
    /// Parts of error messages that a kernel prints because of what the workload asks of it; they taint no cell of the
    /// boot.
    pub provokes: &'static [&'static str],
    /// How the update is made.
    pub update: Update,
    /// The device that the workload owns, if any.
    pub device: Option<Device>,
    /// Whether the device has DMA under way during the update.
    pub busy: bool,
    /// Whether it is a control: luqual must see its effect, and nothing is required of the kernel.
    pub control: bool,
    /// When the device is unplugged, if at all.
    pub unplug: Option<Unplug>,
    /// Whether the device's own descriptor is preserved, with the registers and the work of the device (D3 to D5).
    /// Otherwise a workload asks for what every kernel promises of a device: D0 to D2.
    pub preserves_device: bool,
    /// The memory in MiB that its machine must have; 0 if any machine has enough.
    pub memory_mib: u64,
    /// Why `luqual qualify` does not run it by default; `None` if it does.
    pub left_out: Option<&'static str>,
    /// Why it runs only if it is named in full, and no glob matches it; `None` for most.
    pub only_named: Option<&'static str>,
}

/// When a device is unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplug {
    /// In the source, after everything is preserved.
    WhilePreserved,
    /// In the target, after everything is retrieved.
    Afterwards,
}

/// How an update is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Update {
    /// Options that are added to the source's command line.
    pub source_options: &'static str,
    /// Options that are added to the target's command line.
    pub target_options: &'static str,
    /// When the target is loaded.
    pub load: LoadTime,
    /// The number of kexecs: into the target, back into the source, and so on.
    pub hops: u32,
}

/// When kexec_file_load(2) is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadTime {
    /// After everything is preserved.
    AfterPreserve,
    /// Before anything is preserved.
    BeforePreserve,
}

impl Update {
    /// One kexec; the target is loaded after preserve, and no options are added.
    pub const PLAIN: Self = Self { source_options: "", target_options: "", load: LoadTime::AfterPreserve, hops: 1 };

    /// Whether one update can serve both workloads: the same load time and number of kexecs, and no option twice on a
    /// command line. A plain update is only compatible with a plain update.
    pub fn goes_with(&self, other: &Self) -> bool {
        let alike = (self.load, self.hops) == (other.load, other.hops);
        let plain = (*self == Self::PLAIN) == (*other == Self::PLAIN);
        let sides = [(self.source_options, other.source_options), (self.target_options, other.target_options)];
        alike && plain && sides.into_iter().all(|(one, other)| one == other || !names_one_of(one, other))
    }
}

/// Whether both command lines have an option of the same name.
fn names_one_of(one: &str, other: &str) -> bool {
    let name = |word: &'_ str| word.split('=').next().map(str::to_owned);
    one.split_whitespace().any(|word| other.split_whitespace().any(|it| name(it) == name(word)))
}

/// An entry with the default machine, a shared boot and a plain update. More than a hundred workloads have these.
pub(super) const fn w(name: &'static str, asserts: &'static str, rule: &'static str, finds: &'static str) -> Workload {
    Workload {
        name,
        asserts,
        rule,
        finds,
        profile: "q35-intel",
        requires: &[Requirement::Luo],
        shares_boot: true,
        provokes: &[],
        update: Update::PLAIN,
        busy: false,
        control: false,
        device: None,
        unplug: None,
        preserves_device: false,
        memory_mib: 0,
        left_out: None,
        only_named: None,
    }
}

impl Workload {
    /// Adds required capabilities.
    pub(super) const fn requires(self, requires: &'static [Requirement]) -> Self {
        Self { requires, ..self }
    }

    /// Excludes the workload from `luqual qualify`, since no released kernel passes it.
    pub(super) const fn kept_by_none(self) -> Self {
        self.left_out("no released kernel passes it")
    }

    /// Excludes the workload from `luqual qualify`, for that reason.
    pub(super) const fn left_out(self, why: &'static str) -> Self {
        Self { left_out: Some(why), ..self }
    }

    /// Declares the error messages that the workload provokes.
    pub(super) const fn provokes(self, messages: &'static [&'static str]) -> Self {
        Self { provokes: messages, ..self }
    }

    /// Adds a device, which is the second part of the name.
    pub(super) const fn owns(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// Sets the machine profile.
    pub(super) const fn on(self, profile: &'static str) -> Self {
        Self { profile, ..self }
    }

    /// Gives the workload a boot of its own.
    pub(super) const fn alone(self) -> Self {
        Self { shares_boot: false, ..self }
    }

    /// Sets the memory that its machine must have.
    pub(super) const fn with_memory(self, memory_mib: u64) -> Self {
        Self { memory_mib, ..self }
    }

    /// Declares that the workload takes minutes.
    pub(super) const fn long(self) -> Self {
        self.only_named("it takes minutes")
    }

    /// Leaves the workload to those who name it in full, for that reason.
    pub(super) const fn only_named(self, why: &'static str) -> Self {
        Self { only_named: Some(why), ..self }
    }

    /// Sets the update.
    pub(super) const fn by(self, update: Update) -> Self {
        Self { update, ..self }
    }

    /// Whether both workloads can share a boot, if each may share one: their updates are compatible, they do not own
    /// the same device, and no device is unplugged that the other one needs.
    pub fn goes_with(&self, other: &Self) -> bool {
        let one_device = self.device.is_some() && self.device == other.device;
        self.update.goes_with(&other.update) && !one_device && self.unplug.is_some() == other.unplug.is_some()
    }

    /// The part of the name before the first dot.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }
}

/// A kernel capability that a workload requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The Live Update Orchestrator.
    Luo,
    /// An iommufd.
    Iommu,
    /// Virtual machines under KVM.
    Kvm,
    /// PCI devices for userspace drivers.
    Vfio,
    /// Memory control groups, in the target.
    MemoryCgroups,
}

impl Requirement {
    /// Whether it is the target that must meet it. Otherwise the source must, and a target that does not is what is tested.
    pub const fn is_of_the_target(self) -> bool {
        matches!(self, Self::MemoryCgroups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_go_together_where_no_option_says_two_things() {
        let by = |source_options, target_options| Update { source_options, target_options, ..Update::PLAIN };
        let odd = by("kho_scratch=41M", "");
        assert!(odd.goes_with(&by("maxcpus=1", "")) && odd.goes_with(&by("", "kho_scratch=1M")) && odd.goes_with(&odd));
        assert!(!odd.goes_with(&by("a kho_scratch=150%", "")));
        assert!(!odd.goes_with(&Update::PLAIN) && Update::PLAIN.goes_with(&Update::PLAIN));
        assert!(!odd.goes_with(&Update { hops: 2, ..odd }));
    }
}
