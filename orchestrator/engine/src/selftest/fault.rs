//! A fault that luqual has to find.

use super::expected::Expected;

/// A fault that luqual has to find.
#[derive(Debug)]
pub struct SelftestFault {
    /// `kind.case`.
    pub name: &'static str,
    /// The fault, in one line.
    pub what: &'static str,
    /// The workload that it is injected into.
    pub workload: &'static str,
    /// The machine; `None` for the one that the workload declares.
    pub profile: Option<&'static str>,
    /// How it is injected.
    pub injection: Injection,
    /// What has to come of it.
    pub expected: Expected,
}

/// How a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Into a real boot, as `luqual run --inject` does.
    Boot(&'static str),
    /// Two runs, of real boots, begin at once in one folder. One of them has to survive.
    TwoRunsAtOnce,
    /// A run that may use 64 MiB of memory. Nothing boots.
    NoRoom,
}

impl Injection {
    /// How it is injected, in words.
    pub fn in_words(self) -> String {
        match self {
            Self::Boot(inject) => format!("a real boot, --inject '{inject}'"),
            Self::TwoRunsAtOnce => "two runs, one real boot".to_owned(),
            Self::NoRoom => "a run that may use 64 MiB, no boot".to_owned(),
        }
    }
}

impl SelftestFault {
    /// What kind of fault it is: the word before the dot.
    pub fn kind(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(kind, _)| kind)
    }

    /// Whether it is a control, which nobody may find.
    pub fn is_control(&self) -> bool {
        self.expected.is_nothing()
    }

    pub(super) const fn on(self, profile: &'static str) -> Self {
        Self { profile: Some(profile), ..self }
    }

    pub(super) const fn by(self, injection: Injection) -> Self {
        Self { injection, ..self }
    }
}

/// A fault in the workload `memfd.basic`.
pub(super) const fn basic(
    name: &'static str,
    what: &'static str,
    inject: &'static str,
    expected: Expected,
) -> SelftestFault {
    of("memfd.basic", name, what, inject, expected)
}

/// A fault in a workload.
pub(super) const fn of(
    workload: &'static str,
    name: &'static str,
    what: &'static str,
    inject: &'static str,
    expected: Expected,
) -> SelftestFault {
    SelftestFault { name, what, workload, profile: None, injection: Injection::Boot(inject), expected }
}
