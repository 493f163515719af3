use std::fmt;

/// How much of a device an update kept, from its being there at all to its running on. A probe's name begins with the level
/// that it belongs to, such as `D4 descriptor preserve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The device is there.
    D0,
    /// It can be used anew.
    D1,
    /// It did nothing to anybody's memory, and none of its accesses faulted.
    D2,
    /// What it was told before the update it still knows.
    D3,
    /// Its descriptor was handed over and given out again.
    D4,
    /// It ran on all the while.
    D5,
}

impl Level {
    /// Every level, in order.
    pub const ALL: [Self; 6] = [Self::D0, Self::D1, Self::D2, Self::D3, Self::D4, Self::D5];

    /// The level that a probe belongs to, if its name says so.
    pub fn of(probe: &str) -> Option<Self> {
        let (first, _) = probe.split_once(' ')?;
        Self::ALL.into_iter().find(|level| level.name() == first)
    }

    /// As it stands in probes' names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::D0 => "D0",
            Self::D1 => "D1",
            Self::D2 => "D2",
            Self::D3 => "D3",
            Self::D4 => "D4",
            Self::D5 => "D5",
        }
    }

    /// What it means, in a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::D0 => "present",
            Self::D1 => "usable",
            Self::D2 => "quiet",
            Self::D3 => "state",
            Self::D4 => "fd",
            Self::D5 => "running",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_level() {
        for (name, level) in [
            ("D4 descriptor preserve", Some(Level::D4)),
            ("D2 host: IOMMU faults", Some(Level::D2)),
            ("D6 x", None),
            ("D1", None),
            ("D10 x", None),
            ("memfd D0 content", None),
            ("", None),
        ] {
            assert_eq!(Level::of(name), level, "{name}");
        }
    }
}
