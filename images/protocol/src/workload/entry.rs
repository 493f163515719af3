//! What an entry of the tables is, and how one is written.

use super::device::Device;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `family.case`.
    pub name: &'static str,
    /// What it asserts, in one sentence.
    pub asserts: &'static str,
    /// From which kernel source or document the rule comes.
    pub rule: &'static str,
    /// The fault that it is there for: no other workload finds it.
    pub finds: &'static str,
    /// The machine profile on which it runs unless the user names another.
    pub profile: &'static str,
    /// What the source kernel must be able to do.
    pub requires: &'static [Requirement],
    /// Whether it can run beside others in one boot whose updates go with its own ([`Update::goes_with`]).
    pub shares_boot: bool,
    /// Whether a kernel that does not keep the rule warns, and so taints what runs beside it: where that is expected, it runs
    /// alone.
    pub warns: bool,
    /// How the update is made.
    pub update: Update,
    /// The device that it owns, if it owns one.
    pub device: Option<Device>,
    /// Whether its device is in the middle of DMA when the update comes.
    pub busy: bool,
    /// Whether it is a control: what it does has to be seen, and nothing is asked of the kernel.
    pub control: bool,
    /// Whether its device is unplugged, and when.
    pub unplug: Option<Unplug>,
    /// Whether it is asked of an update unless the user says otherwise: not what no released kernel keeps, and not what is told
    /// to take nothing over.
    pub qualifies: bool,
    /// Whether it takes minutes: it is asked only by its own name, not by a glob that takes it among others.
    pub long: bool,
}

/// When a device is unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplug {
    /// In the source, once all is preserved.
    WhilePreserved,
    /// In the target, once all was retrieved.
    Afterwards,
}

/// How an update is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Update {
    /// What the source's command line has besides.
    pub source_options: &'static str,
    /// What the target's command line has besides.
    pub target_options: &'static str,
    /// When the target is loaded.
    pub load: LoadTime,
    /// How many kexecs it takes: into the target, back into the source, and so on.
    pub hops: u32,
}

/// When kexec_file_load(2) is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadTime {
    /// After all is preserved.
    AfterPreserve,
    /// Before anything is.
    BeforePreserve,
}

impl Update {
    /// One kexec of a kernel that is loaded last, with nothing added to either command line.
    pub const PLAIN: Self = Self { source_options: "", target_options: "", load: LoadTime::AfterPreserve, hops: 1 };

    /// Whether one update can be made as both say: at the same time, as often, and no command line would have an option
    /// twice. What is made plainly is made beside nothing else.
    pub fn goes_with(&self, other: &Self) -> bool {
        let alike = (self.load, self.hops) == (other.load, other.hops);
        let plain = (*self == Self::PLAIN) == (*other == Self::PLAIN);
        let sides = [(self.source_options, other.source_options), (self.target_options, other.target_options)];
        alike && plain && sides.into_iter().all(|(one, other)| one == other || !names_one_of(one, other))
    }
}

/// Whether an option of one command line is named in the other.
fn names_one_of(one: &str, other: &str) -> bool {
    let name = |word: &'_ str| word.split('=').next().map(str::to_owned);
    one.split_whitespace().any(|word| other.split_whitespace().any(|it| name(it) == name(word)))
}

/// An entry that runs on the default machine, beside others, by a plain update. The tables have more than a hundred of it.
pub(super) const fn w(name: &'static str, asserts: &'static str, rule: &'static str, finds: &'static str) -> Workload {
    Workload {
        name,
        asserts,
        rule,
        finds,
        profile: "q35-intel",
        requires: &[Requirement::Luo],
        shares_boot: true,
        warns: false,
        update: Update::PLAIN,
        busy: false,
        control: false,
        device: None,
        unplug: None,
        qualifies: true,
        long: false,
    }
}

impl Workload {
    /// The same where the source can do more.
    pub(super) const fn requires(self, requires: &'static [Requirement]) -> Self {
        Self { requires, ..self }
    }

    /// The same, of which no released kernel can be said to keep it.
    pub(super) const fn kept_by_none(self) -> Self {
        Self { qualifies: false, ..self }
    }

    /// The same, where a kernel that does not keep the rule warns.
    pub(super) const fn warns_where_not_kept(self) -> Self {
        Self { warns: true, ..self }
    }

    /// The same, which owns a device. The device is the second part of the name.
    pub(super) const fn owns(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// The same on another machine.
    pub(super) const fn on(self, profile: &'static str) -> Self {
        Self { profile, ..self }
    }

    /// The same with a boot of its own.
    pub(super) const fn alone(self) -> Self {
        Self { shares_boot: false, ..self }
    }

    /// The same, which takes minutes.
    pub(super) const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// The same with an update that is made so.
    pub(super) const fn by(self, update: Update) -> Self {
        Self { update, ..self }
    }

    /// Whether both can run in one boot, if each may share one: their updates are made alike, neither wants the other's device,
    /// and none is unplugged beside one who would miss it.
    pub fn goes_with(&self, other: &Self) -> bool {
        let one_device = self.device.is_some() && self.device == other.device;
        self.update.goes_with(&other.update) && !one_device && self.unplug.is_some() == other.unplug.is_some()
    }

    /// The part of the name before the first dot.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }
}

/// A kernel ability that a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The Live Update Orchestrator.
    Luo,
    /// An iommufd.
    Iommu,
    /// Virtual machines.
    Kvm,
    /// PCI devices for userspace.
    Vfio,
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
