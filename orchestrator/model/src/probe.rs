use crate::Level;
use crate::arch::ARCH;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// What was checked, such as `memfd 64m content`. Expectations match probes by this name.
    pub name: String,
    /// The value that the rule demands.
    pub expected: String,
    /// The value that was found.
    pub observed: String,
    /// Whether the probe passed: the observed value is the expected one.
    #[serde(rename = "held")]
    pub passed: bool,
}

/// What a probe is about. The verdict and the reports treat the kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// Whether the target gave out something that was preserved. A target that gave out anything has not refused the
    /// handover as a whole.
    Retrieve,
    /// Whether what a control does on purpose was seen. It says nothing about a kernel.
    Control,
    /// Anything else: a content, a property, an answer.
    Check,
}

/// Who observed the value of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observer {
    /// The workload, in the guest.
    Guest,
    /// luqual, from outside: QEMU's traces, the guest's memory, backing files.
    Host,
}

// A record has the name alone. This is the only place that looks into it.
const RETRIEVE: &str = " retrieve";
const CONTROL: &str = "control ";
const HOST: &str = "host: ";
const CLOCKS: [&str; 2] = ["clock", ARCH.cycle_counter];
const OVER_THE_UPDATE: &str = " over the update";

impl Probe {
    /// A probe that passes if both texts are equal.
    pub fn compare(name: impl Into<String>, expected: impl ToString, observed: impl ToString) -> Self {
        let (expected, observed) = (expected.to_string(), observed.to_string());
        let passed = expected == observed;
        Self { name: name.into(), expected, observed, passed }
    }

    /// The kind, which the name implies.
    pub fn kind(&self) -> ProbeKind {
        if self.name.ends_with(RETRIEVE) {
            ProbeKind::Retrieve
        } else if self.name.starts_with(CONTROL) {
            ProbeKind::Control
        } else {
            ProbeKind::Check
        }
    }

    /// Whether it says that something was lost. A control that was not seen says nothing of a kernel.
    pub fn shows_a_loss(&self) -> bool {
        !self.passed && self.kind() != ProbeKind::Control
    }

    /// Whether it compares clocks of a virtual machine with those of the kernel that runs it, or of the host.
    pub fn compares_clocks(&self) -> bool {
        let name = self.name.strip_suffix(OVER_THE_UPDATE);
        name.is_some_and(|name| CLOCKS.iter().any(|clock| name.ends_with(clock)))
    }

    /// The level of a device that the probe belongs to; `None` if it is not about a device.
    pub fn level(&self) -> Option<Level> {
        Level::of(&self.name)
    }

    /// Who observed the value: the first word after the subject is `host:` where it was not the guest.
    pub fn observer(&self) -> Observer {
        match self.name.split_once(' ') {
            Some((_, rest)) if rest.starts_with(HOST) => Observer::Host,
            _ => Observer::Guest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_implies_kind_level_and_observer() {
        use Observer::{Guest, Host};
        use ProbeKind::{Check, Control, Retrieve};
        for (name, kind, level, observer) in [
            ("memfd 64m retrieve", Retrieve, None, Guest),
            ("memfd 64m, by the broker, retrieve", Retrieve, None, Guest),
            ("3 sessions retrieve", Retrieve, None, Guest),
            ("D4 descriptor retrieve", Retrieve, Some(Level::D4), Guest),
            ("memfd 64m content", Check, None, Guest),
            ("retrieve", Check, None, Guest),
            ("memfd 64m retrieve, twice", Check, None, Guest),
            ("D2 host: IOMMU faults", Check, Some(Level::D2), Host),
            ("D1 open", Check, Some(Level::D1), Guest),
            ("machine host: clock over the update", Check, None, Host),
            ("machine clock over the update", Check, None, Guest),
            ("control host: DMA in the blackout", Control, None, Host),
            ("control session retrieve", Retrieve, None, Guest),
            ("control", Check, None, Guest),
            ("", Check, None, Guest),
        ] {
            let (expected, observed) = (String::new(), String::new());
            let probe = Probe { name: name.to_owned(), expected, observed, passed: true };
            assert_eq!((probe.kind(), probe.level(), probe.observer()), (kind, level, observer), "{name}");
            assert!(!probe.shows_a_loss(), "{name}");
            assert_eq!(Probe { passed: false, ..probe }.shows_a_loss(), kind != Control, "{name}");
        }
    }
}
